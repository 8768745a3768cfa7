"""The socket under `client.py`: it tells an end from a line, turns to TLS, and closes in bounded time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import nats.errors
from nats.aio.transport import TcpTransport

if TYPE_CHECKING:
    import ssl
    from urllib.parse import ParseResult

CLOSE_TIMEOUT = 2.0
"""How long a closed connection may still send what it has buffered, in seconds."""


class Transport(TcpTransport):
    """A TCP connection that tells an end from a line, and closes in bounded time."""

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        """Connect; nats-py's own may lose a socket when it is cancelled."""
        async with asyncio.timeout(connect_timeout):
            reader, writer = await asyncio.open_connection(uri.hostname, uri.port, limit=buffer_size)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._io_writer is not None and self._io_writer.get_extra_info("ssl_object") is not None

    @property
    def buffered(self) -> int:
        """Bytes that the operating system has not taken yet."""
        return self._io_writer.transport.get_write_buffer_size() if self._io_writer is not None else 0

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        """Turn to TLS; after a handshake that failed nats-py waits for ever for the end of the plain connection."""
        assert self._io_writer is not None
        plain = self._io_writer.transport
        try:
            await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)  # pyright: ignore[reportArgumentType]
        except BaseException:
            plain.abort()
            self._io_reader = self._io_writer = None
            raise

    def writelines(self, payload: list[bytes]) -> None:
        """Write in one piece: `writelines` of asyncio knows no back-pressure before Python 3.12.9 and 3.13.2."""
        assert self._io_writer is not None
        self._io_writer.write(b"".join(payload))

    async def readline(self) -> bytes:
        """Read one line of the handshake; nats-py takes an end, or an error in place of INFO, for success."""
        try:
            line = await super().readline()
        except ValueError as error:
            raise nats.errors.Error("it does not speak the NATS protocol") from error
        if not line:
            raise ConnectionResetError("it closed the connection")
        if refused := _refusal(line):
            raise refused
        return line

    def last_words(self) -> nats.errors.Error | None:
        """Return the error that the server has sent before it cut us off in the middle of a sentence."""
        unread: bytes = bytes(getattr(self._io_reader, "_buffer", b""))
        return next(filter(None, map(_refusal, unread.split(b"\r\n"))), None)

    async def wait_closed(self) -> None:
        """Wait until it is closed; it may have been broken before.

        A task of its own waits, since a cancelled `StreamWriter.wait_closed` makes every later one fail.
        """
        if self._io_writer is not None:
            waiting = asyncio.ensure_future(self._io_writer.wait_closed())
            waiting.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.wait([waiting], timeout=2 * CLOSE_TIMEOUT)

    async def abort(self) -> None:
        """Close at once; what is not sent is lost."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()
            await self.wait_closed()

    def close(self) -> None:
        """Close; a peer that reads nothing would keep nats-py waiting for ever."""
        if self._io_writer is None:
            return
        transport = self._io_writer.transport
        if not transport.is_closing():
            super().close()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, transport.abort)


def _refusal(line: bytes) -> nats.errors.Error | None:
    if not line.startswith(b"-ERR"):
        return None
    return nats.errors.Error(line[4:].decode(errors="replace").strip(" '\r\n"))
