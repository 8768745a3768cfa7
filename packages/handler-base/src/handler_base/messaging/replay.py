"""A subject of a stream from a point on, in order and without gaps: an ordered consumer, for one reader.

Nothing is acknowledged; whoever reads again sees the same. The consumer is made anew behind the last message read
when one is missing, when the server falls silent, and after a reconnect (ADR-17 of the NATS design documents).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from handler_base.errors import MessagingError, NotFound
from handler_base.messaging.backoff import Backoff
from handler_base.messaging.delivered import PREFIX, Delivered
from handler_base.messaging.streams import ensure_streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage, Subscription

log = logging.getLogger(__name__)

_AGAIN = Backoff(0.2, 5.0)

HEARTBEAT = 5.0
"""How often the server says that it is alive when there is nothing to read, in seconds."""

CLOCK_ERROR = 0.001
"""What is read before `since`, in seconds: a float does not hold the nanoseconds of a stream."""

API_TIMEOUT = 5.0
"""Longest wait for an answer of JetStream's API, in seconds."""

PATIENCE = 2.5 * HEARTBEAT
"""How long the server may be silent before the consumer is made anew, in seconds."""

MOST_HELD = 1024 * 1024
"""Bytes that wait for the reader before the server is asked to wait too; a few megabytes are on their way then."""

OVERHEAD = 1024
"""What a message takes besides its bytes."""


class Replayed(NamedTuple):
    """One message of a replay.

    Attributes:
        raw: Its subject, bytes and headers.
        sequence: Its number in the stream.
        published: Unix time in seconds when the stream took it.
        pending: How many more the stream had when it was sent; 0 for the newest.
    """

    raw: RawMessage
    sequence: int
    published: float
    pending: int


