"""One durable message from delivery to verdict: answered before, worked on, retried, or buried.

See `docs/decisions/0003-delivery.md` for the order of the steps and what a crash between any two leaves behind.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from typing import TYPE_CHECKING

from handler_base import telemetry
from handler_base.errors import (
    INTERNAL,
    HandlerError,
    MessagingError,
    ShuttingDown,
    Stopped,
    TooLarge,
    unquoted,
)
from handler_base.messaging import wire
from handler_base.messaging.alone import Alone
from handler_base.messaging.connection import MSG_ID
from handler_base.messaging.context import TIMEOUT_HEADER
from handler_base.messaging.worker import encode_answer
from handler_messages import ErrorResponse, subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

    from handler_base.messaging.connection import Connection, StoredMessage
    from handler_base.messaging.context import Context
    from handler_base.messaging.delivered import Delivered
    from handler_base.messaging.settings import WorkSettings
    from handler_base.messaging.subscription import RawMessage
    from handler_base.messaging.worker import Route, Worker

log = logging.getLogger(__name__)

ACK = b"+ACK"
TERM = b"+TERM"
PROGRESS = b"+WPI"

SPARE_DELIVERIES = 2
"""Deliveries after the last attempt, for work that a stopping replica handed back: that was no failure."""

HEADER_BYTES = 32 * 1024
"""Most that is kept of a dead letter's own headers; JetStream takes 64 KiB with ours."""

# Field names of RFC 9110, section 5.1: what nats-py sends.
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class DeliveredMessage:
    """One message at work, and its context."""

    __slots__ = ("context", "meta", "raw")

    def __init__(self, raw: RawMessage, meta: Delivered, context: Context) -> None:
        self.raw = raw
        self.meta = meta
        self.context = context


