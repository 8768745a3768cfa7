"""One request at work: who asked, in which format, until when, and how to stop it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from handler_base import telemetry
from handler_base.errors import HandlerError, InvalidRequest, Stopped
from handler_base.messaging import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from google.protobuf.message import Message

    from handler_base.messaging.connection import Connection
    from handler_messages import STTInterrupt

TIMEOUT_HEADER = "Request-Timeout-Ms"
"""Header with the milliseconds that the caller is willing to wait, from when it published."""

MESSAGE_TYPE = "Message-Type"
"""Header with the name of the message, on subjects that carry more than one."""

MAX_TIMEOUT = 24 * 3600.0
"""Longest deadline accepted, in seconds."""


class Context:
    """What a handler knows about its request beside the message itself.

    Attributes:
        request_id: The request's id; made up when the caller gave none.
        session_id: The request's session, or "".
        user_id: Who asks, or ""; certain for a subject that names the user, otherwise as the message says.
        response_subject: Where its sender asked for the result, checked; "" for the default.
        subject: Where the request came in.
        kind: Its content type; results go out in the same.
        headers: Its NATS headers.
        attempt: 1 for the first delivery, growing with each redelivery.
        durable: Whether it comes from a stream and may be delivered again.
        last_attempt: Whether a failure of this attempt is final.
        received: When it came in, in the loop's time.
        queue_wait: Seconds it waited in its stream before this delivery.
        published: Unix time in seconds when its stream took it, 0 for request/reply.
        sequence: Its number in its stream, 0 for request/reply.
        follows_session: Whether the work is to follow the session itself: an interrupt of its speech does not stop it.
        on_interrupt: Called with such an interrupt.
        on_stop: Called when the service is about to stop, in place of handing the session back at once; whoever sets it
            raises `ShuttingDown` soon.
    """

    __slots__ = (
        "_connection",
        "_deadline",
        "_reason",
        "_task",
        "attempt",
        "durable",
        "follows_session",
        "headers",
        "kind",
        "last_attempt",
        "on_interrupt",
        "on_stop",
        "published",
        "queue_wait",
        "received",
        "request_id",
        "response_subject",
        "sequence",
        "session_id",
        "subject",
        "user_id",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        subject: str,
        kind: str = wire.PROTOBUF,
        headers: Mapping[str, str] | None = None,
        request_id: str = "",
        session_id: str = "",
        attempt: int = 1,
        durable: bool = False,
        last_attempt: bool = True,
        received: float = 0.0,
        queue_wait: float = 0.0,
    ) -> None:
        self._connection = connection
        self.subject = subject
        self.kind = kind
        self.headers: Mapping[str, str] = headers or {}
        self.request_id = request_id
        self.session_id = session_id
        self.user_id = ""
        self.response_subject = ""
        self.attempt = attempt
        self.durable = durable
        self.last_attempt = last_attempt
        self.received = received
        self.queue_wait = queue_wait
        self.published = 0.0
        self.sequence = 0
        self.follows_session = False
        self.on_interrupt: Callable[[STTInterrupt], None] | None = None
        self.on_stop: Callable[[], None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._reason: Stopped | None = None
        self._deadline = 0.0

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    @property
    def max_payload(self) -> int:
        """Largest message that NATS takes, headers included, in bytes."""
        return self._connection.max_payload

    async def publish(self, subject: str, message: Message, *, named: bool = False) -> None:
        """Publish something on the way to the result, in the request's format and with its trace.

        Args:
            subject: Where.
            message: What.
            named: Whether to send the message's name along, for subjects that carry more than one.
        """
        headers: dict[str, str] | None = {MESSAGE_TYPE: message.DESCRIPTOR.name} if named else None
        if telemetry.enabled():
            headers = headers or {}
            telemetry.inject(headers)
        await self._connection.publish(subject, message, kind=self.kind, headers=headers)

    async def store(self, subject: str, message: Message, *, msg_id: str) -> bool:
        """Publish something that its stream must have before the work goes on; see `Connection.store`.

        Returns:
            False if the stream had a message with this `msg_id` already.

        Raises:
            TooLarge, MessagingError: If it was not stored.
        """
        headers: dict[str, str] = {} if self.kind == wire.PROTOBUF else {wire.HEADER: self.kind}
        telemetry.inject(headers)
        payload = wire.encode(message, self.kind)
        return await self._connection.store(subject, payload, msg_id=msg_id, headers=headers)

    def conclude(self) -> None:
        """Say that the end of the result goes out now: from here on it is too late to stop the work."""
        self._task = None

    def will_retry(self, error: BaseException) -> bool:
        """Whether the request is delivered again after `error`, so that it is not the end for its caller."""
        if not self.durable or self.last_attempt:
            return False
        return error.retryable if isinstance(error, HandlerError) else not isinstance(error, Stopped)

    @property
    def stop_reason(self) -> Stopped | None:
        """Why the work was told to stop, or None."""
        return self._reason

    def stop(self, reason: Stopped) -> bool:
        """Tell the work to stop: cancels its task, which closes what it has open upstream.

        Returns:
            False if it is too late: the work is done or was stopped before.
        """
        if self._task is None or self._reason is not None:
            return False
        self._reason = reason
        self._task.cancel()
        return True

    async def run(
        self, work: Coroutine[Any, Any, Message | None], deadline: float, expired: Stopped
    ) -> Message | None:
        """Await `work` in the current task until it ends, is stopped, or its deadline passes.

        Args:
            work: The handler's coroutine.
            deadline: In the loop's time.
            expired: What to raise when the deadline passes.

        Raises:
            Stopped: The reason given to `stop`.
        """
        loop = asyncio.get_running_loop()
        self._deadline = deadline
        if deadline <= loop.time():
            work.close()
            raise expired
        task = self._task = asyncio.current_task()
        assert task is not None
        timer = loop.call_at(deadline, self.stop, expired)
        interrupted = False
        try:
            return await work
        except asyncio.CancelledError:
            interrupted = True
            if self._reason is None:
                raise
            raise self._reason from None
        except Exception as error:
            if self._reason is not None:
                raise self._reason from error
            raise
        finally:
            timer.cancel()
            self._task = None
            if self._reason is not None:
                if not interrupted:
                    # Told to stop in its very last step: the cancellation is still to come, and is not for what follows.
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(0)
                task.uncancel()


def timeout_of(headers: Mapping[str, str] | None, default: float) -> float:
    """Return the seconds that the caller gives the request.

    Raises:
        InvalidRequest: If the header is not a number of milliseconds above zero.
    """
    text = wire.header(headers, TIMEOUT_HEADER)
    if text is None:
        return default
    try:
        milliseconds = min(int(text), int(MAX_TIMEOUT * 1000))
    except ValueError:
        milliseconds = 0
    if milliseconds <= 0:
        raise InvalidRequest(
            f"header {TIMEOUT_HEADER}: {text[:40]!r} is not a number of milliseconds above zero"
        )
    return milliseconds / 1000
