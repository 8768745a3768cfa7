"""Opens connections: TCP, TLS, and the tunnel of a proxy.

A cancelled attempt closes its socket at once. The TLS context is built for the first `https` endpoint only: it
costs 20 to 50 ms and 2 to 3 MB.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from handler_base.errors import ConfigError
from handler_base.http._connection import Connection
from handler_base.http._failures import NotConnected

if TYPE_CHECKING:
    import ssl

    from handler_base.http._origin import Origin

_MAX_TUNNEL_ANSWER = 16 * 1024


class Dialer:
    """Opens connections.

    Args:
        connect_timeout: Seconds for one attempt, name look-up and TLS included.
        ca_file: PEM file of authorities to trust besides the system's, or "".
    """

    def __init__(self, connect_timeout: float, ca_file: str) -> None:
        self._timeout = connect_timeout
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None

    async def dial(self, origin: Origin) -> Connection:
        """Return a new connection to `origin`.

        Raises:
            NotConnected: With the reason in words.
            ConfigError: If the file of authorities cannot be read.
        """
        loop = asyncio.get_running_loop()
        context = self._context() if origin.tls else None
        host, port = (origin.host, origin.port) if origin.proxy is None else origin.proxy[:2]
        try:
            async with asyncio.timeout(self._timeout):
                if origin.proxy is not None and context is not None:
                    return await _tunnel(loop, origin, context)
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    host,
                    port,
                    ssl=context,
                    server_hostname=origin.host if context is not None else None,
                )
                return connection
        except TimeoutError:
            raise NotConnected(f"did not accept a connection within {self._timeout:g} s", slow=True) from None
        except OSError as error:
            raise NotConnected(_reason(error)) from error
        except UnicodeError:
            raise NotConnected("has a host name that no name server can know") from None

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            import ssl

            context = ssl.create_default_context()
            if self._ca_file:
                try:
                    context.load_verify_locations(self._ca_file)
                except OSError as error:  # ssl.SSLError is one
                    raise ConfigError([f"HTTP_CA_FILE: cannot use {self._ca_file}: {error}"]) from error
            self._tls = context
        return self._tls


class _Tunnel(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[bytes] = loop.create_future()
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.answer.done():
            return
        if b"\r\n\r\n" in self._buffer:
            self.answer.set_result(self._buffer)
        elif len(self._buffer) > _MAX_TUNNEL_ANSWER:
            self.answer.set_result(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.answer.done():
            self.answer.set_result(b"")


async def _tunnel(loop: asyncio.AbstractEventLoop, origin: Origin, context: ssl.SSLContext) -> Connection:
    assert origin.proxy is not None
    transport, tunnel = await loop.create_connection(
        lambda: _Tunnel(loop), origin.proxy.host, origin.proxy.port
    )
    try:
        request = f"CONNECT {origin.authority} HTTP/1.1\r\nHost: {origin.authority}\r\n"
        if origin.proxy.authorization:
            request += f"Proxy-Authorization: {origin.proxy.authorization}\r\n"
        transport.write(f"{request}\r\n".encode())
        status = (await tunnel.answer).partition(b"\r\n")[0].split(b" ", 2)
        if len(status) < 2 or status[1] != b"200":
            code = status[1].decode("latin-1")[:16] if len(status) > 1 else "nothing"
            raise NotConnected(f"cannot be reached: the proxy {origin.proxy.host} answered {code} to CONNECT")
        connection = Connection(loop)
        secured = await loop.start_tls(transport, connection, context, server_hostname=origin.host)
        if secured is None:
            raise NotConnected("closed the connection during the TLS handshake")
        connection.connection_made(secured)
    except BaseException:
        transport.abort()
        raise
    return connection


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"has a host name that cannot be resolved ({error.strerror})"
    # asyncio joins the failures of several addresses into one text without an errno
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "refused the connection"
    if verify := getattr(error, "verify_message", ""):
        return f"has a certificate that we do not trust ({verify})"
    if type(error).__module__ == "ssl":
        return f"failed the TLS handshake ({getattr(error, 'reason', None) or error})"
    return f"cannot be reached ({error.strerror or error})"
