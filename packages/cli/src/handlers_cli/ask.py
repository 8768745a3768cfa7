"""`handlers ask`: a question out, the answer to the terminal as it is made, then its sources and timings."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from handler_base.messaging import wire
from handler_base.messaging.connection import decode_answer
from handler_messages import (
    CancelRequest,
    ChatRequest,
    ChatResponse,
    ChatStreamChunk,
    ErrorResponse,
    subjects,
)
from handlers_cli.exchange import Exchange, over_nats
from handlers_cli.show import JsonLines, Shower, Text, Whole
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, Terminal

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage

SERVICE = "chat-handler"
_LAST_CHUNK_SECONDS = 1.0
"""Longest wait for the last chunk once the response is here; they travel on two subjects."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask, and how.

    Attributes:
        text: The question.
        nats_url: The server, "" for the settings' one.
        user: Ask as this user, on the durable subject; "" for request/reply.
        session: Conversation to go on with.
        system: System prompt in place of the service's.
        collection: Knowledge base to search.
        top_k: Passages for the prompt, 0 for the service's default.
        rag: False leaves the knowledge base out.
        rerank: False leaves the reranker out.
        language: BCP 47 tag of the answer's language.
        timeout: Seconds for the whole answer.
        form: Text for people, one JSON object, or one JSON object a line.
    """

    text: str
    nats_url: str = ""
    user: str = ""
    session: str = ""
    system: str = ""
    collection: str = ""
    top_k: int = 0
    rag: bool = True
    rerank: bool = True
    language: str = ""
    timeout: float = 120.0
    form: Literal["text", "json", "jsonl"] = "text"

    def request(self) -> ChatRequest:
        """Return the message to send, under a new id."""
        request = ChatRequest(
            request_id=uuid.uuid4().hex,
            user_id=self.user,
            session_id=self.session,
            query=self.text,
            system_prompt=self.system,
            collection=self.collection,
            top_k=self.top_k,
            language=self.language,
            enable_streaming=True,
        )
        if not self.rag:
            request.enable_rag = False
        if not self.rerank:
            request.enable_reranker = False
        return request


async def ask(question: Question, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Ask, show the answer, return the exit code.

    Args:
        question: What to ask.
        terminal: Where to show it.
        interrupt: Set by the caller when the person wants to stop: the work at the far end is cancelled.
    """
    shower = {"text": Text, "json": Whole, "jsonl": JsonLines}[question.form](terminal)

    async def run(connection: Connection) -> int:
        if question.user:
            subjects.check_token(question.user, "--user")
        return await _Asking(connection, question, shower, terminal).run(interrupt)

    return await over_nats(question.nats_url, "handlers-ask", terminal, run, stop=shower.stop)


class _Asking:
    """One question and what comes back for it."""

    def __init__(
        self, connection: Connection, question: Question, shower: Shower, terminal: Terminal
    ) -> None:
        self._connection = connection
        self._question = question
        self._request = question.request()
        self._shower = shower
        self._exchange = Exchange(connection, terminal, SERVICE, "question", stop=shower.stop)
        self._ended = asyncio.Event()
        self._published: asyncio.Future[ChatResponse | ErrorResponse] = (
            asyncio.get_running_loop().create_future()
        )

    async def run(self, interrupt: asyncio.Event) -> int:
        request_id = self._request.request_id
        stream = subjects.CHAT_RESPONSE_STREAM.build(request_id=request_id)
        await self._connection.subscribe(stream, self._chunk)
        if self._question.user:
            await self._connection.subscribe(
                subjects.CHAT_RESPONSE.build(request_id=request_id), self._response
            )
        await self._connection.flush()
        self._shower.begin(time.monotonic())
        asking = self._durable() if self._question.user else self._direct()
        answer = await self._exchange.until(asking, interrupt, self._cancel)
        if answer is None:
            return EXIT_INTERRUPTED
        if isinstance(answer, ErrorResponse):
            self._shower.failed(answer)
            return EXIT_FAILED
        if self._shower.streaming:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_CHUNK_SECONDS):
                    await self._ended.wait()
        self._shower.answered(answer)
        return 0

    async def _direct(self) -> ChatResponse | ErrorResponse:
        return await self._exchange.request(
            subjects.CHAT_REQUEST.template, wire.encode(self._request), ChatResponse, self._question.timeout
        )

    async def _durable(self) -> ChatResponse | ErrorResponse:
        subject = subjects.CHAT_USER_MESSAGE.build(user_id=self._question.user)
        await self._exchange.store(subject, self._request, self._request.request_id)
        return await self._exchange.within(self._published, self._question.timeout)

    async def _cancel(self, answering: asyncio.Future[ChatResponse | ErrorResponse]) -> None:
        request_id = self._request.request_id
        subject = subjects.CHAT_CANCEL.build(request_id=request_id)
        await self._exchange.cancel(subject, CancelRequest(request_id=request_id), answering, self._ended)

    async def _chunk(self, message: RawMessage) -> None:
        chunk = wire.decode(ChatStreamChunk, message.data, wire.content_type(message.headers))
        self._shower.chunk(chunk)
        if chunk.done:
            self._ended.set()

    async def _response(self, message: RawMessage) -> None:
        if not self._published.done():
            self._published.set_result(decode_answer(message, ChatResponse))
