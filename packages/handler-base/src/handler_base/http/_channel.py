"""The way to one endpoint: a lane with slots, connections, tries and errors. Calls and streams both go here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_base.http._failures import TooMuch, TransportFailure
from handler_base.http._lanes import Lane
from handler_base.http._mapping import MAX_ERROR_BODY
from handler_base.http.retry import may_repeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from handler_base.errors import UpstreamError
    from handler_base.http._connection import Connection
    from handler_base.http._lanes import Connections
    from handler_base.http._mapping import Names
    from handler_base.http._origin import Origin
    from handler_base.http.retry import Backoff, Repeat
    from handler_base.http.settings import HttpSettings


class Channel:
    """The way to one endpoint.

    Args:
        names: What to call it.
        origin: Where it is.
        settings: Limits.
        backoff: Pauses between tries.
        connections: Returns the connections of the process, which are made at the first call.
    """

    __slots__ = ("_connections", "backoff", "lane", "limit", "names", "origin")

    def __init__(
        self,
        names: Names,
        origin: Origin,
        settings: HttpSettings,
        backoff: Backoff,
        connections: Callable[[], Connections],
    ) -> None:
        self.names = names
        self.origin = origin
        self.backoff = backoff
        self.lane = Lane(settings.max_connections, settings.pool_timeout)
        self.limit = settings.max_response_bytes
        self._connections = connections

    async def obtain(self) -> Connection:
        """Take a slot and a connection.

        Raises:
            Overloaded: If no slot becomes free in time.
            UpstreamError: If no connection can be established.
            ShuttingDown: If the pool is closed.
        """
        connections = self._connections()
        try:
            if not self.lane.enter_now():
                await self.lane.enter()
        except TransportFailure as failure:
            raise self.names.failed(failure) from failure
        try:
            return connections.take_idle(self.origin) or await connections.take_new(self.origin)
        except TransportFailure as failure:
            self.lane.leave()
            raise self.names.failed(failure) from failure
        except BaseException:
            self.lane.leave()
            raise

    def release(self, connection: Connection) -> None:
        """Give both back; a connection whose exchange is not complete is closed at once."""
        self.lane.leave()
        self._connections().give_back(self.origin, connection)

    def release_later(self, connection: Connection, timeout: float) -> None:
        """Give the slot back now, and the connection when the end of its body has come."""
        if connection.complete or not connection.open:
            self.release(connection)
            return
        self.lane.leave()
        connections = self._connections()
        connection.linger(lambda done: connections.give_back(self.origin, done), timeout)

    async def probe(self, request: bytes, timeout: float) -> None:
        """Send a request over a new connection, without a slot, and wait for any answer.

        Raises:
            UpstreamError: If none comes.
        """
        connection: Connection | None = None
        try:
            connection = await self._connections().dial(self.origin)
            connection.send(request)
            await connection.head(timeout)
        except TransportFailure as failure:
            raise self.names.failed(failure) from failure
        finally:
            if connection is not None:
                connection.abort()

    async def refusal(self, connection: Connection, path: str, timeout: float) -> UpstreamError:
        """Read why a request was refused and return it as an error."""
        status, headers = connection.status, header_dict(connection.headers)
        try:
            body = await connection.read_all(timeout, MAX_ERROR_BODY)
        except TooMuch:
            body = b""
        return self.names.refused(status, headers, body, path)

    def delay(self, error: UpstreamError, repeat: Repeat, failures: int) -> float:
        """Return the pause before the next try, or raise `error` if there is to be none."""
        delay = self.backoff.delay(failures, error) if may_repeat(error, repeat) else None
        if delay is None:
            if failures > 1:
                error.message = f"{error.message} (tried {failures} times)"
                error.args = (error.message,)
            raise error
        return delay


def header_dict(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; repeated ones are joined by a comma (RFC 9110, section 5.3)."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
