"""The answer as it is made: chunks with an index on `ai.chat.response.stream.{request_id}`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

from handler_base.errors import Cancelled, ShuttingDown
from handler_base.messaging import wire
from handler_messages import ChatStreamChunk, subjects

if TYPE_CHECKING:
    from types import TracebackType

    from handler_base.messaging.context import Context


class ChunkStream:
    """Publishes pieces, and at the end of the `with` block the last chunk that says how it ended.

    No last chunk is sent when the request is delivered again: the next attempt starts at index 0.
    """

    def __init__(self, context: Context, *, enabled: bool) -> None:
        self._context = context
        self._enabled = enabled
        self._subject = subjects.CHAT_RESPONSE_STREAM.build(request_id=context.request_id)
        self._index = 0

    async def send(self, content: str) -> None:
        """Publish a piece of the answer."""
        if self._enabled:
            await self._publish(
                ChatStreamChunk(
                    request_id=self._context.request_id,
                    attempt=self._context.attempt,
                    index=self._index,
                    type="chunk",
                    content=content,
                    timestamp=time.time(),
                )
            )

    async def _publish(self, chunk: ChatStreamChunk) -> None:
        await self._context.publish(self._subject, chunk)
        self._index += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._enabled:
            return
        context = self._context
        if isinstance(error, asyncio.CancelledError):
            error = context.stop_reason
            if error is None:
                return
        if error is not None and (
            context.will_retry(error) or (context.durable and isinstance(error, ShuttingDown))
        ):
            return
        last = ChatStreamChunk(
            request_id=context.request_id,
            attempt=context.attempt,
            index=self._index,
            type="done" if error is None else "cancelled" if isinstance(error, Cancelled) else "error",
            done=True,
            timestamp=time.time(),
        )
        if error is not None:
            last.error.CopyFrom(wire.error_response(error, context.request_id))
        await self._publish(last)