class DeliveryProcess:
    """Takes the messages of one route through the steps.

    Args:
        connection: Where results and verdicts go.
        worker: Runs the handlers.
        route: The handler.
        settings: Limits and patience.
        service: What results and dead letters are called after.
        doubted: Called when NATS did not do its part, so that streams are looked after.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        connection: Connection,
        worker: Worker,
        route: Route,
        settings: WorkSettings,
        *,
        service: str,
        doubted: Callable[[], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._worker = worker
        self._route = route
        self._settings = settings
        self._service = service
        self._doubted = doubted
        self._wall_clock = wall_clock
        # A second message for the same result waits for the first, and finds the answer.
        self._alone = Alone()

    async def process(self, delivery: DeliveredMessage) -> None:
        """Work on one message and settle it. The top of a durable handler: no error gets past it."""
        context, meta = delivery.context, delivery.meta
        loop = asyncio.get_running_loop()
        context.attempt = meta.attempt
        context.last_attempt = meta.attempt >= self._settings.max_attempts
        context.queue_wait = max(0.0, self._wall_clock() - meta.published)
        context.published = meta.published
        context.sequence = meta.sequence
        if telemetry.enabled():
            telemetry.record("handler.queue.wait", context.queue_wait, subject=self._route.subject.template)
        error: BaseException | None = None
        try:
            with self._worker.span(self._route, context) as span:
                try:
                    await self._attempt(delivery)
                except Exception as failed:  # noqa: BLE001 - the top of a handler
                    error = failed
                    span.error(failed)
                    self._worker.log_bug(failed, context)
                    await self._settle_failed(delivery, failed)
                finally:
                    span.set("handler.request_id", context.request_id)
                    span.set("handler.attempt", context.attempt)
        finally:
            self._worker.count(self._route, loop.time() - context.received, error)

    async def _attempt(self, delivery: DeliveredMessage) -> None:
        route, context, meta = self._route, delivery.context, delivery.meta
        derived = f"{meta.stream}-{meta.sequence}"
        request = self._worker.open(route, delivery.raw, context, derived)
        async with self._alone.under(self._result_id(context)):
            if (meta.attempt > 1 or context.request_id != derived) and await self._answered(delivery):
                return
            if meta.attempt > self._settings.max_attempts + SPARE_DELIVERIES:
                raise _Exhausted(f"delivered {meta.attempt} times and never finished")
            # The caller's own deadline runs from when it published; ours must not eat the time a message waited
            # patiently.
            own = wire.header(context.headers, TIMEOUT_HEADER) is not None
            since = context.received - (context.queue_wait if own else 0.0)
            answer = await self._worker.perform(route, context, request, since)
            if answer is not None:
                await self._publish(delivery, answer)
        await self.settle(delivery, ACK)

    async def _answered(self, delivery: DeliveredMessage) -> bool:
        """Whether the request has its result already; if so, it is settled and sent to where it was asked for."""
        route, context = self._route, delivery.context
        if route.response is None or not route.response.stream:
            return False
        subject = self._worker.response_subject(route, context, delivery.raw.subject)
        stored = await self._stored(context, subject) if subject else None
        if stored is None:
            return False
        log.info("answered before", extra={"request_id": context.request_id, "attempt": context.attempt})
        if context.response_subject not in {"", subject}:
            await self._connection.publish_bytes(context.response_subject, stored.data, stored.headers)
        await self.settle(delivery, ACK)
        return True

    async def _publish(self, delivery: DeliveredMessage, answer: Message) -> None:
        """Record the result where redeliveries look for it, and send it where it was asked for."""
        route, context = self._route, delivery.context
        if route.response is None:
            if route.failed is not None and isinstance(answer, ErrorResponse):
                await route.failed(context, answer)
            return
        subject = self._worker.response_subject(route, context, delivery.raw.subject)
        payload, headers = encode_answer(answer, context.kind)
        if subject:
            try:
                await self._record(context, subject, payload, headers)
            except TooLarge as error:
                answer = wire.error_response(error, context.request_id)
                payload, headers = encode_answer(answer, context.kind)
                await self._record(context, subject, payload, headers)
        if context.response_subject not in {"", subject}:
            headers = {**(headers or {}), MSG_ID: self._result_id(context)}
            await self._connection.publish_bytes(context.response_subject, payload, headers)

    async def _record(
        self, context: Context, subject: str, payload: bytes, headers: dict[str, str] | None
    ) -> None:
        """Store a result, unless it is there; see `Connection.record`."""
        assert self._route.response is not None
        stream, msg_id = self._route.response.stream, self._result_id(context)
        await self._connection.record(stream, subject, payload, msg_id=msg_id, headers=headers)

    async def _stored(self, context: Context, subject: str) -> StoredMessage | None:
        assert self._route.response is not None
        stored = await self._connection.last_stored(self._route.response.stream, subject)
        if stored is None or stored.headers.get(MSG_ID) != self._result_id(context):
            return None
        return stored

    async def _settle_failed(self, delivery: DeliveredMessage, error: Exception) -> None:
        """Take a failure to its verdict; what cannot be said or buried now is handed back."""
        context, problems = delivery.context, [error]
        try:
            await self._failed(delivery, error)
        except Exception as again:  # noqa: BLE001 - the top of a handler
            problems.append(again)
            self._worker.log_bug(again, context)
            log.error("handed back: %s", unquoted(again), extra={"request_id": context.request_id})
            await self.settle(delivery, nak(self._delay(context.attempt)))
        if any(isinstance(problem, MessagingError) for problem in problems):
            self._doubted()

    async def _failed(self, delivery: DeliveredMessage, error: Exception) -> None:
        context = delivery.context
        retryable = error.retryable if isinstance(error, HandlerError) else True
        if isinstance(error, ShuttingDown):
            await self.settle(delivery, nak(0))
            return
        if retryable and not context.last_attempt and not isinstance(error, Stopped | _Exhausted):
            delay = self._delay(context.attempt, getattr(error, "retry_after", None))
            log.warning(
                "attempt %d failed, again in %.1f s: %s",
                context.attempt,
                delay,
                unquoted(error),
                extra={"request_id": context.request_id},
            )
            await self.settle(delivery, nak(delay))
            return
        if not isinstance(error, Stopped):
            await self._bury(delivery, error)
        await self._publish(delivery, wire.error_response(error, context.request_id))
        await self.settle(delivery, ACK if isinstance(error, Stopped) else TERM)

    async def _bury(self, delivery: DeliveredMessage, error: Exception) -> None:
        """Keep what cannot succeed in the dead-letter stream: original bytes, headers, reason, attempts."""
        raw, meta = delivery.raw, delivery.meta
        kind = error.type if isinstance(error, HandlerError) else INTERNAL
        log.error(
            "dead letter: %s",
            unquoted(error),
            extra={"request_id": delivery.context.request_id, "type": kind, "sequence": meta.sequence},
        )
        ours = {
            "Dead-Letter-Reason": _reason(error),
            "Dead-Letter-Type": kind,
            "Dead-Letter-Subject": raw.subject,
            "Dead-Letter-Stream": meta.stream,
            "Dead-Letter-Sequence": str(meta.sequence),
            "Dead-Letter-Attempts": str(meta.attempt),
        }
        subject = subjects.DEAD_LETTER.build(service=self._service)
        msg_id = f"{self._service}-{meta.stream}-{meta.sequence}-{meta.published:.9f}"
        kept = _sendable(raw.headers)
        # The original may fill the server's limit by itself; it stays in its stream under its sequence.
        cut = {**ours, "Dead-Letter-Truncated": str(len(raw.data))}
        room = max(0, self._connection.max_payload - HEADER_BYTES - 8192)
        forms = ((raw.data, kept | ours), (raw.data[:room], kept | cut), (b"", cut))
        for number, (data, headers) in enumerate(forms, 1):
            try:
                await self._connection.store(subject, data, msg_id=msg_id, headers=headers)
            except TooLarge:
                if number == len(forms):
                    raise
            else:
                return

    async def settle(self, delivery: DeliveredMessage, verdict: bytes) -> None:
        """Tell JetStream what became of a message; if that fails, it is delivered again and found answered."""
        try:
            await self._connection.publish_bytes(delivery.raw.reply, verdict)
        except MessagingError as error:
            log.warning(
                "could not settle a message: %s", error, extra={"request_id": delivery.context.request_id}
            )

    def _result_id(self, context: Context) -> str:
        # With the user in it: who guesses another's request id neither gets that answer nor keeps it from coming.
        sender = f"{context.user_id}." if context.user_id else ""
        return f"{self._service}.{sender}{context.request_id}"

    def _delay(self, attempt: int, asked: float | None = None) -> float:
        delay = min(self._settings.retry_delay_max, self._settings.retry_delay * 2 ** min(attempt - 1, 20))
        return max(delay * random.uniform(0.75, 1.25), min(asked or 0.0, self._settings.retry_delay_max))


class _Exhausted(HandlerError):
    """Too many deliveries without an end, for instance because the message kills the process."""

    type = INTERNAL


def nak(delay: float) -> bytes:
    """Return the verdict that hands a message back for redelivery after `delay` seconds."""
    return b"-NAK" if delay <= 0 else b'-NAK {"delay": %d}' % int(delay * 1e9)


def _sendable(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers of a message that can be sent once more; the server takes more than a client may send."""
    kept: dict[str, str] = {}
    room = HEADER_BYTES
    for name, value in (headers or {}).items():
        room -= len(name) + len(value.encode()) + 4
        if room >= 0 and _HEADER_NAME.fullmatch(name) and not name.startswith("Nats-"):
            kept[name] = value
    return kept


def _reason(error: Exception) -> str:
    return str(error)[:500] if isinstance(error, HandlerError) else f"{type(error).__name__}: {error}"[:500]
