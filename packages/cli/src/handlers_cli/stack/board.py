"""The visible list of parts: redrawn in place on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKS = {
    "waiting": "·",
    "starting": "…",
    "ready": "✓",
    "done": "✓",
    "failed": "✗",
    "stopping": "…",
    "stopped": "·",
}
_COLOURS = {"ready": "32", "done": "32", "failed": "31", "waiting": "2", "stopped": "2"}


class Board:
    """Shows the state of each part.

    Args:
        names: The parts, in order.
        stream: Where to draw.
        in_place: Whether lines are drawn over; else each change is a line of its own.
        colours: Whether to use colours.
    """

    def __init__(self, names: Sequence[str], stream: TextIO, *, in_place: bool, colours: bool) -> None:
        self._stream = stream
        self._in_place = in_place
        self._colours = colours
        self._states: dict[str, tuple[str, str]] = dict.fromkeys(names, ("waiting", ""))
        self._began: dict[str, float] = {}
        self._wide = max(map(len, names))
        self._drawn = False
        if in_place:
            self._draw()

    def set(self, name: str, state: str, detail: str = "") -> None:
        """Show a part's new state."""
        now = time.monotonic()
        if state == "starting":
            self._began.setdefault(name, now)
        elif state in {"ready", "done"} and name in self._began:
            detail = f"{now - self._began[name]:.1f} s{f', {detail}' if detail else ''}"
        if self._states[name] == (state, detail):
            return
        self._states[name] = (state, detail)
        if self._in_place:
            self._draw()
        else:
            self._stream.write(f"{self._line(name)}\n")
            self._stream.flush()

    def freeze(self) -> None:
        """Draw what follows below, not over what is there."""
        self._drawn = False

    def _draw(self) -> None:
        up = f"\x1b[{len(self._states)}A" if self._drawn else ""
        self._stream.write(up + "".join(f"\r\x1b[K{self._line(name)}\n" for name in self._states))
        self._stream.flush()
        self._drawn = True

    def _line(self, name: str) -> str:
        state, detail = self._states[name]
        shown = f"  {_MARKS[state]} {name:<{self._wide}}  {state}"
        # A line that wraps would be drawn over in the wrong place.
        detail = detail[: max(0, self._columns() - len(shown) - 3)] if self._in_place else detail
        if self._colours and state in _COLOURS:
            shown = f"\x1b[{_COLOURS[state]}m{shown}\x1b[0m"
        return f"{shown}  {detail}".rstrip()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            return 80
