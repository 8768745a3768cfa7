"""Connections at rest and connections in use.

A `Lane` bounds the requests under way at one endpoint, so that a slow endpoint cannot take what the others need;
connections at rest are shared by address, for several endpoints often live behind one (Ray Serve's routes do).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from handler_base.errors import ShuttingDown
from handler_base.http._failures import NoSlot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.http._connection import Connection
    from handler_base.http._origin import Origin


RESTED = 0.5
"""Seconds of rest after which a connection is looked at before it is used: an end that came while this process
was busy would else be met by the next request, which may not be repeatable."""


class Connections:
    """Every connection of a process, by address.

    Args:
        dial: Opens a new one.
        idle_timeout: Seconds a connection is kept unused.
        max_idle: How many are kept unused per address.
    """

    def __init__(
        self, dial: Callable[[Origin], Awaitable[Connection]], *, idle_timeout: float, max_idle: int
    ) -> None:
        self._dial = dial
        self._idle_timeout = idle_timeout
        self._max_idle = max_idle
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Origin, list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def dial(self, origin: Origin) -> Connection:
        """Return a connection that is not kept: the caller closes it.

        Raises:
            NotConnected: If it cannot be established.
            ShuttingDown: If the pool is closed.
        """
        if self._closed:
            raise ShuttingDown("the HTTP pool is closed")
        connection = await self._dial(origin)
        if self._closed:
            connection.abort()
            raise ShuttingDown("the HTTP pool is closed")
        return connection

    async def take_new(self, origin: Origin) -> Connection:
        """Return a new connection, to be given back.

        Raises:
            NotConnected: If it cannot be established.
            ShuttingDown: If the pool is closed.
        """
        connection = await self.dial(origin)
        self._busy.add(connection)
        return connection

    def take_idle(self, origin: Origin) -> Connection | None:
        """Return the connection that was used last if there is one that still lives."""
        idle = self._idle.get(origin)
        now = self._loop.time()
        while idle:
            connection = idle.pop()
            age = now - connection.idle_since
            if age > self._idle_timeout or (connection.hung_up() if age > RESTED else not connection.open):
                connection.abort()
                continue
            self._busy.add(connection)
            return connection
        return None

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Take a connection after its exchange; one that is not fit for another is closed."""
        self._busy.discard(connection)
        if self._closed or not (connection.complete and connection.reusable and connection.open):
            connection.abort()
            return
        idle = self._idle.setdefault(origin, [])
        if len(idle) >= self._max_idle:
            idle.pop(0).abort()
        connection.rest()
        connection.idle_since = self._loop.time()
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_timeout, self._sweep)

    def close(self) -> None:
        """Close every connection, in use or not."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in [*self._busy, *(one for idle in self._idle.values() for one in idle)]:
            connection.abort()
        self._busy.clear()
        self._idle.clear()

    def _sweep(self) -> None:
        self._sweeper = None
        oldest = self._loop.time() - self._idle_timeout
        first: float | None = None
        for origin, idle in list(self._idle.items()):
            kept: list[Connection] = []
            for connection in idle:
                if connection.open and connection.idle_since > oldest:
                    kept.append(connection)
                else:
                    connection.abort()
            if kept:
                self._idle[origin] = kept
                first = kept[0].idle_since if first is None else min(first, kept[0].idle_since)
            else:
                del self._idle[origin]
        if first is not None:
            self._sweeper = self._loop.call_at(first + self._idle_timeout, self._sweep)


class Lane:
    """The slots of one endpoint, given in order of arrival.

    Args:
        size: Requests under way at once.
        timeout: Seconds to wait for a slot.
    """

    __slots__ = ("_free", "_queue", "_size", "_timeout")

    def __init__(self, size: int, timeout: float) -> None:
        self._size = self._free = size
        self._timeout = timeout
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def in_use(self) -> int:
        """Slots that are taken."""
        return self._size - self._free

    def enter_now(self) -> bool:
        """Take a slot if one is free."""
        if self._free and not self._queue:
            self._free -= 1
            return True
        return False

    async def enter(self) -> None:
        """Take a slot, waiting if need be.

        Raises:
            NoSlot: If none becomes free in time.
        """
        if self.enter_now():
            return
        slot = asyncio.get_running_loop().create_future()
        self._queue.append(slot)
        try:
            async with asyncio.timeout(self._timeout):
                await slot
        except BaseException as error:
            if slot.done() and not slot.cancelled():
                self.leave()  # it came in the same moment: pass it on
            elif slot in self._queue:
                self._queue.remove(slot)
            if isinstance(error, TimeoutError):
                raise NoSlot(f"all {self._size} connections were in use for {self._timeout:g} s") from None
            raise

    def leave(self) -> None:
        """Give a slot back."""
        while self._queue:
            slot = self._queue.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self._free += 1
