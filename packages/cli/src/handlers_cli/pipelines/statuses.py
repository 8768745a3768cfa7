"""The statuses of one run from the first on, as their stream has them: in order, each once, over a restart of NATS."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from handler_base.errors import MessagingError
from handler_base.messaging import wire
from handler_base.messaging.replay import Replay
from handler_messages import PipelineStatus, subjects
from handlers_cli.exchange import end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from handler_base.messaging.connection import Connection
    from handler_base.messaging.replay import Replayed

ENDS = frozenset({"succeeded", "failed", "error"})
"""Statuses after which none follows."""

FRAME_SECONDS = 0.1
"""How often what is shown of a run is drawn again."""

_AGAIN_SECONDS = 0.3
_TRIES = 20


class Statuses:
    """The statuses of a run; to enter with `async with`.

    Args:
        connection: Where they are.
        request_id: Whose.
    """

    def __init__(self, connection: Connection, request_id: str) -> None:
        self._connection = connection
        subject = subjects.PIPELINE_STATUS.build(request_id=request_id)
        self._replay = Replay(connection, subjects.PIPELINE_STATUS.stream, subject)
        self._newest = 0

    async def __aenter__(self) -> Self:
        """Begin to read, as soon as there is a server to read from.

        Raises:
            MessagingError: If there is one, and it does not let us.
        """
        tries = 0
        while True:
            try:
                await self._replay.__aenter__()
            except MessagingError:
                # A server that comes back greets before its streams are there.
                tries += self._connection.connected
                if tries >= _TRIES:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._replay.__aexit__(kind, error, trace)

    async def past(self) -> list[PipelineStatus]:
        """Return those that there are now.

        Raises:
            HandlerError: If they cannot be read.
        """
        each = [self._new(message) for message in await self._replay.history()]
        return [status for status in each if status is not None]

    async def next(self, timeout: float | None = None) -> PipelineStatus:
        """Return the next one.

        Args:
            timeout: Seconds to wait at most; None for ever.

        Raises:
            TimeoutError: If none comes in time.
            InvalidRequest: If what comes is no status.
        """
        async with asyncio.timeout(timeout):
            while (status := self._new(await self._replay.next())) is None:
                pass
        return status

    def _new(self, message: Replayed) -> PipelineStatus | None:
        """Return what was not seen before: a status may be stored twice."""
        raw = message.raw
        status = wire.decode(PipelineStatus, raw.data, wire.content_type(raw.headers))
        if status.sequence <= self._newest:
            return None
        self._newest = status.sequence
        return status


@contextlib.asynccontextmanager
async def drawing(tick: Callable[[], None]) -> AsyncGenerator[None]:
    """Call `tick` again and again for the length of an `async with` block."""

    async def draw() -> None:
        while True:
            tick()
            await asyncio.sleep(FRAME_SECONDS)

    task = asyncio.ensure_future(draw())
    try:
        yield
    finally:
        await end(task)
