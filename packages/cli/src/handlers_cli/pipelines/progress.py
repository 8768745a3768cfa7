"""How a run is shown until its end: a line drawn in place, a line for each status, or JSON."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Protocol

from handler_base.messaging import wire
from handler_messages.statuses import PIPELINE_ENDS
from handlers_cli.terminal import printable
from handlers_cli.text import duration, one_line, start_of

if TYPE_CHECKING:
    from handler_messages import PipelineStatus
    from handlers_cli.terminal import Terminal

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {"succeeded": "✓", "failed": "✗", "error": "✗"}
_WIDE = max(map(len, ("submitted", *PIPELINE_ENDS)))


class Shower(Protocol):
    """Shows one run."""

    def begin(self, title: str) -> None:
        """The run is asked for."""
        ...

    def status(self, status: PipelineStatus) -> None:
        """A status came."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...

    def stop(self) -> None:
        """Something else is to be written; leave the terminal at the start of an empty line."""
        ...


def shower(form: str, terminal: Terminal) -> Shower:
    """Return what shows a run: as `text` for people, or as `json` or `jsonl` for programs."""
    if form == "text":
        return Live(terminal) if terminal.live else Lines(terminal)
    return {"json": Whole, "jsonl": JsonLines}[form](terminal)


class Clock:
    """Says how long a run has taken: after its first status, before that after we asked."""

    def __init__(self) -> None:
        self._asked = time.time()
        self._first = 0.0
        self._last = 0.0

    def take(self, status: PipelineStatus) -> str:
        """Take a status; return how long after the first one it was."""
        self._first = self._first or status.timestamp
        self._last = max(self._last, status.timestamp)
        return duration(status.timestamp - self._first)

    def now(self) -> str:
        """Return how long it has taken until now."""
        # The service's clock may be ahead of ours; time does not run backwards.
        return duration(max(self._last - self._first, time.time() - (self._first or self._asked)))


class Lines:
    """A line for each status, and one for what the engine calls the run.

    Args:
        terminal: Where to.
        clock: Knows when the run began, if it was shown before.
        named: Whether it is known what the engine calls it.
    """

    def __init__(self, terminal: Terminal, clock: Clock | None = None, *, named: bool = False) -> None:
        self._terminal = terminal
        self._named = named
        self.clock = clock or Clock()

    def begin(self, title: str) -> None:
        """Write what is run."""
        self._terminal.line(title)

    def status(self, status: PipelineStatus) -> None:
        """Write the status; what went wrong is said by whoever asked."""
        self._name(status)
        after = self.clock.take(status)
        shown = f"  {after:>12}  {marked(self._terminal, status.status)}"
        message = "" if wrong(status) else one_line(status.message)
        self._terminal.line(f"{shown}  {message}".rstrip())

    def tick(self) -> None:
        """Nothing is drawn again."""

    def stop(self) -> None:
        """Every line is whole."""

    def _name(self, status: PipelineStatus) -> None:
        if status.run_id and not self._named:
            self._named = True
            called = one_line(f"{status.engine} run {status.run_id}")
            self._terminal.line(self._terminal.dim(f"  {called}"))


class Live(Lines):
    """One line that is drawn over until the end.

    Args:
        terminal: Where to.
        clock: Knows when the run began, if it was shown before.
        last: The last status that was shown before.
    """

    def __init__(
        self, terminal: Terminal, clock: Clock | None = None, last: PipelineStatus | None = None
    ) -> None:
        super().__init__(terminal, clock, named=last is not None)
        self._drawn = False
        self._frame = 0
        self._status = "stored" if last is None else last.status
        self._message = "" if last is None else one_line(last.message)

    def status(self, status: PipelineStatus) -> None:
        """Draw the status; the last one stays."""
        self.stop()
        self._name(status)
        after = self.clock.take(status)
        self._status, self._message = status.status, one_line(status.message)
        if status.status not in PIPELINE_ENDS:
            self.tick()
            return
        message = "" if wrong(status) else printable(status.message.strip())
        self._terminal.line(f"{marked(self._terminal, status.status)}  {after}  {message}".rstrip())

    def tick(self) -> None:
        """Draw the line again with the time that has passed."""
        if self._status in PIPELINE_ENDS:
            return
        self._frame = (self._frame + 1) % len(_FRAMES)
        head = f"{_FRAMES[self._frame]} {one_line(self._status):<{_WIDE}}  {self.clock.now()}"
        # A line that wraps could not be drawn over.
        room = shutil.get_terminal_size().columns - len(head) - 3
        message = self._terminal.dim(start_of(self._message, room)) if self._message else ""
        self._terminal.write(f"\r\x1b[K{head}  {message}".rstrip(" "))
        self._drawn = True

    def stop(self) -> None:
        """Take the line away; it is drawn again with the next status or tick."""
        if self._drawn:
            self._terminal.write("\r\x1b[K")
            self._drawn = False


class Whole:
    """One JSON object: the last status."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def begin(self, title: str) -> None:
        """Nothing to show yet."""

    def status(self, status: PipelineStatus) -> None:
        """Write the status that is the last one."""
        if status.status in PIPELINE_ENDS:
            self._terminal.line(wire.encode(status, wire.JSON).decode())

    def tick(self) -> None:
        """Nothing is drawn."""

    def stop(self) -> None:
        """Every line is whole."""


class JsonLines(Whole):
    """One JSON object a line for each status, named by its message."""

    def status(self, status: PipelineStatus) -> None:
        """Write the status."""
        self._terminal.line(f'{{"PipelineStatus": {wire.encode(status, wire.JSON).decode()}}}')


def wrong(status: PipelineStatus) -> bool:
    """Whether a status says that the run did not succeed."""
    return status.status in {"failed", "error"}


def marked(terminal: Terminal, status: str) -> str:
    """Return a status with its mark and colour, as wide as every other."""
    shown = f"{_MARKS.get(status, '·')} {one_line(status):<{_WIDE}}"
    if status == "succeeded":
        return terminal.green(shown)
    return terminal.red(shown) if status in PIPELINE_ENDS else shown
