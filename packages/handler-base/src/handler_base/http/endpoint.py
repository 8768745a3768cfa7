"""One endpoint: calls with a buffered answer, and streams.

Cancelling the calling task closes the connection under way before anything else runs, whether it is still being
established, waiting for an answer or in the middle of one; the slot is free again at the same moment.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from handler_base import telemetry
from handler_base.errors import HandlerError, UpstreamError
from handler_base.http._channel import header_dict
from handler_base.http._failures import TransportFailure
from handler_base.http.streamed import StreamedResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handler_base.http._channel import Channel
    from handler_base.http._request import RequestWriter
    from handler_base.http.retry import Repeat

T = TypeVar("T")

REACHABLE_TIMEOUT = 5.0
"""Longest wait of `Endpoint.reachable` for an answer, in seconds."""

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class Response:
    """A whole response.

    Attributes:
        status: Its HTTP status.
        content: Its body.
    """

    __slots__ = ("_headers", "_raw", "content", "status")

    def __init__(self, status: int, raw: list[tuple[bytes, bytes]], content: bytes) -> None:
        self.status = status
        self.content = content
        self._raw = raw
        self._headers: dict[str, str] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name; repeated ones are joined by a comma."""
        if self._headers is None:
            self._headers = header_dict(self._raw)
        return self._headers


