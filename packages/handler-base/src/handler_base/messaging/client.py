"""nats-py's client with the behaviour a service needs where nats-py's own would lose, leak or stall.

Every override names what it prevents; the tests show each one against the real server. nats-py's private names
are used here and nowhere else: after an upgrade of nats-py, read this file first.
"""

# nats-py is typed only in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.aio import client as nats_client

from handler_base.messaging.reasons import server_reason
from handler_base.messaging.transport import Transport

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

    from handler_base.messaging.backoff import Backoff

MAX_CONTROL_LINE = 1024 * 1024
"""Longest line taken from the server, in bytes; INFO lists every server of a cluster."""

_CRLF = b"\r\n"
_PING = b"PING\r\n"


class Client(nats_client.Client):
    """One NATS client that never closes by itself.

    Args:
        must_use_tls: Refuse a server that offers no TLS before anything is sent to it.
        backoff: How long to wait before each round over all servers but the first.
    """

    def __init__(self, *, must_use_tls: bool, backoff: Backoff) -> None:
        super().__init__()
        self._must_use_tls = must_use_tls
        self._backoff = backoff
        self._attempts = 0
        self._connected_at = 0.0
        self._ps: Any = ControlLines(self)

    # -- choosing a server and connecting ----------------------------------------------------------------------

    async def _select_next_server(self) -> None:
        """Try the servers in turn: the first round at once, later rounds after growing waits."""
        if not self._attempts and len(self._server_pool) > 1 and self._server_pool[0] is self._current_server:
            self._server_pool.append(self._server_pool.pop(0))  # it has just been lost
        while True:
            _stop_if_cancelled()
            attempt, servers = self._attempts, len(self._server_pool)
            self._attempts += 1
            if attempt >= servers and attempt % servers == 0:
                await asyncio.sleep(self._backoff.wait(attempt // servers))
            server = self._server_pool.pop(0)
            self._server_pool.append(server)
            self._current_server = server
            try:
                await self._connect_to_server(server)
            except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
                await self._error_cb(self._explained(error))
            else:
                return

    async def _connect_to_server(self, s: nats_client.Srv) -> None:
        """Open a new socket; nats-py leaves the tasks and the socket of a failed attempt behind."""
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        if self._transport is not None:
            self._transport.close()
        s.last_attempt = time.monotonic()
        self._transport = Transport()
        await self._transport.connect(
            s.uri,
            buffer_size=nats_client.DEFAULT_BUFFER_SIZE,
            connect_timeout=self.options["connect_timeout"],
        )

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except OSError as error:
            assert isinstance(self._transport, Transport)
            raise self._explained(self._transport.last_words() or error) from error
        except nats.errors.Error as error:
            raise self._explained(error) from error
        _stop_if_cancelled()
        self._connected_at = time.monotonic()

    def _connect_command(self) -> bytes:
        """Refuse to send anything, credentials first of all, in the clear when TLS was asked for."""
        assert isinstance(self._transport, Transport)
        if self._must_use_tls and not self._transport.encrypted:
            raise nats.errors.Error("it offers no TLS, and NATS_URL or NATS_TLS_* asks for it")
        return super()._connect_command()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._must_use_tls and info.get("tls_available"):
            info["tls_required"] = True  # a server that leaves the choice to us
        known: list[str] | None = info.get("connect_urls")
        if known:
            # Pods that are gone would be tried for ever.
            self._server_pool[:] = [
                server
                for server in self._server_pool
                if not server.discovered or server is self._current_server or server.uri.netloc in known
            ]
        await super()._process_info(info, initial_connection)

    def _explained(self, error: Exception) -> nats.errors.Error:
        assert self._current_server is not None
        uri = self._current_server.uri
        reason = server_reason(error, self.options["connect_timeout"])
        return nats.errors.Error(f"{uri.hostname}:{uri.port}: {reason}")

    @property
    def server(self) -> str:
        """Host and port of the server in use, or ""."""
        uri = self.connected_url
        return f"{uri.hostname}:{uri.port}" if uri is not None else ""

    # -- losing the connection ---------------------------------------------------------------------------------

    async def _process_err(self, err_msg: str) -> None:
        """Connect again after any error that ends the connection; nats-py would close for good after most."""
        error = nats.errors.Error(err_msg)
        if "permissions violation" in err_msg:
            await self._error_cb(error)
        else:
            await self._process_op_err(error)

    async def _process_op_err(self, e: Exception) -> None:
        """Say why the connection is lost; nats-py keeps most reasons to itself."""
        if not (self.is_closed or self.is_reconnecting):
            await self._error_cb(self._explained(e))
        await super()._process_op_err(e)

    async def _attempt_reconnect(self) -> None:
        if time.monotonic() - self._connected_at > self._backoff.longest:
            self._attempts = 0  # but not for a server that takes us and throws us out again
        # Subscriptions are renewed by themselves, and the PONGs of old PINGs would be taken for those of new ones.
        self._pending = [command for command in self._pending if command.startswith((b"PUB ", b"HPUB "))]
        self._pending_data_size = sum(map(len, self._pending))
        for pong in self._pongs:
            if not pong.done():
                pong.set_exception(nats.errors.StaleConnectionError())
                pong.exception()  # nobody may be waiting for it
        self._pongs = []
        await super()._attempt_reconnect()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Close; what waits is not written to a connection that has no TLS or no login yet."""
        if not self.is_connected:
            self._discard()
        await super()._close(status, do_cbs)

    async def shut(self, timeout: float) -> None:
        """Close within `timeout` seconds, also when the server reads nothing any more."""
        if self._flush_queue is None:
            return  # never connected
        try:
            async with asyncio.timeout(timeout):
                await self.close()
        except TimeoutError:
            pass
        finally:
            # nats-py leaves the socket open when it was cancelled while it gave up an attempt.
            if isinstance(self._transport, Transport):
                await self._transport.abort()

    def _discard(self) -> None:
        self._pending = []
        self._pending_data_size = 0

    # -- sending -----------------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes accepted that have not been handed to the operating system."""
        buffered = self._transport.buffered if isinstance(self._transport, Transport) else 0
        return self._pending_data_size + (buffered if self.is_connected else 0)

    async def written(self) -> None:
        """Wait until what waits now has been written; nats-py's own wait swallows cancellation."""
        assert self._flush_queue is not None
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._flush_queue.put(done)
        await done

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Send a PING behind what waits, so that its PONG says that the server has seen all of it."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(_PING)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Take a PONG that nobody waits for any more; nats-py's read loop dies of it."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def request(self, *args: Any, **named: Any) -> Any:
        """Send a request; nats-py's `asyncio.wait_for` swallows a cancellation that comes together with the answer.

        Before Python 3.12: https://github.com/python/cpython/issues/86296.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        answer = await super().request(*args, **named)
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
        return answer

    # -- receiving ---------------------------------------------------------------------------------------------

    @classmethod
    def parse_headers(cls, block: bytes) -> dict[str, str]:
        """Read the headers of a stored message, as JetStream's API gives them."""
        return cls._parse_header_lines(block.partition(_CRLF)[2])

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        """Take a message with headers that make no sense as one without; nats-py's read loop dies of them."""
        try:
            return await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError):
            return None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Any:
        """Take subjects that are not UTF-8, which the server lets pass; nats-py's read loop dies of them."""
        return self.msg_class(
            _client=self,
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _sid=sid,
        )

    async def abandon(self, subscription: Subscription) -> None:
        """End a subscription whatever state it is in; after a failed drain nats-py would renew it for ever."""
        sid: int = subscription._id  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        subscription._stop_processing()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if self._subs.pop(sid, None) is not None and self.is_connected:
            await self._send_unsubscribe(sid)


def _stop_if_cancelled() -> None:
    """Let a cancellation through that `asyncio.wait_for` has swallowed, as it may before Python 3.12."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class ControlLines:
    """Reads the server's side of the protocol.

    nats-py's regular expressions take any white space between the parts of a MSG line, and the server lets
    vertical tabs and form feeds pass in subjects: a hostile publisher could end the connection of everybody
    who listens, or put its message into another subscription. The server itself writes single spaces.

    Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._buffer = bytearray()
        self._message: tuple[int, bytes, bytes, int, int] | None = None

    def reset(self) -> None:
        """Forget what has been read so far."""
        self._buffer = bytearray()
        self._message = None

    async def parse(self, data: bytes = b"") -> None:
        """Take bytes from the server and hand what is complete to the client.

        Raises:
            nats.errors.ProtocolError: If they make no sense.
        """
        self._buffer += data
        while True:
            if self._message is None:
                end = self._buffer.find(_CRLF)
                if end < 0:
                    if len(self._buffer) > MAX_CONTROL_LINE:
                        raise nats.errors.ProtocolError
                    return
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 2]
                await self._line(line)
                continue
            sid, subject, reply, header, size = self._message
            if len(self._buffer) < size + 2:
                return
            body = bytes(self._buffer[:size])
            del self._buffer[: size + 2]
            self._message = None
            await self._client._process_msg(  # noqa: SLF001
                sid, subject, reply, body[header:] if header else body, body[:header] or None
            )

    async def _line(self, line: bytes) -> None:
        client = self._client
        verb, _, rest = line.partition(b" ")
        if verb in {b"MSG", b"HMSG"}:
            self._message = _arguments(verb, rest)
        elif verb == b"PING":
            await client._process_ping()  # noqa: SLF001
        elif verb == b"PONG":
            await client._process_pong()  # noqa: SLF001
        elif verb == b"-ERR":
            await client._process_err(rest.decode(errors="replace").strip(" '").lower())  # noqa: SLF001
        elif verb == b"INFO":
            try:
                info = json.loads(rest)
            except ValueError as error:
                raise nats.errors.ProtocolError from error
            await client._process_info(info)  # noqa: SLF001
        elif verb != b"+OK":
            raise nats.errors.ProtocolError


def _arguments(verb: bytes, rest: bytes) -> tuple[int, bytes, bytes, int, int]:
    """Return subscription id, subject, reply, size of the headers, and size of all of a message."""
    numbers = 1 if verb == b"MSG" else 2
    parts = rest.split(b" ")
    if len(parts) - numbers not in {2, 3}:
        raise nats.errors.ProtocolError
    try:
        sid, sizes = int(parts[1]), [int(part) for part in parts[-numbers:]]
    except ValueError as error:
        raise nats.errors.ProtocolError from error
    reply = parts[2] if len(parts) - numbers == 3 else b""
    return sid, parts[0], reply, sizes[0] if numbers == 2 else 0, sizes[-1]
