"""When to try again, and how long to wait before.

What may be repeated depends on what can have happened at the other end. A connection that was never established
did nothing there, so every call may be tried again. Anything later may have had its effect: a refusal for load
(429, 503) and a loss are repeated only for calls that say they are safe to repeat.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Literal

from handler_base.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from handler_base.http._failures import Broken, NotConnected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Repeat = Literal["never", "unstarted", "always"]
"""What of a call may be repeated after it reached the endpoint: nothing; what the endpoint refused or dropped
before the first byte of an answer (429, 503, an idle connection closed under us); or anything that may pass."""

FIRST_DELAY = 0.1
"""Seconds before the second try, before jitter; doubled for each further one."""


class Backoff:
    """Growing, jittered pauses.

    Args:
        retries: Further tries after the first.
        longest: Longest pause in seconds.
        sleep: Waits; a test passes its own.
        uniform: Draws between two numbers; a test passes its own.
    """

    def __init__(
        self,
        retries: int,
        longest: float,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.retries = retries
        self._longest = longest
        self._sleep = sleep
        self._uniform = uniform

    def delay(self, failures: int, error: UpstreamError) -> float | None:
        """Return the seconds to wait after so many failures, or None to give up.

        The endpoint's own `Retry-After` is obeyed; if it asks for longer than we wait at most, we give up and
        leave the decision to the caller, who gets it in the error.
        """
        if failures > self.retries:
            return None
        asked = error.retry_after or 0.0
        if asked > self._longest:
            return None
        grown = min(self._longest, FIRST_DELAY * 2.0 ** (failures - 1))
        return max(asked, self._uniform(grown / 2, grown))

    async def wait(self, delay: float) -> None:
        """Wait; cancellation ends it at once."""
        await self._sleep(delay)


def may_repeat(error: UpstreamError, repeat: Repeat) -> bool:
    """Whether a call that failed with `error` may be tried again.

    Args:
        error: The mapped error; its cause is what the engine raised.
        repeat: What the call allows.
    """
    cause = error.__cause__
    if isinstance(cause, NotConnected):
        return True
    if repeat == "never":
        return False
    if error.status in {429, 503}:
        return True
    if isinstance(cause, Broken) and cause.reused and not cause.started:
        return True
    return repeat == "always" and isinstance(error, (UpstreamUnavailable, UpstreamTimeout))