class Endpoint:
    """An HTTP service under one base URL. Made by `HttpPool.endpoint`.

    Attributes:
        name: Its name in our words.
        base_url: What paths are appended to.
        timeout: Seconds until a response starts.
        idle_timeout: Seconds between two pieces of a body.
    """

    def __init__(
        self,
        channel: Channel,
        writer: RequestWriter,
        *,
        base_url: str,
        timeout: float,
        idle_timeout: float,
    ) -> None:
        self.name = channel.names.name
        self.base_url = base_url
        self.timeout = timeout
        self.idle_timeout = idle_timeout
        self._channel = channel
        self._writer = writer
        self._decoders: dict[object, msgspec.json.Decoder[object]] = {}
        self._encoder = msgspec.json.Encoder()

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._channel.lane.in_use

    async def post_json(
        self,
        path: str,
        body: object,
        type: type[T],  # noqa: A002
        *,
        idempotent: bool = False,
        timeout: float | None = None,
    ) -> T:
        """POST `body` as JSON and return the answer as a `type`.

        Args:
            path: Below the base URL.
            body: Anything msgspec encodes.
            type: What the answer must be; fields it does not know are ignored.
            idempotent: Whether the call may be repeated after anything that may pass.
            timeout: Seconds until the response starts, instead of the endpoint's.

        Raises:
            UpstreamError: One of its kinds; `UpstreamProtocol` also if the answer does not fit `type`.
            Overloaded: If no connection becomes free in time.
        """
        response = await self.request(
            "POST",
            path,
            content=self._encoder.encode(body),
            headers=_JSON,
            idempotent=idempotent,
            timeout=timeout,
        )
        return self.decode(response.content, type)

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        idempotent: bool,
        timeout: float | None = None,
    ) -> Response:
        """Return the whole response to one request, which has status 2xx.

        Args:
            method: For instance `GET`.
            path: Below the base URL.
            content: The body.
            headers: Besides the endpoint's own.
            params: Query parameters.
            idempotent: Whether the call may be repeated after anything that may pass.
            timeout: Seconds until the response starts, instead of the endpoint's.

        Raises:
            UpstreamError: One of its kinds.
            Overloaded: If no connection becomes free in time.
            ValueError: If the path or a header cannot be sent.
        """
        repeat: Repeat = "always" if idempotent else "never"
        wait = self.timeout if timeout is None else timeout
        if not telemetry.enabled():
            return await self._tried(
                self._writer.write(method, path, content, headers, params), method, path, wait, repeat
            )
        outgoing = dict(headers or {})
        with telemetry.span(
            f"{method} {self.name}", kind="client", attributes=self._attributes(method)
        ) as span:
            telemetry.inject(outgoing)
            request = self._writer.write(method, path, content, outgoing, params)
            started, outcome = time.perf_counter(), "cancelled"
            try:
                response = await self._tried(request, method, path, wait, repeat)
                outcome = "ok"
                span.set("http.response.status_code", response.status)
            except HandlerError as error:
                outcome = error.type
                span.set("error.type", outcome)
                raise
            finally:
                seconds = time.perf_counter() - started
                telemetry.record("http.client.request.duration", seconds, endpoint=self.name, outcome=outcome)
        return response

    def stream(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        repeat: Repeat = "never",
        timeout: float | None = None,
        idle_timeout: float | None = None,
    ) -> StreamedResponse:
        """Return a response to enter with `async with`, whose body comes in pieces.

        Args:
            method: For instance `POST`.
            path: Below the base URL.
            content: The body.
            headers: Besides the endpoint's own.
            params: Query parameters.
            repeat: What may be tried again before the response has started.
            timeout: Seconds until the response starts, instead of the endpoint's.
            idle_timeout: Seconds between two pieces, instead of the endpoint's.

        Raises:
            UpstreamError: When it is entered and while it is read.
            Overloaded: If no connection becomes free in time.
            ValueError: If the path or a header cannot be sent.
        """
        return StreamedResponse(
            self._channel,
            self._writer,
            request=(method, path, content, headers, params),
            repeat=repeat,
            timeout=self.timeout if timeout is None else timeout,
            idle_timeout=self.idle_timeout if idle_timeout is None else idle_timeout,
        )

    async def reachable(self) -> None:
        """Return if the endpoint answers HTTP, whatever the status. It takes no slot and no old connection.

        Raises:
            UpstreamUnavailable: If there is no connection or no answer.
            UpstreamTimeout: If either does not come in time.
            UpstreamProtocol: If the answer is not HTTP.
        """
        request = self._writer.write("GET", "/", b"", {"Connection": "close"})
        await self._channel.probe(request, min(self.timeout, REACHABLE_TIMEOUT))

    def decode(self, content: bytes, type: type[T]) -> T:  # noqa: A002
        """Return JSON as a `type`.

        Raises:
            UpstreamProtocol: If it does not fit.
        """
        decoder = self._decoders.get(type)
        if decoder is None:
            decoder = self._decoders[type] = msgspec.json.Decoder(type)
        try:
            return cast("T", decoder.decode(content))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.unreadable(str(error)) from error

    def unreadable(self, what: str) -> UpstreamError:
        """Return the error for an answer that breaks its contract, for clients to raise."""
        return self._channel.names.unreadable(what)

    def failed(self, message: bytes, status: int = 500) -> UpstreamError:
        """Return the error for an error object that came where a result was due.

        Args:
            message: The object as JSON; the endpoint's words are taken from it.
            status: The status it stands for.
        """
        return self._channel.names.refused(status if status >= 400 else 500, {}, message, "")

    def _attributes(self, method: str) -> dict[str, str | int | float | bool]:
        return {
            "http.request.method": method,
            "server.address": self._channel.origin.host,
            "server.port": self._channel.origin.port,
            "peer.service": self.name,
        }

    async def _tried(
        self, request: bytes, method: str, path: str, timeout: float, repeat: Repeat
    ) -> Response:
        failures = 0
        while True:
            try:
                return await self._once(request, method, path, timeout)
            except UpstreamError as error:
                failures += 1
                delay = self._channel.delay(error, repeat, failures)
            await self._channel.backoff.wait(delay)

    async def _once(self, request: bytes, method: str, path: str, timeout: float) -> Response:
        channel = self._channel
        connection = await channel.obtain()
        try:
            connection.send(request, bodiless=method == "HEAD")
            await connection.head(timeout)
            if not 200 <= connection.status < 300:
                raise await channel.refusal(connection, path, self.idle_timeout)
            content = await connection.read_all(max(timeout, self.idle_timeout), channel.limit)
            return Response(connection.status, connection.headers, content)
        except TransportFailure as failure:
            raise channel.names.failed(failure) from failure
        finally:
            channel.release(connection)