class Replay:
    """An async iterator over what a stream has, and will have, on one subject. Enter it with `async with`.

    Args:
        connection: The connection.
        stream: Name of the stream; it is made if it does not exist.
        subject: The subject, without wildcards.
        since: Unix time in seconds of the first message; 0 for the oldest there is.
    """

    def __init__(self, connection: Connection, stream: str, subject: str, *, since: float = 0.0) -> None:
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._since = since
        self._messages: deque[Replayed] = deque()
        self._wake = asyncio.Event()
        self._broken = ""
        self._last = 0
        self._created = ""
        self._expected = 0
        self._inbox = ""
        self._name = ""
        self._heard = 0.0
        self._pending = -1
        self._go_on = ""
        self._held = 0
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        """Begin to read.

        Raises:
            MessagingError: If the stream cannot be read now.
        """
        self._connection.on_reconnect(self._reconnected)
        try:
            await self._open()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.forget(self._reconnected)
        await self._drop()

    def __aiter__(self) -> AsyncIterator[Replayed]:
        return self

    async def __anext__(self) -> Replayed:
        return await self.next()

    @property
    def caught_up(self) -> bool:
        """Whether all that the stream had is read."""
        return self._pending == 0 and not self._messages

    async def next(self, timeout: float | None = None) -> Replayed:
        """Return the next message, however long it takes.

        Args:
            timeout: Seconds to wait at most; None for ever.

        Raises:
            TimeoutError: If none comes in time.
        """
        if not self._messages:
            async with asyncio.timeout(timeout):
                while not self._messages:
                    await self._wait()
        message = self._messages.popleft()
        self._pending = message.pending
        self._held -= len(message.raw.data) + OVERHEAD
        if self._go_on and self._held < MOST_HELD // 2:
            await self._let_go_on(self._go_on)
        return message

    async def history(self) -> list[Replayed]:
        """Return all that the stream has now; what comes later is read as usual.

        Raises:
            MessagingError: If the stream does not send it.
        """
        found: list[Replayed] = []
        while not self.caught_up:
            try:
                found.append(await self.next(HEARTBEAT + API_TIMEOUT))
            except TimeoutError as error:
                if self.caught_up:  # what was still to come has grown too old meanwhile
                    break
                raise MessagingError(
                    f"{self._stream} does not send what it has on {self._subject}"
                ) from error
        return found

    async def _wait(self) -> None:
        """Wait for something to happen; make the consumer anew when it is broken or silent."""
        self._wake.clear()
        if not self._broken:
            try:
                async with asyncio.timeout_at(self._heard + PATIENCE):
                    await self._wake.wait()
            except TimeoutError:
                if asyncio.get_running_loop().time() - self._heard >= PATIENCE:
                    self._broken = "the server is silent"
        if self._broken:
            await self._again(self._broken)

    # -- the consumer ------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Make a consumer behind the last message read.

        Raises:
            MessagingError: If it cannot be made.
        """
        await ensure_streams(self._connection.jetstream, [self._stream])
        await self._look_at_the_stream()
        await self._drop()
        self._expected = 1
        self._go_on = ""
        self._inbox = self._connection.new_inbox()
        self._name = self._inbox.rsplit(".", 1)[-1]
        # To the server a subscription with a wildcard is no interest: each consumer has an inbox of its own.
        self._subscription = await self._connection.subscribe(self._inbox, self._arrived)
        config: dict[str, Any] = {
            "name": self._name,
            "deliver_subject": self._inbox,
            "filter_subject": self._subject,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT * 1e9),
            # Dropped by itself when we crash.
            "inactive_threshold": int(30e9),
            **self._start(),
        }
        order = {"stream_name": self._stream, "config": config, "action": "create"}
        subject = f"$JS.API.CONSUMER.CREATE.{self._stream}.{self._name}.{self._subject}"
        self._heard = asyncio.get_running_loop().time()
        # Messages may come before the answer does.
        why, self._broken = self._broken, ""
        try:
            made = await self._ask(subject, order)
        except BaseException:
            self._broken = why or "there is no consumer"
            raise
        if not self._messages:
            self._pending = made.num_pending

    async def _look_at_the_stream(self) -> None:
        """Begin anew in a stream that was: the numbers of one that was in memory are worth nothing any more."""
        created = (await self._ask(f"$JS.API.STREAM.INFO.{self._stream}", None)).created
        if created != self._created:
            self._created, self._last = created, 0

    async def _ask(self, subject: str, order: object) -> _Answer:
        try:
            payload = b"" if order is None else msgspec.json.encode(order)
            reply = await self._connection.request_bytes(subject, payload, timeout=API_TIMEOUT)
            answer = msgspec.json.decode(reply.data, type=_Answer)
        except NotFound as error:
            raise MessagingError(f"{self._subject} cannot be read: JetStream is not enabled") from error
        except msgspec.DecodeError as error:
            raise MessagingError(f"{self._subject} cannot be read: {error}") from error
        if answer.error is not None:
            raise MessagingError(f"{self._subject} cannot be read: {answer.error.description}")
        return answer

    def _start(self) -> dict[str, Any]:
        if self._last:
            return {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1}
        if self._since:
            start = datetime.fromtimestamp(self._since - CLOCK_ERROR, UTC).isoformat().replace("+00:00", "Z")
            return {"deliver_policy": "by_start_time", "opt_start_time": start}
        return {"deliver_policy": "all"}

    async def _drop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.close()
        if self._name:
            with contextlib.suppress(MessagingError, NotFound):
                await self._connection.publish_bytes(
                    f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}", b""
                )
            self._name = ""

    async def _again(self, why: str) -> None:
        """Make the consumer anew, and again until it works."""
        log.warning("reading %s again: %s", self._stream, why)
        tries = 0
        while True:
            try:
                await self._open()
            except MessagingError as error:
                tries += 1
                log.warning("%s", error)
                await asyncio.sleep(_AGAIN.wait(tries))
            else:
                return

    async def _reconnected(self) -> None:
        # The consumer lived in the memory of a server that may be gone.
        self._break("connected again")

    def _break(self, why: str) -> None:
        self._broken = why
        self._wake.set()

    async def _arrived(self, raw: RawMessage) -> None:
        if not raw.reply.startswith(PREFIX):
            await self._status(raw)
            return
        meta = Delivered.parse(raw.reply)
        if meta.consumer != self._name or self._broken:
            return
        self._heard = asyncio.get_running_loop().time()
        if meta.number != self._expected:
            self._break(f"message {self._expected} is missing")
            return
        self._expected += 1
        self._last = meta.sequence
        self._held += len(raw.data) + OVERHEAD
        self._messages.append(Replayed(raw, meta.sequence, meta.published, meta.pending))
        self._wake.set()

    async def _status(self, raw: RawMessage) -> None:
        """Take a heartbeat, or a request for flow control, which waits until the reader has room."""
        if raw.subject != self._inbox:
            return
        headers = raw.headers or {}
        self._heard = asyncio.get_running_loop().time()
        last = int(headers.get("Nats-Last-Consumer", "0"))
        if go_on := raw.reply or headers.get("Nats-Consumer-Stalled", ""):
            if self._held < MOST_HELD:
                await self._let_go_on(go_on)
            else:
                self._go_on = go_on
        elif last >= self._expected and not self._broken:
            self._break(f"message {self._expected} is missing")
        elif last and not self._messages:
            # The server is idle: nothing more is to come, whatever it expected before.
            self._pending = 0

    async def _let_go_on(self, subject: str) -> None:
        self._go_on = ""
        await self._connection.publish_bytes(subject, b"")


class _ApiError(msgspec.Struct):
    description: str = ""


class _Answer(msgspec.Struct):
    """What the server says of a stream or of a new consumer."""

    created: str = ""
    num_pending: int = 0
    error: _ApiError | None = None
