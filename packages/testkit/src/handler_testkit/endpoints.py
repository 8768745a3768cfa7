r"""Scripted HTTP/1.1 endpoints on 127.0.0.1: slow, failing, stalling, and counting who hangs up.

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.send(b"data: 1\n\n")
        await exchange.stall()

    async with HttpEndpoint(script) as endpoint:
        ...                                   # call endpoint.url
        await endpoint.wait(lambda: endpoint.disconnects == 1)

A script is one coroutine per request and is cancelled when its client goes away. The server parses requests
itself, with nothing in common with the client under test, and is light enough to stand behind a benchmark.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping

    Script = Callable[["Exchange"], Coroutine[Any, Any, None]]
    """What to do with one request."""

DEADLINE = 10.0
"""Seconds that `HttpEndpoint.wait` waits before it fails the test."""

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 503: "Unavailable"}


@dataclass(slots=True)
class Request:
    """What a client sent.

    Attributes:
        method: For instance `POST`.
        target: The request target as it came.
        path: Its path, without the query.
        query: First value of each parameter.
        headers: By lower-case name.
        body: The whole body.
        connection: Number of the connection it came on, from 1.
    """

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection: int

    def json(self) -> Any:
        """Return the body decoded from JSON."""
        return json.loads(self.body)


class Exchange:
    """One request and the means to answer it, well or badly."""

    def __init__(self, connection: _Connection, request: Request) -> None:
        self.request = request
        self._connection = connection
        self._chunked = False
        self._started = False
        self._finished = False

    async def head(
        self, status: int = 200, headers: Mapping[str, str] | None = None, *, length: int | None = None
    ) -> None:
        """Send the status line and headers; a body in chunks follows, or one of `length` bytes."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Whatever')}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._started = True
        self._chunked = length is None
        lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
        self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")
        await self._connection.drain()

    async def send(self, data: bytes) -> None:
        """Send a part of the body, as one chunk when the body is chunked."""
        self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        await self._connection.drain()

    async def end(self) -> None:
        """Complete the body."""
        if self._chunked:
            self.raw(b"0\r\n\r\n")
        self._finished = True
        await self._connection.drain()

    async def answer(
        self, body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a complete answer."""
        await self.head(status, headers, length=len(body))
        if body:
            await self.send(body)
        await self.end()

    async def json(self, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send a complete answer in JSON."""
        await self.answer(
            json.dumps(value).encode(), status, {"content-type": "application/json", **(headers or {})}
        )

    async def stall(self) -> None:
        """Say nothing more until the client goes away."""
        await asyncio.Event().wait()

    def raw(self, data: bytes) -> None:
        """Send bytes as they are, outside HTTP if you like."""
        self._connection.transport.write(data)

    def reset(self) -> None:
        """Cut the connection with a TCP reset; what was sent last may not arrive."""
        self._finished = True
        sock: socket.socket = self._connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.transport.abort()

    def close(self) -> None:
        """Close the connection after what was sent, however incomplete."""
        self._finished = True
        self._connection.transport.close()

    @property
    def started(self) -> bool:
        """Whether the head of the answer was sent."""
        return self._started

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or was cut by the script itself."""
        return self._finished


class _Connection(asyncio.Protocol):
    """One client's connection; requests on it are served one after the other."""

    transport: asyncio.Transport

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._exchange: Exchange | None = None
        self._writable: asyncio.Event | None = None
        self._number = 0

    @property
    def busy(self) -> bool:
        return self._task is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._endpoint.connections += 1
        self._number = self._endpoint.connections
        self._endpoint.open.add(self)
        self._endpoint.changed()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._endpoint.open.discard(self)
        if self._writable is not None:
            self._writable.set()
        if self._exchange is not None and not self._exchange.finished:
            self._endpoint.disconnects += 1
        if self._task is not None:
            self._task.cancel()
        self._endpoint.changed()

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    async def drain(self) -> None:
        await asyncio.sleep(0)  # a script that only sends must still hear that its client is gone
        if self._writable is not None:
            await self._writable.wait()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next()

    def _next(self) -> None:
        request = self._parse()
        if request is None:
            return
        if self._endpoint.record:
            self._endpoint.requests.append(request)
        self._exchange = Exchange(self, request)
        self._task = asyncio.get_running_loop().create_task(self._run(self._exchange))
        self._endpoint.changed()

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self._endpoint.script(exchange)
        except asyncio.CancelledError:
            if not self.transport.is_closing():
                self.transport.abort()
            return
        except Exception as error:  # noqa: BLE001  a broken script must fail the test, not hang it
            self._endpoint.errors.append(error)
            exchange.close()
            self.transport.abort()
            return
        finally:
            self._task = None
        if not exchange.finished:
            exchange.close()
        elif not self.transport.is_closing():
            self._next()

    def _parse(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(self._buffer) < end + 4 + length:
            return None
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        method, target, _ = first.split(" ")
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()} if parts.query else {}
        return Request(method, target, parts.path, query, headers, body, self._number)


@dataclass(slots=True, eq=False)
class HttpEndpoint:
    """A server on a free port of 127.0.0.1 that runs `script` for every request.

    Attributes:
        script: What to do; may be replaced between requests.
        tls: Context for `https`.
        record: Whether to keep the requests; not for benchmarks.
        requests: Every request, in the order of arrival.
        connections: How many connections were ever accepted.
        open: The connections that are open now.
        disconnects: How many clients went away before their answer was complete.
        errors: What scripts raised.
        url: Base address without a slash at the end.
    """

    script: Script
    tls: ssl.SSLContext | None = None
    record: bool = True
    requests: list[Request] = field(default_factory=list[Request])
    connections: int = 0
    open: set[Any] = field(default_factory=set[Any])
    disconnects: int = 0
    errors: list[Exception] = field(default_factory=list[Exception])
    url: str = ""
    port: int = 0
    _server: asyncio.Server | None = None
    _waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = field(
        default_factory=list[tuple["Callable[[], bool]", "asyncio.Future[None]"]]
    )

    @property
    def busy(self) -> int:
        """Requests whose script runs."""
        return sum(connection.busy for connection in self.open)

    async def start(self, port: int = 0) -> None:
        """Listen, on a free port or on `port`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", port, ssl=self.tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.open):
                connection.transport.abort()
            await self.wait(lambda: not self.open)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        if self.errors:
            raise ExceptionGroup("scripts failed", self.errors)

    async def wait(self, condition: Callable[[], bool], timeout: float = DEADLINE) -> None:
        """Wait until `condition` holds; it is looked at whenever something happens at this endpoint.

        Raises:
            TimeoutError: If it does not hold in time.
        """
        if condition():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((condition, future))
        async with asyncio.timeout(timeout):
            await future

    def changed(self) -> None:
        """Look at the conditions that someone waits for."""
        if self._waiters:
            for condition, future in self._waiters:
                if not future.done() and condition():
                    future.set_result(None)
            self._waiters = [entry for entry in self._waiters if not entry[1].done()]


def answering(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Script:
    """Return a script that always answers `value` in JSON."""

    async def script(exchange: Exchange) -> None:
        await exchange.json(value, status, headers)

    return script


def in_turn(*scripts: Script) -> Script:
    """Return a script that plays one of `scripts` per request, and the last one from then on."""
    left = list(scripts)

    async def script(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return script


def routed(routes: Mapping[str, Script]) -> Script:
    """Return a script that picks by path and answers 404 for any other."""

    async def script(exchange: Exchange) -> None:
        chosen = routes.get(exchange.request.path)
        if chosen is None:
            await exchange.json({"detail": "Not Found"}, 404)
        else:
            await chosen(exchange)

    return script


def sse(*events: str | Awaitable[object], done: bool = True) -> Script:
    """Return a script for one request that sends each text as a server-sent event, waiting where told to.

    Args:
        events: Data of an event, or something to await before the next one (an `asyncio.Event().wait()`).
        done: Whether to end with `[DONE]`.
    """

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        for event in (*events, "[DONE]") if done else events:
            if isinstance(event, str):
                await exchange.send(b"data: %b\n\n" % event.encode())
            else:
                await event
        await exchange.end()

    return script


async def stalling(exchange: Exchange) -> None:
    """Take the request and never answer it."""
    await exchange.stall()


async def resetting(exchange: Exchange) -> None:
    """Take the request and reset the connection."""
    exchange.reset()


@contextlib.contextmanager
def unanswered_port() -> Generator[int]:
    """Give a port of 127.0.0.1 where connecting neither succeeds nor fails: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(3):
            caller = stack.enter_context(socket.socket())
            caller.settimeout(0)
            caller.connect_ex(("127.0.0.1", port))
        yield port


@contextlib.asynccontextmanager
async def replaced(endpoint: HttpEndpoint, script: Script) -> AsyncGenerator[None]:
    """Play another script for the length of a block."""
    before, endpoint.script = endpoint.script, script
    try:
        yield
    finally:
        endpoint.script = before
