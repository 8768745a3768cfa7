"""How long to wait before something is tried again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff(NamedTuple):
    """Growing waits with jitter, so that a fleet does not come back as one.

    Attributes:
        first: The first wait, in seconds.
        longest: The longest, in seconds.
        jitter: Returns a number between its two arguments.
    """

    first: float
    longest: float
    jitter: Callable[[float, float], float] = random.uniform

    def wait(self, number: int) -> float:
        """Return the wait before the n-th repetition, counted from 1, in seconds."""
        return min(self.longest, self.first * 2 ** min(number - 1, 16)) * self.jitter(0.5, 1)
