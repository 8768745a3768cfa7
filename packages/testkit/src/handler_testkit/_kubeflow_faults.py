"""How calls of the scripted Kubeflow server go wrong: before they have an effect, after it, or long before it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one call.

    Attributes:
        status: What is answered: an HTTP status that is an error; 0 cuts the connection; None never answers.
        effect: Whether the call has its effect all the same: before the answer (`done`), or when the answer was given
            up on long since (`later`).
        requests: With `later`: how many further requests come before the effect; 0 for when `release` is called.
    """

    status: int | None = 503
    effect: Literal["none", "done", "later"] = "none"
    requests: int = 0


class Faults:
    """The faults to come, and the effects that are still to come.

    Attributes:
        left: How many scripted faults have not happened yet.
    """

    def __init__(self) -> None:
        self._scripted: dict[str, list[Fault]] = {}
        self._share = 0.0
        self._random = random.Random()
        self._operations: frozenset[str] = frozenset()
        self._later: list[tuple[int, Callable[[], object]]] = []

    @property
    def left(self) -> int:
        """How many scripted faults have not happened yet."""
        return sum(map(len, self._scripted.values()))

    def add(self, operation: str, *faults: Fault) -> None:
        """Let the next calls of an operation go wrong, one fault each."""
        self._scripted.setdefault(operation, []).extend(faults)

    def draw(self, share: float, seed: int, operations: Collection[str] = ()) -> None:
        """Let a share of all calls go wrong from now on, alike for every seed.

        Args:
            share: From 0 to 1.
            seed: Of what happens when.
            operations: The only ones; all when empty.
        """
        self._share = share
        self._random = random.Random(seed)
        self._operations = frozenset(operations)

    def next(self, operation: str) -> Fault | None:
        """Return what becomes of a call that comes now; None for nothing out of the ordinary."""
        if scripted := self._scripted.get(operation):
            return scripted.pop(0)
        if not self._share or (self._operations and operation not in self._operations):
            return None
        if self._random.random() >= self._share:
            return None
        effect = self._random.choice(("none", "done", "later"))
        return Fault(self._random.choice((500, 503, 0)), effect, self._random.randint(1, 4))

    def later(self, fault: Fault, effect: Callable[[], object]) -> None:
        """Keep an effect for later."""
        self._later.append((fault.requests, effect))

    def passed(self) -> None:
        """Say that a request came: effects whose time has come happen."""
        due = [effect for requests, effect in self._later if requests == 1]
        self._later = [(max(0, requests - 1), effect) for requests, effect in self._later if requests != 1]
        for effect in due:
            effect()

    def release(self) -> None:
        """Let every effect happen that is still to come."""
        due, self._later = self._later, []
        for _, effect in due:
            effect()
