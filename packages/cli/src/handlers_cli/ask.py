"""`handlers ask`: a question out, the answer to the terminal as it is made, then its sources and timings."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from handler_base.errors import HandlerError, MessagingError, NotFound
from handler_base.messaging import wire
from handler_base.messaging.connection import decode_answer
from handler_base.messaging.context import TIMEOUT_HEADER
from handler_messages import (
    CancelRequest,
    ChatRequest,
    ChatResponse,
    ChatStreamChunk,
    ErrorResponse,
    subjects,
)
from handlers_cli.connecting import Unreachable, connected, is_running
from handlers_cli.show import JsonLines, Shower, Text, Whole
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNREACHABLE, EXIT_USAGE, Terminal

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage

SERVICE = "chat-handler"
_LAST_CHUNK_SECONDS = 1.0
"""Longest wait for the last chunk once the response is here; they travel on two subjects."""
_CANCEL_SECONDS = 3.0
"""Longest wait for the far end to say that it stopped."""
_LOOK_SECONDS = 1.0
"""How often we look whether the connection still works."""
_MARGIN_SECONDS = 2.0
"""How much longer than the service we wait, so that its own word about a deadline arrives."""


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
    try:
        async with connected(question.nats_url, name="handlers-ask") as connection:
            return await _Exchange(connection, question, shower, terminal).run(interrupt)
    except Unreachable as error:
        terminal.error(error.message)
        return EXIT_UNREACHABLE
    except subjects.SubjectError as error:
        terminal.error(f"--user: {error}")
        return EXIT_USAGE
    except HandlerError as error:
        shower.stop()
        terminal.error(error.message, error.type)
        return EXIT_FAILED


class _Exchange:
    """One question and what comes back for it."""

    def __init__(
        self, connection: Connection, question: Question, shower: Shower, terminal: Terminal
    ) -> None:
        self._connection = connection
        self._question = question
        self._request = question.request()
        self._shower = shower
        self._terminal = terminal
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
        answer = await self._until(asking, interrupt)
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

    async def _until(
        self, asking: Coroutine[None, None, ChatResponse | ErrorResponse], interrupt: asyncio.Event
    ) -> ChatResponse | ErrorResponse | None:
        """Await the answer; when `interrupt` comes first, cancel it at the far end and return None."""
        answering = asyncio.ensure_future(asking)
        interrupted = asyncio.ensure_future(interrupt.wait())
        try:
            warned = False
            while not (answering.done() or interrupted.done()):
                await asyncio.wait(
                    (answering, interrupted), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not self._connection.connected and not warned:
                    warned = True
                    self._shower.stop()
                    self._terminal.warning("the connection to NATS is lost; trying to have it again")
            if answering.done():
                return answering.result()
            await self._cancel(answering)
            return None
        finally:
            for task in (answering, interrupted):
                task.cancel()
            await asyncio.gather(answering, interrupted, return_exceptions=True)

    async def _direct(self) -> ChatResponse | ErrorResponse:
        """Request/reply: whoever is free answers."""
        seconds = self._question.timeout
        try:
            reply = await self._connection.request_bytes(
                subjects.CHAT_REQUEST.template,
                wire.encode(self._request),
                timeout=seconds + _MARGIN_SECONDS,
                headers={TIMEOUT_HEADER: str(int(seconds * 1000))},
            )
        except NotFound:
            raise Unreachable(
                f"nobody listens on {subjects.CHAT_REQUEST.template} at {self._connection.status().server}: "
                f"{SERVICE} does not run there. Start it, or the whole local stack with `handlers up`"
            ) from None
        return decode_answer(reply, ChatResponse)

    async def _durable(self) -> ChatResponse | ErrorResponse:
        """Through the stream: the message waits there until it is answered."""
        subject = subjects.CHAT_USER_MESSAGE.build(user_id=self._question.user)
        try:
            await self._connection.store(
                subject, wire.encode(self._request), msg_id=self._request.request_id, tries=1
            )
        except MessagingError as error:
            raise Unreachable(
                f"{error.message}: there is no stream for {subject}; {SERVICE} makes it when it starts"
            ) from error
        if not await is_running(self._connection, SERVICE):
            self._terminal.warning(f"no {SERVICE} runs now; the question is stored and waits for one")
        try:
            async with asyncio.timeout(self._question.timeout + _MARGIN_SECONDS):
                return await self._published
        except TimeoutError:
            seconds = self._question.timeout
            raise MessagingError(
                f"no answer within {seconds:g} s; the question stays in its stream"
            ) from None

    async def _cancel(self, answering: asyncio.Future[ChatResponse | ErrorResponse]) -> None:
        request_id = self._request.request_id
        await self._connection.publish(
            subjects.CHAT_CANCEL.build(request_id=request_id),
            CancelRequest(request_id=request_id, reason="interrupted at the terminal"),
        )
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait((answering, ended), timeout=_CANCEL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        stopped = ended.done() or answering.done()
        ended.cancel()
        self._shower.stop()
        self._terminal.note(
            "cancelled" if stopped else f"cancelled, but {SERVICE} did not say that it stopped"
        )

    async def _chunk(self, message: RawMessage) -> None:
        chunk = wire.decode(ChatStreamChunk, message.data, wire.content_type(message.headers))
        self._shower.chunk(chunk)
        if chunk.done:
            self._ended.set()

    async def _response(self, message: RawMessage) -> None:
        if not self._published.done():
            self._published.set_result(decode_answer(message, ChatResponse))
