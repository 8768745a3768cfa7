"""Who is at work on what, so that a cancel on the bus finds it: before it starts, while it runs, not after."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from handler_base.errors import Cancelled, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from handler_base.messaging.context import Context
    from handler_messages import STTInterrupt

REMEMBERED = 4096
"""How many cancels are kept for requests that are not here yet."""

REMEMBER_SECONDS = 600.0
"""How long they are kept."""

BELIEVED_SECONDS = 1.0
"""How old an interrupt may say that it is; clocks that differ by more than that are not believed."""

INTERRUPTED = "somebody began to speak"
"""Why speech was cancelled that was interrupted."""

MAX_REASON = 200
"""How much of a reason is repeated, in characters."""


class Cancellations:
    """The requests at work in this process, by request id and by session id.

    A cancel may overtake its request, or find it waiting in a stream: it is remembered for a while, and the
    request is then stopped before it starts.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._active: dict[int, Context] = {}
        self._early: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._interrupted: OrderedDict[str, float] = OrderedDict()
        self._closed: Stopped | None = None

    def __len__(self) -> int:
        return len(self._active)

    def add(self, context: Context) -> None:
        """Note that `context` is at work.

        Raises:
            Cancelled: If it was cancelled before it came.
            Stopped: The reason given to `close`.
        """
        if self._closed is not None:
            raise self._closed
        early = self._early.get(context.request_id)
        if early is not None and self._clock() - early[0] <= REMEMBER_SECONDS:
            raise cancelled(early[1])
        if not context.follows_session and 0 < context.published <= self._interrupted.get(
            context.session_id, 0.0
        ):
            raise cancelled(INTERRUPTED)
        self._active[id(context)] = context

    def discard(self, context: Context) -> None:
        """Note that `context` is no longer at work."""
        self._active.pop(id(context), None)

    def cancel(self, request_id: str = "", session_id: str = "", reason: str = "") -> int:
        """Stop a request, or all that runs for a session.

        Returns:
            How many were told to stop.
        """
        stopped = 0
        for context in list(self._active.values()):
            if (request_id and context.request_id == request_id) or (
                session_id and context.session_id == session_id
            ):
                stopped += context.stop(cancelled(reason))
        if request_id and not stopped:
            self._early[request_id] = (self._clock(), reason[:MAX_REASON])
            self._early.move_to_end(request_id)
            while len(self._early) > REMEMBERED:
                self._early.popitem(last=False)
        return stopped

    def interrupt(self, interrupt: STTInterrupt) -> int:
        """Stop all speech of a session: what is at work, and what was asked for before and waits in a stream.

        Returns:
            How many were told.
        """
        session_id = interrupt.session_id
        told = 0
        for context in list(self._active.values()):
            if not session_id or context.session_id != session_id:
                continue
            if not context.follows_session:
                told += context.stop(cancelled(INTERRUPTED))
            elif context.on_interrupt is not None:
                context.on_interrupt(interrupt)
                told += 1
        # What was asked for between the interrupt and now is not meant by it.
        now = self._wall_clock()
        age = now - interrupt.timestamp
        self._interrupted[session_id] = interrupt.timestamp if 0 < age <= BELIEVED_SECONDS else now
        self._interrupted.move_to_end(session_id)
        while len(self._interrupted) > REMEMBERED:
            self._interrupted.popitem(last=False)
        return told

    def hand_over(self, reason: Stopped) -> None:
        """Stop following sessions, so that another replica goes on with them: they would outlast any grace time."""
        for context in list(self._active.values()):
            if not context.follows_session:
                continue
            if context.on_stop is not None:
                context.on_stop()
            else:
                context.stop(reason)

    def close(self, reason: Stopped) -> int:
        """Stop all that runs, and whatever comes from now on.

        Returns:
            How many were told to stop.
        """
        self._closed = reason
        return sum(context.stop(reason) for context in list(self._active.values()))


def cancelled(reason: str) -> Cancelled:
    """Say that the caller cancelled, and why when it said so."""
    return Cancelled(f"cancelled: {reason[:MAX_REASON]}" if reason else "cancelled by its caller")
