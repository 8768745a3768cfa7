"""A response whose body comes in pieces, as bytes or as server-sent events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from handler_base import telemetry
from handler_base.errors import HandlerError, UpstreamError, UpstreamProtocol
from handler_base.http._channel import header_dict
from handler_base.http._failures import TransportFailure
from handler_base.http.sse import DEFAULT_LIMIT, EventParser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from handler_base.http._channel import Channel
    from handler_base.http._connection import Connection
    from handler_base.http._request import RequestWriter
    from handler_base.http.retry import Repeat
    from handler_base.http.sse import Event

LINGER = 1.0
"""Seconds to wait for the end of a body that nobody reads any more, before its connection is closed."""


class StreamedResponse:
    """A response to enter with `async with` and to iterate over for the pieces of its body.

    Leaving the block early closes the connection, and the endpoint sees that at once.

    Attributes:
        status: HTTP status; 2xx once it is entered.
        headers: By lower-case name.
    """

    __slots__ = (
        "_channel", "_connection", "_finished", "_idle_timeout", "_outgoing", "_repeat", "_request", "_span",
        "_started", "_timeout", "_writer", "headers", "status",
    )  # fmt: skip

    def __init__(
        self,
        channel: Channel,
        writer: RequestWriter,
        *,
        request: tuple[str, str, bytes, Mapping[str, str] | None, Mapping[str, str] | None],
        repeat: Repeat,
        timeout: float,
        idle_timeout: float,
    ) -> None:
        self._channel = channel
        self._writer = writer
        self._request = request
        self._repeat: Repeat = repeat
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._connection: Connection | None = None
        self._finished = False
        self._span: telemetry.Span | None = None
        self._started = 0.0
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        method, path, content, headers, params = self._request
        if telemetry.enabled():
            self._span = self._enter_span(method)
            headers = dict(headers or {})
            telemetry.inject(headers)
        try:
            request = self._writer.write(method, path, content, headers, params)
            self._connection = await self._open(request, path)
            self.status = self._connection.status
            self.headers = header_dict(self._connection.headers)
        except BaseException as error:
            self._leave_span(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._finished:
                self._channel.release_later(connection, LINGER)
            else:
                self._channel.release(connection)
        self._leave_span(error)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self.read()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self) -> bytes:
        """Return the next piece of the body, or nothing at its end.

        Raises:
            UpstreamError: If the body breaks off or stalls.
        """
        if self._connection is None:
            raise RuntimeError("a streamed response is read inside its `async with` block")
        try:
            return await self._connection.read(self._idle_timeout)
        except TransportFailure as failure:
            raise self._channel.names.failed(failure) from failure

    async def events(self, limit: int = DEFAULT_LIMIT) -> AsyncIterator[Event]:
        """Yield the server-sent events in the body.

        Args:
            limit: Largest event in bytes.

        Raises:
            UpstreamError: If the body breaks off, stalls, or has an event over the limit.
        """
        parser = EventParser(limit)
        try:
            while piece := await self.read():
                for event in parser.feed(piece):
                    yield event
            parser.close()
        except UpstreamProtocol as error:
            if error.endpoint:
                raise
            raise self._channel.names.unreadable(error.message) from error

    def finish(self) -> None:
        """Tell that the rest of the body is of no interest; its connection can then serve again."""
        self._finished = True

    async def _open(self, request: bytes, path: str) -> Connection:
        failures = 0
        while True:
            try:
                return await self._once(request, path)
            except UpstreamError as error:
                failures += 1
                delay = self._channel.delay(error, self._repeat, failures)
            await self._channel.backoff.wait(delay)

    async def _once(self, request: bytes, path: str) -> Connection:
        channel = self._channel
        connection = await channel.obtain()
        try:
            connection.send(request)
            await connection.head(self._timeout)
            if not 200 <= connection.status < 300:
                raise await channel.refusal(connection, path, self._idle_timeout)
        except TransportFailure as failure:
            channel.release(connection)
            raise channel.names.failed(failure) from failure
        except BaseException:
            channel.release(connection)
            raise
        return connection

    def _enter_span(self, method: str) -> telemetry.Span:
        names, origin = self._channel.names, self._channel.origin
        self._started = time.perf_counter()
        return telemetry.span(
            f"{method} {names.name}",
            kind="client",
            attributes={
                "http.request.method": method,
                "server.address": origin.host,
                "server.port": origin.port,
                "peer.service": names.name,
            },
        ).__enter__()

    def _leave_span(self, error: BaseException | None) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        outcome = "ok"
        if error is not None:
            outcome = error.type if isinstance(error, HandlerError) else "cancelled"
            span.set("error.type", outcome)
        if self.status:
            span.set("http.response.status_code", self.status)
        seconds = time.perf_counter() - self._started
        telemetry.record(
            "http.client.request.duration", seconds, endpoint=self._channel.names.name, outcome=outcome
        )
        span.__exit__(type(error) if error is not None else None, error, None)
