"""The statuses of one run from the first on, as their stream has them: in order, each once, over a restart of NATS.

What is heard is a hint that there is more to read. So it takes no consumer, which a gateway's user may not make: who may make
one on that stream could take the bridge's own away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from handler_base.errors import MessagingError
from handler_base.messaging import wire
from handler_messages import PipelineStatus, subjects
from handlers_cli.exchange import end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage, Subscription

FRAME_SECONDS = 0.1
"""How often what is shown of a run is drawn again."""

LOOK_SECONDS = 3.0
"""How often the stream is asked without a hint: none comes of what is told while NATS is away."""

PATIENCE_SECONDS = 6.0
"""How long a server that is there may not answer: one that comes back greets before its streams are there."""

_AGAIN_SECONDS = 0.3


class Statuses:
    """The statuses of a run; to enter with `async with`.

    Args:
        connection: Where they are.
        request_id: Whose.
    """

    def __init__(self, connection: Connection, request_id: str) -> None:
        self._connection = connection
        self._subject = subjects.PIPELINE_STATUS.build(request_id=request_id)
        self._subscription: Subscription | None = None
        self._hint = asyncio.Event()
        self._read = 0
        self._newest = 0

    async def __aenter__(self) -> Self:
        """Begin to listen.

        Raises:
            MessagingError: If the connection is closed.
        """
        self._subscription = await self._connection.subscribe(self._subject, self._heard)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._subscription is not None:
            await self._subscription.close()

    async def past(self) -> list[PipelineStatus]:
        """Return those that there are now.

        Raises:
            HandlerError: If they cannot be read.
        """
        found: list[PipelineStatus] = []
        while (status := await self._stored()) is not None:
            found.append(status)
        return found

    async def next(self, timeout: float | None = None) -> PipelineStatus:
        """Return the next one.

        Args:
            timeout: Seconds to wait at most; None for ever.

        Raises:
            TimeoutError: If none comes in time.
            MessagingError: If the server is there, and does not let us read.
            InvalidRequest: If what comes is no status.
        """
        async with asyncio.timeout(timeout):
            while True:
                self._hint.clear()
                if (status := await self._stored()) is not None:
                    return status
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._hint.wait()

    async def _heard(self, _: RawMessage) -> None:
        self._hint.set()

    async def _stored(self) -> PipelineStatus | None:
        """Return the first that was not read yet; None if there is none now. A status may be stored twice."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                found = await self._connection.next_stored(
                    subjects.PIPELINE_STATUS.stream, self._subject, self._read + 1
                )
            except MessagingError:
                if not self._connection.connected:
                    give_up = loop.time() + PATIENCE_SECONDS
                elif loop.time() >= give_up:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if found is None:
                return None
            self._read = found.sequence
            status = wire.decode(PipelineStatus, found.data, wire.content_type(found.headers))
            if status.sequence > self._newest:
                self._newest = status.sequence
                return status


async def has_begun(connection: Connection, request_id: str) -> bool:
    """Whether something was told of a request already; nothing was where there is no stream."""
    subject = subjects.PIPELINE_STATUS.build(request_id=request_id)
    try:
        found = await connection.last_stored(subjects.PIPELINE_STATUS.stream, subject)
    except MessagingError:
        return False
    return found is not None


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
