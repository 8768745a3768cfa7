"""From Markdown, as a model streams it, to text that can be spoken: what a line is, and where its parts end.

Emphasis, links, citations, tags and addresses are the matter of the classes below it; here are headings, lists, quotes,
tables, rules and code in fences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_base.conversation._characters import CLOSERS
from handler_base.conversation._embedded import Embedded

if TYPE_CHECKING:
    from handler_base.conversation._inline import Sink

SHORT_LINE = 50
"""A line with fewer characters, not counting spaces, was broken on purpose: what follows does not continue it."""

_BULLETS = frozenset("-+*•◦▪‣–—·")  # noqa: RUF001
_LINE_MARKS = _BULLETS | frozenset("_=~`#")
_BARE_BULLETS = frozenset("•◦▪‣")


class Plain(Embedded):
    """Takes an answer character by character and gives a sink what is spoken of it.

    Args:
        sink: Takes the plain text.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self._state = self._line
        self._block = False  # whether the end of the line ends the block: a heading or an item
        self._open = False  # whether there is text that no end of a block followed yet
        self._short = False  # whether the line before was broken on purpose
        self._last = ""  # the last spoken character of the line
        self._quoted = False  # whether the line is a quotation
        self._was_quoted = False
        self._fence = ""
        self._fence_length = 0

    def close(self) -> None:
        """Take the end of the answer."""
        self._state("")
        while self._held:
            self._state("")
        self._sink.line_end(self._at, stop=self._block or self._row)

    # Lines

    def _line(self, char: str) -> None:
        """Look at the first character of a line."""
        if char == "\n":
            self._end_block()
            self._end_line()
        elif char == ">":
            if not (self._quoted or self._was_quoted):
                self._end_block()
            self._quoted = True
        elif char in _LINE_MARKS:
            self._count = 1
            self._run_before = self._before
            self._hold(char, self._line_marks)
        elif char.isascii() and char.isdigit():
            self._hold(char, self._number)
        elif char == "|":
            self._start_block()
            self._block, self._row = False, True
            self._state = self._text
        elif char and not char.isspace():
            self._state = self._text
            self._text(char)

    def _line_marks(self, char: str) -> None:
        mark = self._held
        if char == mark:
            self._count += 1
        elif mark == "#" and self._count <= 6 and (char.isspace() or not char):
            self._held = ""
            self._start_block()
            self._state = self._text
            self._text(char)
        elif mark == "~" and self._count >= 3:
            self._held = ""
            self._open_fence(mark, self._count)
            self._state = self._fenced
            self._fenced(char)
        elif mark in _BULLETS or mark in "_=":
            self._bullet(mark, char)
        else:
            self._close_run(char)

    def _bullet(self, mark: str, char: str) -> None:
        self._held = ""
        alone = char.isspace() or not char
        if mark in _BARE_BULLETS or (alone and self._count == 1 and mark in _BULLETS):
            self._start_block()
            self._item = True
            self._state = self._line
            self._line(char)
        elif alone and self._count > 1:
            self._end_block()  # a rule
            self._state = self._line
            self._line(char)
        elif mark in "*_":
            self._held = mark
            self._close_run(char)
        else:
            self._state = self._text
            if self._count == 1:
                self._emit(mark, self._held_at)
            self._text(char)

    def _number(self, char: str) -> None:
        """Tell `1. First` from `3 apples`; the number of an item is spoken."""
        if self._held[-1] in ".)":
            if char.isspace() or not char:
                number, self._held = self._held, ""
                self._start_block()
                for offset, one in enumerate(f"{number[:-1]}."):
                    self._emit(one, self._held_at + offset, fixed=True)
                self._sink.char(" ", self._at, self._at + len(char), fixed=False)
                self._item = True
                self._state = self._line
                self._line(char)
                return
        elif char and ((char.isascii() and char.isdigit() and len(self._held) < 3) or char in ".)"):
            self._held += char
            return
        self._replay(char)

    def _newline(self, _char: str) -> None:
        if self._block or self._row:
            self._end_block()
        else:
            self._sink.char("\n", self._at, self._at + 1, fixed=False)
            broken = self._last.isalnum() or self._last in CLOSERS
            self._short = 0 < self._spoken < SHORT_LINE and broken
        self._end_line()

    def _end_line(self) -> None:
        self._state = self._line
        self._code = self._depth = self._spoken = 0
        self._last = ""
        self._row = self._cell = self._item = False
        self._was_quoted, self._quoted = self._quoted, False

    def _begin(self, char: str) -> None:
        """Judge the line break before the first spoken character of a line."""
        if self._short:
            self._short = False
            if not char.islower():
                self._sink.line_end(self._at, stop=True)
        self._open = True
        self._last = char

    def _start_block(self) -> None:
        self._end_block()
        self._block = True

    def _end_block(self, at: int = -1) -> None:
        if self._open:
            self._sink.line_end(self._at if at < 0 else at, stop=True)
        self._open = self._block = self._short = self._math = False

    # Code in fences

    def _open_fence(self, char: str, count: int) -> None:
        self._end_block()
        self._end_line()
        self._fence, self._fence_length = char, count
        self._count = 0
        self._state = self._fence_mark

    def _fence_mark(self, char: str) -> None:
        """Look at the start of a line of code for the mark that ends it."""
        if char == self._fence:
            self._count += 1
        elif self._count >= self._fence_length and (char.isspace() or not char):
            self._state = self._line
            if char != "\n":
                self._line(char)
        elif char == "\n":
            self._count = 0
        elif self._count or not (char.isspace() or char == ">"):
            self._state = self._fenced

    def _fenced(self, char: str) -> None:
        if char == "\n":
            self._count = 0
            self._state = self._fence_mark
