from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest

from handler_base.messaging import wire
from handler_messages import ChatRequest, ChatResponse, ChatStreamChunk, ErrorResponse, subjects
from handler_testkit.services import Client
from handlers_cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from google.protobuf.message import Message

    from handler_testkit.nats import NatsServer


class Recorded(Terminal):
    """A terminal that is two strings."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), io.StringIO(), {})

    @property
    def said(self) -> str:
        return self.out.getvalue()

    @property
    def noted(self) -> str:
        return self.err.getvalue()


class Scripted:
    """Stands where chat-handler stands and does what a test tells it, chunk by chunk."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Client(url)
        self.requests: list[ChatRequest] = []
        self.headers: list[dict[str, str]] = []
        self.came = asyncio.Event()

    async def serve(
        self,
        script: Callable[[Scripted, ChatRequest], Awaitable[Message | None]],
        subject: str = "ai.chat.request",
    ) -> None:
        tasks = []

        async def run(reply: str, request: ChatRequest) -> None:
            answer = await script(self, request)
            if answer is not None:
                await self.answer(
                    reply or subjects.CHAT_RESPONSE.build(request_id=request.request_id), answer
                )

        async def serve(message) -> None:
            request = wire.decode(ChatRequest, message.data)
            self.requests.append(request)
            self.headers.append(dict(message.headers or {}))
            self.came.set()
            tasks.append(
                asyncio.ensure_future(run(message.reply if subject == "ai.chat.request" else "", request))
            )

        await self.client.connection.subscribe(subject, serve)
        await self.client.connection.flush()

    async def answer(self, subject: str, answer: Message) -> None:
        headers = {"Error-Type": answer.type} if isinstance(answer, ErrorResponse) else None
        await self.client.connection.publish(subject, answer, headers=headers)

    async def chunk(self, request: ChatRequest, index: int, text: str, *, attempt: int = 1) -> None:
        await self._publish(
            ChatStreamChunk(
                request_id=request.request_id, attempt=attempt, index=index, type="chunk", content=text
            )
        )

    async def last(self, request: ChatRequest, index: int, kind: str = "done", *, attempt: int = 1) -> None:
        await self._publish(
            ChatStreamChunk(request_id=request.request_id, attempt=attempt, index=index, type=kind, done=True)
        )

    async def _publish(self, chunk: ChatStreamChunk) -> None:
        subject = subjects.CHAT_RESPONSE_STREAM.build(request_id=chunk.request_id)
        await self.client.connection.publish(subject, chunk)


def response(request: ChatRequest, text: str, **fields: object) -> ChatResponse:
    return ChatResponse(request_id=request.request_id, response=text, finish_reason="stop", **fields)


@pytest.fixture
def terminal() -> Recorded:
    return Recorded()


@pytest.fixture
async def handler(nats: NatsServer) -> AsyncIterator[Scripted]:
    scripted = Scripted(nats.url)
    async with scripted.client:
        yield scripted


@pytest.fixture
def answer_with() -> Callable[..., ChatResponse]:
    return response
