"""One connection to NATS with sane options: it never gives up, never pretends, and says what it lost.

`client.py` overrides what nats-py does wrong for a service, `options.py` its defaults: endless reconnects with
growing jittered waits, a first connect that is retried for ever, pings every 10 s, TLS that is had when it
was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import nats.errors

from handler_base.errors import HandlerError, InvalidRequest, MessagingError, NotFound, TooLarge
from handler_base.messaging.backoff import Backoff
from handler_base.messaging.client import Client
from handler_base.messaging.options import client_options, wants_tls
from handler_base.messaging.reasons import describe, server_reason
from handler_base.messaging.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from handler_base.messaging.settings import NatsSettings
    from handler_base.messaging.subscription import RawMessage

log = logging.getLogger(__name__)

MAX_SUBJECTS = 3500
"""Longest subject and reply together; the server takes 4096 bytes a line and closes the connection over it."""

_HEADER_FRAME = len("NATS/1.0\r\n\r\n")


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


class Link:
    """A connection that carries bytes. `connect()` returns when there is a server, however long it takes.

    Attributes:
        lame_duck: Set from when the server says that it is about to stop until there is another one.
    """

    def __init__(self, settings: NatsSettings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._client = Client(
            must_use_tls=wants_tls(settings),
            backoff=Backoff(settings.reconnect_wait, settings.reconnect_wait_max),
        )
        self._jetstream: Any = None
        self._subscriptions: list[Subscription] = []
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._state = "not connected yet"
        self._reconnects = 0
        self._dropped = 0
        self._last_error = ""
        self._warned: set[str] = set()
        self.lame_duck = asyncio.Event()

    async def connect(self) -> None:
        """Connect, trying for ever.

        Raises:
            ConfigError: If the settings cannot work on any server.
        """
        await self._client.connect(
            **client_options(self._settings),
            name=self._name,
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            lame_duck_mode_cb=self._lame_duck,
        )
        self._state = self._last_error = ""
        self._warned.clear()
        log.info("connected to NATS", extra={"server": self._client.server})

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call `callback` each time the connection was made again; it must be quick."""
        self._on_reconnect.append(callback)

    def forget(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call `callback` no more after a reconnect."""
        self._on_reconnect.remove(callback)

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
        """nats-py's JetStream context; for the modules of `messaging`."""
        if self._jetstream is None:
            client: Any = self._client
            self._jetstream = client.jetstream()
        return self._jetstream

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses."""
        return self._client.new_inbox()

    def status(self) -> ConnectionStatus:
        """Say how the connection is."""
        return ConnectionStatus(
            connected=self.connected,
            server=self._client.server,
            reconnects=self._reconnects,
            pending_bytes=self._client.unsent,
            pending_messages=sum(subscription.pending for subscription in self._subscriptions),
            dropped=self._dropped,
            last_error=self._last_error,
        )

    async def publish_bytes(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Publish without waiting for anyone; kept for a while when the server is away.

        Raises:
            TooLarge: If it is more than the server takes.
            InvalidRequest: If the subject or a header cannot be sent.
            MessagingError: If it could not be handed over.
        """
        self._check(subject, payload, headers, reply)
        await self._make_room(len(payload))
        try:
            await self._client.publish(
                subject, payload, reply=reply, headers=dict(headers) if headers else None
            )
        except nats.errors.Error as error:
            raise _unsendable(subject, error) from error

    async def request_bytes(
        self, subject: str, payload: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> RawMessage:
        """Send a request and return the first answer.

        Raises:
            NotFound: If nobody listens on the subject.
            TooLarge, InvalidRequest: As `publish_bytes`.
            MessagingError: If there was no answer in time, or no connection.
        """
        self._check(subject, payload, headers)
        await self._make_room(len(payload))
        try:
            return await self._client.request(
                subject, payload, timeout=timeout, headers=dict(headers) if headers else None
            )
        except nats.errors.NoRespondersError as error:
            raise NotFound(f"no service listens on {subject}") from error
        except nats.errors.TimeoutError as error:
            away = "" if self.connected else f"; NATS is away: {self._last_error or 'reconnecting'}"
            raise MessagingError(f"no answer from {subject} within {timeout:g} s{away}") from error
        except nats.errors.Error as error:
            raise _unsendable(subject, error) from error

    async def subscribe(
        self, subject: str, callback: Callable[[RawMessage], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Call `callback` for each message, one at a time; it must be quick.

        Raises:
            MessagingError: If the connection is closed.
        """
        self._check_state()
        subscription = Subscription(self._client, subject, queue, callback, ended=self._subscriptions.remove)
        try:
            await subscription.start()
        except nats.errors.Error as error:
            raise MessagingError(f"cannot subscribe to {subject}: {describe(error)}") from error
        self._subscriptions.append(subscription)
        return subscription

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has seen all that was sent.

        Raises:
            MessagingError: If it does not answer in time.
        """
        if not self.connected:
            raise MessagingError(f"NATS is away: {self._last_error or self._state or 'reconnecting'}")
        try:
            async with asyncio.timeout(timeout):
                await self._client.flush(timeout)  # pyright: ignore[reportArgumentType]
        except (nats.errors.Error, TimeoutError) as error:
            raise MessagingError(f"NATS does not answer within {timeout:g} s") from error

    async def close(self, timeout: float = 5.0) -> None:
        """Send what waits, then close, in about `timeout` seconds at most.

        Raises:
            MessagingError: If accepted messages could not be sent.
        """
        self._state = "closed"
        try:
            if self.connected:
                await self.flush(timeout)
        except MessagingError as error:
            raise MessagingError(f"closed, and the last messages may be lost: {error}") from error
        finally:
            waiting = 0 if self.connected else self._client.unsent
            await self._client.shut(timeout)
        if waiting:
            raise MessagingError(f"closed without a server: {waiting} bytes of accepted messages are lost")

    # -- before sending ----------------------------------------------------------------------------------------

    def _check(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None, reply: str = ""
    ) -> None:
        """Refuse what the server would answer by closing the connection of the whole process."""
        if len(subject) + len(reply) > MAX_SUBJECTS:
            raise InvalidRequest(f"subject {subject[:64]}… is too long")
        size = len(payload)
        try:
            if headers:
                # nats-py does not count headers, the server does.
                size += _HEADER_FRAME + sum(len(k) + len(v.encode()) + 4 for k, v in headers.items())
            subject.encode()
            reply.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"a subject or header is not text: {subject[:64]!r}") from error
        if size > self._client.max_payload:
            raise TooLarge(f"{size} bytes are more than the {self.max_payload} that NATS takes")

    def _check_state(self) -> None:
        if self._state:
            raise MessagingError(f"NATS: {self._last_error or self._state}")

    async def _make_room(self, size: int) -> None:
        """Keep the bytes that wait to be sent within NATS_PENDING_BYTES."""
        self._check_state()
        limit, waiting = self._settings.pending_bytes, self._client.pending_data_size
        if waiting + size <= limit:
            return
        if not self.connected:
            reason = self._last_error or "reconnecting"
            raise MessagingError(
                f"NATS is away ({reason}) and {waiting} bytes wait for it; NATS_PENDING_BYTES is {limit}"
            )
        if waiting:
            try:
                async with asyncio.timeout(self._settings.connect_timeout):
                    await self._client.written()
            except TimeoutError as error:
                raise MessagingError(f"NATS takes nothing; {waiting} bytes wait for it") from error

    # -- what nats-py tells ------------------------------------------------------------------------------------

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self._dropped += 1
            if self._dropped & (self._dropped - 1) == 0:  # 1, 2, 4, 8 …: a flood is not to flood the log too
                log.error(
                    "a full subscription dropped messages",
                    extra={"subject": error.subject, "dropped": self._dropped},
                )
        elif isinstance(error, nats.errors.Error | OSError):
            # An end of file is told again with the server's name.
            if not isinstance(error, nats.errors.UnexpectedEOF):
                self._note(server_reason(error, self._settings.connect_timeout))
        elif isinstance(error, HandlerError):
            log.error("a subscription's callback failed: %s", error)
        else:
            log.error("a subscription's callback failed", exc_info=error)

    def _note(self, reason: str) -> None:
        self._last_error = reason
        if reason not in self._warned:  # once per reason, not once per attempt
            self._warned.add(reason)
            log.warning("NATS: %s", reason)

    async def _disconnected(self) -> None:
        if not self._state:
            log.warning("NATS connection lost; reconnecting")

    async def _reconnected(self) -> None:
        self._reconnects += 1
        self._last_error = ""
        self._warned.clear()
        self.lame_duck.clear()
        log.info("reconnected to NATS", extra={"server": self._client.server, "reconnects": self._reconnects})
        for callback in list(self._on_reconnect):
            try:
                await callback()
            except HandlerError as error:
                log.error("after the reconnect: %s", error)

    async def _lame_duck(self) -> None:
        log.warning(
            "the NATS server is about to stop (lame duck mode); moving to another one if there is one"
        )
        self.lame_duck.set()
        if len(self._client.servers) > 1:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._client.written()
            await self._client.force_reconnect()


def _unsendable(subject: str, error: nats.errors.Error) -> HandlerError:
    if isinstance(error, nats.errors.BadSubjectError | nats.errors.BadHeaderError):
        return InvalidRequest(f"cannot send to {subject[:128]!r}: {describe(error)}")
    return MessagingError(f"cannot send to {subject}: {describe(error)}")
