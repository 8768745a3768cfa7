"""Probes over HTTP: `/healthz` says that the process lives, `/readyz` that it can do its work.

    GET /healthz   200 {"status":"ok","name":"chat-handler","version":"1.4.0"}
    GET /readyz    200 {"ready":true}   or   503 {"ready":false,"missing":["nats: not connected"]}

A small HTTP/1.1 server on asyncio, one request per connection: it serves probes and a person with curl, nothing
else. What a client may send, how long it may take and how many there may be are bounded.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from handler_base.config import Settings, env
from handler_base.errors import ConfigError, HandlerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

REQUEST_BYTES = 8192
"""Longest request line and headers."""
REQUEST_SECONDS = 5.0
"""Longest time to send them, and to take the answer."""
CONNECTIONS = 64
"""Most connections at a time; further ones are closed at once."""
PROBE_SECONDS = 0.8
"""Longest time for the probe: below the second that Kubernetes gives a probe unless told otherwise."""
CACHE_SECONDS = 1.0
MISSING_CACHE_SECONDS = 0.02
"""How long an answer of the probe is good for."""

_log = logging.getLogger(__name__)
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class HealthSettings(Settings, frozen=True, kw_only=True):
    """Where the probes are served."""

    host: Annotated[
        str,
        env("HEALTH_HOST", help="address of the probes; unset: all in a Kubernetes pod, 127.0.0.1 elsewhere"),
    ] = ""
    port: Annotated[int, env("HEALTH_PORT", help="port of the probes; 0: any free one", ge=0, le=65535)] = (
        8080
    )


def default_host(environ: Mapping[str, str] | None = None) -> str:
    """Return all interfaces inside a Kubernetes pod, where the kubelet probes from outside, else loopback."""
    environ = os.environ if environ is None else environ
    return "0.0.0.0" if environ.get("KUBERNETES_SERVICE_HOST") else "127.0.0.1"  # noqa: S104


class HealthServer:
    """Serves the probes of one process.

    Args:
        info: What `/healthz` tells besides its status: name, version and the like.
        probe: Returns what is missing to do the work, one phrase each; nothing when ready. A failure or a probe
            that takes longer than `PROBE_SECONDS` counts as not ready.
        clock: Seconds that only grow; for tests.
        probe_seconds: Instead of `PROBE_SECONDS`; for tests.
        request_seconds: Instead of `REQUEST_SECONDS`; for tests.

    Attributes:
        port: The port it listens on; 0 while it does not.
    """

    def __init__(
        self,
        *,
        info: Mapping[str, str],
        probe: Callable[[], Awaitable[Sequence[str]]],
        clock: Callable[[], float] = time.monotonic,
        probe_seconds: float = PROBE_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self.port = 0
        self._alive = msgspec.json.encode({"status": "ok", **info})
        self._probe = probe
        self._clock = clock
        self._probe_seconds = probe_seconds
        self._request_seconds = request_seconds
        self._probing = asyncio.Lock()
        self._missing: tuple[str, ...] = ()
        self._good_until = float("-inf")
        self._was_ready: bool | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        """Listen on `host` (empty: `default_host()`) and `port` (0: any free one).

        Raises:
            ConfigError: If that is not possible; names HEALTH_HOST and HEALTH_PORT.
        """
        host = host or default_host()
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=REQUEST_BYTES)
        except OSError as error:
            raise ConfigError([_why(error, host, port)]) from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self.port = 0
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            async with asyncio.timeout(self._request_seconds) as limit:
                answer = await self._answer(reader)
                limit.reschedule(asyncio.get_running_loop().time() + self._request_seconds)
                writer.write(answer)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(431, b'{"error":"request too large"}')
        except asyncio.IncompleteReadError:
            return _response(400, b'{"error":"incomplete request"}')
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _response(400, b'{"error":"not an HTTP/1.1 request"}')
        method, target, _ = parts
        path = target.split(b"?", 1)[0]
        if path not in {b"/healthz", b"/readyz"}:
            return _response(404, b'{"error":"try /healthz or /readyz"}')
        if method not in {b"GET", b"HEAD"}:
            return _response(405, b'{"error":"only GET and HEAD"}', b"Allow: GET, HEAD\r\n")
        status, body = (200, self._alive) if path == b"/healthz" else await self._readiness()
        return _response(status, body, head_only=method == b"HEAD")

    async def _readiness(self) -> tuple[int, bytes]:
        # The lock lets one probe run for all who ask at the same time.
        async with self._probing:
            if self._clock() >= self._good_until:
                self._missing = await self._ask()
                self._good_until = self._clock() + (MISSING_CACHE_SECONDS if self._missing else CACHE_SECONDS)
                self._tell()
            missing = self._missing
        if not missing:
            return 200, b'{"ready":true}'
        return 503, msgspec.json.encode({"ready": False, "missing": missing})

    async def _ask(self) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(self._probe_seconds):
                return tuple(await self._probe())
        except TimeoutError:
            return ("probe timed out",)
        except HandlerError as error:
            return (error.message,)
        except Exception as error:  # noqa: BLE001  (a probe may fail in any way; the process goes on)
            _log.exception("the readiness probe failed")
            return (f"probe failed: {type(error).__name__}",)

    def _tell(self) -> None:
        ready = not self._missing
        if ready != self._was_ready:
            if ready:
                _log.info("ready")
            else:
                _log.warning("not ready", extra={"missing": list(self._missing)})
        self._was_ready = ready


def _response(status: int, body: bytes, headers: bytes = b"", *, head_only: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n"
    )
    return head.encode() + headers + b"\r\n" + (b"" if head_only else body)


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"HEALTH_PORT={port}: the port is taken on {host}; stop the other process or set another port"
    if error.errno == errno.EACCES:
        return f"HEALTH_PORT={port}: this user may not listen there; choose a port above 1023"
    return f"HEALTH_HOST={host}, HEALTH_PORT={port}: cannot listen there: {error.strerror or error}"
