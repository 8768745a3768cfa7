"""One connection to NATS with sane options: it never gives up, never pretends, and says what it lost.

nats-py's defaults are overridden throughout: endless reconnects with growing jittered waits, a first connect
that is retried for ever, pings every 10 s, TLS that is had when it was asked for, a client that is built anew
when nats-py closes it for good (it does on an authorization error, for instance).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import nats.errors

from handler_base.errors import MessagingError, NotFound, TooLarge
from handler_base.messaging import wire
from handler_base.messaging.options import TLSClient, client_options, wants_tls, without_credentials
from handler_base.messaging.streams import describe
from handler_base.messaging.subscription import Subscription
from handler_messages import ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from google.protobuf.message import Message
    from nats.aio.client import Server

    from handler_base.messaging.settings import NatsSettings
    from handler_base.messaging.subscription import RawMessage

log = logging.getLogger(__name__)

MessageT = TypeVar("MessageT", bound="Message")
MSG_ID = "Nats-Msg-Id"
"""Header by which JetStream drops a message that it has already stored."""


class ConnectionStatus(NamedTuple):
    """What an operator asks about a connection.

    Attributes:
        connected: Whether it works now.
        server: Host and port of the server, without credentials.
        reconnects: How often it was lost and made again.
        pending_bytes: Bytes that wait to be sent.
        pending_messages: Messages received that wait for a callback.
        dropped: Messages that a full subscription threw away.
        last_error: The last thing that went wrong, in words, or "".
    """

    connected: bool
    server: str
    reconnects: int
    pending_bytes: int
    pending_messages: int
    dropped: int
    last_error: str


class StoredMessage(NamedTuple):
    """A message that a stream keeps."""

    data: bytes
    headers: dict[str, str]
    sequence: int


class Connection:
    """The one connection of a process. `connect()` returns when there is a server, however long it takes."""

    def __init__(self, settings: NatsSettings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._client = TLSClient()
        self._subscriptions: list[Subscription] = []
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._rebuilding: asyncio.Task[None] | None = None
        self._closing = False
        self._opened = False
        self._attempts = 0
        self._reconnects = 0
        self._dropped = 0
        self._last_error = ""
        self._warned = ""
        self.lame_duck = asyncio.Event()

    async def connect(self) -> None:
        """Connect, trying for ever.

        Raises:
            ConfigError: If the settings cannot work on any server.
        """
        options = self._options()
        self._client.must_use_tls = wants_tls(self._settings)
        self._opened = True
        await self._client.connect(**options)
        self._last_error = self._warned = ""
        self._attempts = 0
        log.info("connected to NATS", extra={"server": self._server()})

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call `callback` each time the connection was made again."""
        self._on_reconnect.append(callback)

    @property
    def connected(self) -> bool:
        """Whether there is a working connection now."""
        return self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Largest message the server takes, headers included, in bytes."""
        return self._client.max_payload

    @property
    def jetstream(self) -> Any:
        """nats-py's JetStream context of the current client; for the modules of `messaging`."""
        client: Any = self._client
        return client.jetstream()

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses."""
        return self._client.new_inbox()

    def status(self) -> ConnectionStatus:
        """Say how the connection is."""
        return ConnectionStatus(
            connected=self.connected,
            server=self._server(),
            reconnects=self._reconnects,
            pending_bytes=self._client.pending_data_size,
            pending_messages=sum(subscription.pending for subscription in self._subscriptions),
            dropped=self._dropped,
            last_error=self._last_error,
        )

    def _check_size(self, payload: bytes, headers: Mapping[str, str] | None) -> None:
        """Refuse what the server would answer by closing the connection: it counts headers, nats-py does not."""
        size = len(payload)
        if headers:
            size += _HEADER_FRAME + sum(len(k) + len(v.encode()) + 4 for k, v in headers.items())
        if size > self._client.max_payload:
            raise TooLarge(f"{size} bytes are more than the {self.max_payload} that NATS takes")

    async def publish_bytes(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Publish without waiting for anyone; kept for a while when the server is away.

        Raises:
            TooLarge: If it is more than the server takes.
            MessagingError: If it could not be handed over.
        """
        self._check_size(payload, headers)
        try:
            await self._client.publish(
                subject, payload, reply=reply, headers=dict(headers) if headers else None
            )
        except nats.errors.Error as error:
            raise MessagingError(f"cannot publish to {subject}: {describe(error)}") from error

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        kind: str = wire.PROTOBUF,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Publish a message in the given content type; see `publish_bytes`."""
        if kind != wire.PROTOBUF:
            headers = {**(headers or {}), wire.HEADER: kind}
        await self.publish_bytes(subject, wire.encode(message, kind), headers, reply)

    async def store(
        self,
        subject: str,
        payload: bytes,
        *,
        msg_id: str,
        headers: Mapping[str, str] | None = None,
        tries: int = 5,
        timeout: float = 3.0,
    ) -> bool:
        """Publish into a stream and wait until it is stored; safe to repeat thanks to `msg_id`.

        Returns:
            False if the stream had a message with this `msg_id` already.

        Raises:
            TooLarge: If it is more than the server takes.
            MessagingError: If it was not acknowledged after `tries`.
        """
        sent = {**(headers or {}), MSG_ID: msg_id}
        self._check_size(payload, sent)
        last: BaseException | None = None
        for attempt in range(tries):
            if attempt:
                await asyncio.sleep(min(2.0, 0.1 * 2**attempt) * random.uniform(0.5, 1))
            try:
                ack = await self.jetstream.publish(subject, payload, timeout=timeout, headers=sent)
            except nats.errors.Error as error:
                last = error
                continue
            return not ack.duplicate
        assert last is not None
        raise MessagingError(f"{subject} was not stored: {describe(last)}") from last

    async def last_stored(self, stream: str, subject: str) -> StoredMessage | None:
        """Return the newest message of a stream on a subject, as its leader knows it; None without one.

        Raises:
            MessagingError: If the stream does not answer.
        """
        from nats.js.errors import NotFoundError

        try:
            found = await self.jetstream.get_last_msg(stream, subject)
        except NotFoundError:
            return None
        except nats.errors.Error as error:
            raise MessagingError(f"stream {stream} does not answer: {describe(error)}") from error
        return StoredMessage(found.data or b"", dict(found.headers or {}), found.seq or 0)

    async def request_bytes(
        self, subject: str, payload: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> RawMessage:
        """Send a request and return the first answer.

        Raises:
            NotFound: If nobody listens on the subject.
            MessagingError: If there was no answer in time, or no connection.
        """
        self._check_size(payload, headers)
        try:
            return await self._client.request(
                subject, payload, timeout=timeout, headers=dict(headers) if headers else None
            )
        except nats.errors.NoRespondersError as error:
            raise NotFound(f"no service listens on {subject}") from error
        except nats.errors.TimeoutError as error:
            raise MessagingError(f"no answer from {subject} within {timeout:g} s") from error
        except nats.errors.Error as error:
            raise MessagingError(f"cannot send a request to {subject}: {describe(error)}") from error

    async def request(
        self,
        subject: str,
        message: Message,
        answer: type[MessageT],
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> MessageT | ErrorResponse:
        """Send a protobuf request; return the answer, or the `ErrorResponse` that came instead.

        Raises:
            NotFound, MessagingError, TooLarge: As `request_bytes`.
            InvalidRequest: If the answer is neither.
        """
        reply = await self.request_bytes(subject, wire.encode(message), timeout=timeout, headers=headers)
        return decode_answer(reply, answer)

    async def subscribe(
        self, subject: str, callback: Callable[[RawMessage], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Call `callback` for each message, one at a time; it must be quick.

        Raises:
            MessagingError: If the connection is closed.
        """
        subscription = Subscription(self, subject, queue, callback)
        try:
            await subscription.bind(self._client)
        except nats.errors.Error as error:
            raise MessagingError(f"cannot subscribe to {subject}: {describe(error)}") from error
        self._subscriptions.append(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Do not renew `subscription`; called by it when it ends."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has seen all that was sent.

        Raises:
            MessagingError: If it does not answer in time.
        """
        try:
            await self._client.flush(timeout)  # pyright: ignore[reportArgumentType]
        except (nats.errors.Error, TimeoutError) as error:
            raise MessagingError(f"NATS does not answer: {describe(error)}") from error

    async def close(self, timeout: float = 5.0) -> None:
        """Send what waits, then close.

        Raises:
            MessagingError: If accepted messages could not be sent.
        """
        self._closing = True
        if self._rebuilding is not None:
            self._rebuilding.cancel()
        if not self._opened:
            return
        try:
            if self._client.is_connected:
                await self.flush(timeout)
            elif waiting := self._client.pending_data_size:
                raise MessagingError(
                    f"closed without a server: {waiting} bytes of accepted messages are lost"
                )
        finally:
            with contextlib.suppress(OSError):  # flushing to a server that is gone
                await self._client.close()

    def _options(self) -> dict[str, Any]:
        return client_options(self._settings) | {
            "name": self._name,
            "error_cb": self._failed,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._closed,
            "lame_duck_mode_cb": self._lame_duck,
            "reconnect_to_server_handler": self._next_server,
        }

    def _next_server(self, servers: list[Server], info: dict[str, Any]) -> tuple[Server, float]:
        del info
        wait = min(
            self._settings.reconnect_wait_max, self._settings.reconnect_wait * 2 ** min(self._attempts, 16)
        )
        server = servers[self._attempts % len(servers)]
        self._attempts += 1
        return server, 0.0 if self._attempts == 1 else wait * random.uniform(0.5, 1)

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self._dropped += 1
            log.error("a full subscription dropped a message", extra={"subject": error.subject})
            return
        text = describe(error)
        self._last_error = text
        if text != self._warned:  # once per reason, not once per attempt
            self._warned = text
            log.warning("NATS: %s", text, extra={"servers": without_credentials(self._settings.url)})

    async def _disconnected(self) -> None:
        if not self._closing:
            log.warning("NATS connection lost; reconnecting")

    async def _reconnected(self) -> None:
        self._attempts = 0
        self._reconnects += 1
        self._last_error = self._warned = ""
        self.lame_duck.clear()
        log.info("reconnected to NATS", extra={"server": self._server(), "reconnects": self._reconnects})
        for callback in self._on_reconnect:
            await callback()

    async def _lame_duck(self) -> None:
        log.warning(
            "the NATS server is about to stop (lame duck mode); moving to another one if there is one"
        )
        self.lame_duck.set()
        if len(self._client.servers) > 1:
            await self._client.force_reconnect()

    async def _closed(self) -> None:
        """nats-py gave up; start over with a new client, since this process is nothing without NATS."""
        if self._closing or self._rebuilding is not None:
            return
        log.warning(
            "nats-py closed the connection for good (%s); starting over", self._last_error or "no reason"
        )
        self._rebuilding = asyncio.get_running_loop().create_task(self._rebuild(), name="nats-rebuild")

    async def _rebuild(self) -> None:
        try:
            await asyncio.sleep(self._settings.reconnect_wait * random.uniform(0.5, 1.5))
            self._client = TLSClient()
            await self.connect()
            for subscription in self._subscriptions:
                await subscription.bind(self._client)
        finally:
            self._rebuilding = None
        await self._reconnected()

    def _server(self) -> str:
        url = self._client.connected_url
        return f"{url.hostname}:{url.port}" if url is not None else ""


def decode_answer(reply: RawMessage, answer: type[MessageT]) -> MessageT | ErrorResponse:
    """Read an answer that may be an `ErrorResponse` instead.

    The header `Error-Type`, which our services set on every `ErrorResponse`, tells them apart.

    Raises:
        InvalidRequest: If it is neither.
    """
    kind = wire.content_type(reply.headers)
    if reply.headers and ERROR_TYPE in reply.headers:
        return wire.decode(ErrorResponse, reply.data, kind)
    return wire.decode(answer, reply.data, kind)


_HEADER_FRAME = len("NATS/1.0\r\n\r\n")

ERROR_TYPE = "Error-Type"
"""Header on every `ErrorResponse`, with its type, so that a reader need not guess from the bytes."""
