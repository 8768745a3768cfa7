"""What goes wrong at a scripted Argo Server: told one by one, every n-th time, or by a seeded die."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

How = Literal["500", "503", "cut", "stall"]


class Fault(NamedTuple):
    """One fault.

    Attributes:
        how: An error, a cut connection, or no answer ever.
        after: Whether the call has had its effect by then.
    """

    how: How
    after: bool = False


DISASTERS = (
    Fault("500"),
    Fault("503"),
    Fault("cut"),
    Fault("500", after=True),
    Fault("503", after=True),
    Fault("cut", after=True),
)
"""Everything that ends at once."""


@dataclass(slots=True)
class Faults:
    """When something goes wrong.

    Attributes:
        share: Share of calls that fail.
        every: Every so many-th call fails; 0 for none.
        kinds: What happens then, drawn anew each time.
        operations: Calls that fail so; all but watches when empty.
        cut_share: Share of events after which a watch is cut.
        random: Draws; seeded, so that a run can be had again.
        happened: How many there were.
    """

    share: float = 0.0
    every: int = 0
    kinds: tuple[Fault, ...] = DISASTERS
    operations: frozenset[str] = frozenset()
    cut_share: float = 0.0
    random: random.Random = field(default_factory=lambda: random.Random(1))
    happened: int = 0
    _calls: int = 0
    _told: dict[str, deque[Fault]] = field(default_factory=dict[str, "deque[Fault]"])

    def tell(self, operation: str, *faults: Fault) -> None:
        """Let the next calls of an operation fail, one after the other."""
        self._told.setdefault(operation, deque()).extend(faults)

    def next(self, operation: str) -> Fault | None:
        """Return what is to go wrong with this call."""
        if told := self._told.get(operation):
            self.happened += 1
            return told.popleft()
        if operation not in self.operations and (self.operations or operation == "watch"):
            return None
        self._calls += 1
        due = self.every > 0 and self._calls % self.every == 0
        if due or (self.share > 0 and self.random.random() < self.share):
            self.happened += 1
            return self.random.choice(self.kinds)
        return None

    def cuts(self) -> bool:
        """Return whether a watch is to be cut after this event."""
        return self.cut_share > 0 and self.random.random() < self.cut_share
