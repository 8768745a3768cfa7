"""One HTTP/1.1 connection: the only module that knows the parser (llhttp, through httptools).

A connection carries one exchange at a time: `send`, then `head`, then `read` or `read_all` until the message is
complete. Whoever waits is woken by the parser's callbacks or by one timer per connection that is re-armed only
when it fires, so that a token on a stream costs no timer of its own. `abort` is not a coroutine: a cancelled task
closes its connection before anything else can run. See docs/decisions/0002-http-engine.md.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from handler_base.http._failures import Broken, Malformed, Silent, TooMuch

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEAD_BYTES = 64 * 1024
"""Largest status line and headers accepted."""

HIGH_WATER = 256 * 1024
"""Bytes of a streamed body held for a slow reader before the sender is made to wait."""

_IDLE, _HEAD, _BODY, _DONE = range(4)


class Connection(asyncio.Protocol):
    """The client's end of a connection.

    Attributes:
        status: Status of the response, 0 until its head is there.
        headers: Its headers as they came.
        reusable: Whether another exchange may follow this one.
        used: How many exchanges it has carried.
        idle_since: `loop.time()` when it was last given back.
    """

    __slots__ = (
        "_bodiless", "_body", "_failure", "_head_bytes", "_held", "_limit", "_linger", "_loop", "_parser", "_paused",
        "_since", "_state", "_timer", "_timer_at", "_transport", "_until_close", "_waiter", "_whole",
        "headers", "idle_since", "reusable", "status", "used",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._state = _IDLE
        self._bodiless = False
        self._body: deque[bytes] = deque()
        self._held = 0
        self._head_bytes = 0
        self._paused = False
        self._whole = False
        self._until_close = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._since = 0.0
        self._limit = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._linger: Callable[[Connection], None] | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.reusable = False
        self.used = 0
        self.idle_since = 0.0

    # What a caller does

    def send(self, request: bytes, *, bodiless: bool = False) -> None:
        """Start an exchange; with `bodiless` (a HEAD request) its response ends with the headers."""
        self._bodiless = bodiless
        self._state = _HEAD
        self._head_bytes = 0
        self.status = 0
        self.headers = []
        self.reusable = False
        self.used += 1
        if self._transport is None or self._transport.is_closing():
            self._fail(Broken("it closed the connection", started=False, reused=self.used > 1))
        else:
            self._transport.write(request)

    async def head(self, timeout: float) -> None:
        """Wait for the status and the headers.

        Raises:
            Silent: If they do not come within `timeout` seconds.
            Broken: If the connection ends before.
            Malformed: If they are not HTTP.
        """
        while self._state == _HEAD and self._failure is None:
            await self._wait(timeout)
        if self._failure is not None and self._state == _HEAD:
            raise self._failure

    async def read(self, timeout: float) -> bytes:
        """Return the next piece of the body, or nothing when it is complete.

        Raises:
            Silent: If nothing comes for `timeout` seconds.
            Broken: If the connection ends before the body does.
            Malformed: If the body is not framed as HTTP says.
        """
        while not self._body:
            if self._state == _DONE:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait(timeout)
        piece = self._body.popleft()
        self._held -= len(piece)
        if self._paused and self._held <= HIGH_WATER // 2:
            self._resume()
        return piece

    async def read_all(self, timeout: float, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            Silent: If nothing comes for `timeout` seconds.
            Broken: If the connection ends before the body does.
            Malformed: If the body is not framed as HTTP says.
            TooMuch: If it is larger than `limit` bytes.
        """
        self._whole = True
        self._resume()  # a large beginning may have come together with the head
        try:
            while self._state != _DONE and self._failure is None and self._held <= limit:
                await self._wait(timeout)
        finally:
            self._whole = False
        if self._held > limit:
            raise TooMuch(limit)
        if self._state != _DONE and self._failure is not None:
            raise self._failure
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._held = 0
        return body

    @property
    def complete(self) -> bool:
        """Whether the exchange is over, read or not."""
        return self._state == _DONE

    @property
    def open(self) -> bool:
        """Whether it can carry an exchange now."""
        return self._failure is None and self._transport is not None and not self._transport.is_closing()

    def hung_up(self) -> bool:
        """Whether something has come on a connection at rest that the event loop has not seen yet: its end."""
        if not self.open or self._transport is None:
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def rest(self) -> None:
        """Forget a complete exchange."""
        self._state = _IDLE
        self._body.clear()
        self._held = 0
        self.headers = []
        self._resume()

    def linger(self, done: Callable[[Connection], None], timeout: float) -> None:
        """Call `done` when the rest of the body has come, or give up after `timeout` seconds."""
        self._linger = done
        self._body.clear()
        self._held = 0
        self._resume()
        self._arm(timeout)

    def abort(self) -> None:
        """Close at once; the other end sees it at once."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(Broken("the connection was closed", started=False))

    # What the event loop does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, after TCP and TLS are established."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the exchange under way, unless the end of the connection is the end of its body."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._state == _BODY and self._until_close and exc is None:
            self._finish()
            self._failure = Broken("the connection was closed", started=True)
        else:
            started = self._state == _BODY or self._head_bytes > 0
            self._fail(Broken(_reason(exc), started=started, reused=self.used > 1))
        self._transport = None
        self._parser = None
        self._linger = None

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._parser is None or self._failure is not None:
            return
        if self._state == _HEAD:
            self._head_bytes += len(data)
        elif self._state != _BODY:
            self._desynchronised()
            return
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail(Malformed("switched to another protocol"))
        except HttpParserError as error:
            self._fail(Malformed(str(error)))
        if self._state == _HEAD and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(Malformed(f"sent more than {MAX_HEAD_BYTES} bytes of headers"))
        if self._failure is not None and self._transport is not None:
            self._transport.abort()

    # What the parser does

    def on_message_begin(self) -> None:
        """Refuse a response that nobody asked for."""
        if self._state != _HEAD:
            self._desynchronised()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are ignored."""
        if self._state == _HEAD:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status, and see how the body will end."""
        parser = self._parser
        if self._state != _HEAD or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:
            return
        self.status = status
        self._state = _BODY
        self.reusable = parser.should_keep_alive()
        self._until_close = not self.reusable and not _framed(self.headers)
        if self._bodiless:  # llhttp waits for a body all the same, so nothing may follow on this connection
            self.reusable = False
            self._finish()
            return
        if not self._whole:
            self._wake()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body, unless nobody wants it any more."""
        if self._state != _BODY or self._linger is not None:
            return
        self._body.append(body)
        self._held += len(body)
        if not self._whole:
            if self._held > HIGH_WATER and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
            self._wake()
        else:
            self._since = self._loop.time()
            if self._held > HIGH_WATER:
                self._wake()  # let the reader look at its limit

    def on_message_complete(self) -> None:
        """End the exchange; an interim response (1xx) is not the end."""
        if self._state == _BODY:
            self._finish()
        elif self._state == _HEAD:
            self.headers = []

    # Inside

    def _finish(self) -> None:
        self._state = _DONE
        self._wake()
        if self._linger is not None:
            done, self._linger = self._linger, None
            done(self)

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _desynchronised(self) -> None:
        # Data after a complete response cannot be told from the next one: it must never be read as that.
        self.reusable = False
        if self._failure is None:
            self._failure = Malformed("sent more than one response")
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self, timeout: float) -> None:
        waiter = self._waiter = self._loop.create_future()
        self._arm(timeout)
        try:
            await waiter
        finally:
            self._waiter = None

    def _arm(self, timeout: float) -> None:
        self._since = now = self._loop.time()
        self._limit = timeout
        if self._timer is not None:
            if self._timer_at <= now + timeout:
                return
            self._timer.cancel()
        self._timer_at = now + timeout
        self._timer = self._loop.call_at(self._timer_at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None and self._linger is None:
            return
        left = self._since + self._limit - self._loop.time()
        if left > 0:
            self._timer_at = self._since + self._limit
            self._timer = self._loop.call_at(self._timer_at, self._look)
        elif self._linger is not None:
            self.abort()
        elif self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_exception(Silent(self._limit, started=self._state == _BODY))


def _framed(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the headers tell where the body ends."""
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-length" or (lower == b"transfer-encoding" and b"chunked" in value.lower()):
            return True
    return False


def _reason(exc: Exception | None) -> str:
    if exc is None:
        return "it closed the connection"
    if isinstance(exc, ConnectionResetError):
        return "it reset the connection"
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return f"the connection broke: {text}"
