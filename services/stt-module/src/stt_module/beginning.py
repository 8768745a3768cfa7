"""Which messages around a `start` are of the session that it starts. No I/O, no clock.

The `start` is in another stream than the rest: which of two messages was first is not certain where they are close.
And an id may be used again: what an `end` ends that somebody sent right before the `start` is the session before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handler_messages import STTStreamMessage

CLOSE = 0.05
"""How far apart messages are of which it is certain which was first, in seconds."""

AFTER_END = 0.3
"""How long an `end` close to the `start` waits for chunks behind it, in seconds."""


class Beginning:
    """Holds the first messages of a session until it is clear which are its own.

    Args:
        start: Unix time at which the `start` was published.
    """

    def __init__(self, start: float) -> None:
        self.since = start - CLOSE
        """From when on messages are of interest."""
        self._until = start + CLOSE
        self._held: list[tuple[STTStreamMessage, float]] = []
        self._over = False

    @property
    def due(self) -> float:
        """When what is held is to be released, in the time of the stream; infinite when nothing is."""
        if self._over or not self._held:
            return math.inf
        return self._until + (AFTER_END if self._held[-1][0].type == "end" else 0.0)

    def hold(self, message: STTStreamMessage, published: float) -> bool:
        """Hold a message, if it is among the first; False if it is later than those."""
        if self._over or published >= self._until:
            return False
        self._held.append((message, published))
        return True

    def release(self, *, followed: bool) -> list[tuple[STTStreamMessage, float]]:
        """Return what is the session's own of what is held, once.

        Args:
            followed: Whether another message follows.
        """
        held, self._held = self._held, []
        self._over = True
        ends = [number for number, (message, _) in enumerate(held, 1) if message.type == "end"]
        if ends and ends[-1] == len(held) and not followed:
            ends.pop()
        return held[ends[-1] :] if ends else held
