"""The marks inside a line of Markdown, taken out one character at a time.

Nothing is looked for ahead: a mark is judged by the character before it and the one after it, so that a voice need not
wait for the end of a phrase in bold to begin it. What must wait (`<`, `&`, `[1`, `http:`) waits for a few characters at
most, and never past the end of the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from handler_base.conversation._characters import is_wide, spoken

if TYPE_CHECKING:
    from collections.abc import Callable

CODE_LIMIT = 100
"""A backtick that nothing closes within so many characters, or on its line, was no code."""
CITATION_LIMIT = 24
DESTINATION_LIMIT = 2000

_CITED = frozenset("0123456789,-–;: ^†")  # noqa: RUF001


class Sink(Protocol):
    """Where the plain text goes, character by character."""

    def char(self, char: str, start: int, end: int, *, fixed: bool) -> None:
        """Take one character.

        Args:
            char: What is spoken; any white space is one space, or a line feed at the end of a line.
            start: Where what it stands for begins in the answer.
            end: Where that ends.
            fixed: Whether it is part of a name, of code or of a number that no cut goes through.
        """
        ...

    def line_end(self, at: int, *, stop: bool) -> None:
        """Take the end of a heading, an item, a row or a paragraph.

        Args:
            at: Where it is in the answer.
            stop: Whether it is spoken as a sentence, even when no mark ends it.
        """
        ...


class Inline:
    """What happens between the start of a line and its end. A state is a method that takes the next character.

    The character "" is the end of the answer: every state that holds something back must let go of it then.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._state: Callable[[str], None] = self._text
        self._at = 0  # where the character at hand stands in the answer
        self._before = "\n"  # the character before it
        self._held: str = ""  # what is not decided yet
        self._held_at = 0
        self._count = 0  # how long a run of one character is
        self._run_before = ""
        self._code = 0  # how many backticks opened the code at hand
        self._code_left = 0
        self._math = False
        self._depth = 0  # square brackets open on this line
        self._parentheses = 0
        self._item = False  # whether nothing followed the mark of an item yet
        self._row = False  # whether the line is a row of a table
        self._cell = False  # whether a new cell began in it
        self._spoken = 0  # how many characters of the line are spoken
        self._inline: dict[str, Callable[[str], None]] = {
            "\n": self._newline,
            "|": self._bar,
            "•": self._bar,
            "]": self._close_bracket,
            "{": self._brace,
            "}": self._brace,
            "!": self._exclamation,
            "[": self._hold_for(self._bracket),
            "【": self._hold_for(self._bracket),
            **dict.fromkeys("*_~$`#", self._open_run),
        }

    def step(self, char: str) -> None:
        """Take the next character of the answer; "" is its end."""
        self._state(char)
        self._at += len(char)
        self._before = char

    def _newline(self, _char: str) -> None:
        raise NotImplementedError

    def _end_block(self, at: int = -1) -> None:
        raise NotImplementedError

    def _open_fence(self, char: str, count: int) -> None:
        raise NotImplementedError

    def _scheme(self, char: str) -> None:
        raise NotImplementedError

    def _begin(self, char: str) -> None:
        raise NotImplementedError

    # Giving on

    def _emit(self, char: str, start: int = -1, end: int = -1, *, fixed: bool = False) -> None:
        """Give a character on, when it can be spoken."""
        said = spoken(char, self._before)
        start = self._at if start < 0 else start
        end = start + 1 if end < 0 else end
        if said == " ":
            self._sink.char(" ", start, end, fixed=False)
        elif said:
            self._begin(char)
            if self._cell:
                self._cell = False
                if self._spoken:
                    self._sink.char(",", start, start, fixed=True)
                    self._sink.char(" ", start, start, fixed=False)
            self._spoken += 1
            self._item = False
            self._sink.char(said, start, end, fixed=fixed)

    def _hold_for(self, state: Callable[[str], None]) -> Callable[[str], None]:
        def hold(char: str) -> None:
            self._hold(char, state)

        return hold

    def _hold(self, char: str, state: Callable[[str], None]) -> None:
        self._held, self._held_at, self._state = char, self._at, state

    def _let_go(self, char: str, *, literally: bool = True) -> None:
        """Take what was held as text, its first character as it is or not at all, and then a character more."""
        held, at, start = self._held, self._at, self._held_at
        self._held = ""
        self._state = self._text
        self._at = start
        if literally:
            self._before = ""
            self._emit(held[0])
        self._at += 1
        self._before = held[0]
        for one in held[1:]:
            self.step(one)
        self._at = at
        self._state(char)

    # Text

    def _text(self, char: str) -> None:
        if self._code:
            self._in_code(char)
        elif char.isalnum():
            if char in "hHwWfF" and (not self._before.isalnum() or is_wide(self._before)):
                self._hold(char, self._scheme)
            else:
                self._emit(char)
        elif char in self._inline:
            self._inline[char](char)
        elif char.isspace():
            self._sink.char(" ", self._at, self._at + 1, fixed=False)
        elif char:
            self._emit(char)

    def _in_code(self, char: str) -> None:
        self._code_left -= 1
        if char == "\n":
            self._code = 0
            self._newline(char)
        elif char == "`":
            self._open_run(char)
        elif char.isspace():
            self._sink.char(" ", self._at, self._at + 1, fixed=False)
        elif char:
            self._emit(char, fixed=True)
        if self._code_left <= 0:
            self._code = 0

    def _exclamation(self, char: str) -> None:
        # Before white space, or at the start of a line, it may open an image; after a word it is what it is.
        if self._before.isspace() or self._before in "[(|":
            self._hold(char, self._image)
        else:
            self._emit(char)

    def _image(self, char: str) -> None:
        self._let_go(char, literally=char != "[")

    def _bar(self, _char: str) -> None:
        if self._row or self._before.isspace():
            self._row = self._cell = True

    def _brace(self, char: str) -> None:
        if not self._math:
            self._emit(char)
        elif char == "{" and self._before == "}":
            self._emit("/")

    # Runs of *, _, ~, $, ` and #

    def _open_run(self, char: str) -> None:
        self._run_before = self._before
        self._count = 1
        self._hold(char, self._run)

    def _run(self, char: str) -> None:
        if char == self._held:
            self._count += 1
        else:
            self._close_run(char)

    def _close_run(self, char: str) -> None:
        mark, self._held = self._held, ""
        self._state = self._text
        if mark == "`":
            self._backticks(char)
            return
        if self._is_literal(mark, self._run_before, char):
            for offset in range(self._count):
                self._emit(mark, self._held_at + offset)
        elif mark == "$":
            self._math = not self._math
        self._text(char)

    def _is_literal(self, mark: str, before: str, after: str) -> bool:
        """Return whether a run is text: snake_case, 2*3, 2**3, 4 * 5, ~10, $5, C#."""
        single = self._count == 1
        if mark in "*_":
            if before.isalnum() and after.isalnum() and not is_wide(before) and not is_wide(after):
                return mark == "_" or single or (self._count == 2 and before.isdigit() and after.isdigit())
            return mark == "*" and single and before == after == " "
        if mark == "#":
            return single and not (before.isspace() and (after.isspace() or not after))
        return single and (mark == "~" or (after.isdigit() and not self._math))

    def _backticks(self, char: str) -> None:
        if self._code:
            if self._count == self._code:
                self._code = 0
            self._text(char)
        elif self._count >= 3:
            self._hold("", self._info)
            self._info(char)
        else:
            self._code, self._code_left = self._count, CODE_LIMIT
            self._text(char)

    def _info(self, char: str) -> None:
        """Three backticks: code that is left out when nothing but a word or two follows on the line."""
        if char == "\n" or not char:
            self._held = ""
            self._open_fence("`", self._count)
        elif char == "`" or len(self._held) >= CODE_LIMIT:
            self._code, self._code_left = self._count, 2 * CODE_LIMIT
            self._replay(char)
        else:
            self._held += char

    def _replay(self, char: str) -> None:
        held, at = self._held, self._at
        self._held = ""
        self._state = self._text
        self._at -= len(held)
        for one in held:
            self.step(one)
        self._at = at
        self._state(char)

    # Links and citations

    def _bracket(self, char: str) -> None:
        mark, content = self._held[0], self._held[1:]
        if char and char in "]】" and (not content or content[0] in "0123456789^" or self._is_box(content)):
            self._held = ""
            self._state = self._after_bracket
        elif self._may_cite(mark, content, char):
            self._held += char
        else:
            self._depth += mark == "["
            self._let_go(char, literally=mark == "【")

    def _is_box(self, content: str) -> bool:
        return self._item and content in {" ", "x", "X"}

    def _may_cite(self, mark: str, content: str, char: str) -> bool:
        if not char or char in "\n[" or len(content) >= CITATION_LIMIT:
            return False
        if not content:
            return char in "0123456789^" or self._is_box(char)
        return content[0] == "^" or char in _CITED or (mark == "【" and "†" in content)

    def _close_bracket(self, _char: str) -> None:
        if self._depth:
            self._depth -= 1
            self._state = self._after_bracket

    def _after_bracket(self, char: str) -> None:
        self._state = self._text
        if char == "(":
            self._parentheses = 1
            self._count = 0
            self._state = self._destination
        elif char == ":" and not self._spoken:
            return  # a footnote's own mark
        else:
            self._text(char)

    def _destination(self, char: str) -> None:
        self._count += 1
        self._parentheses += (char == "(") - (char == ")")
        if char.isspace():
            self._state = self._title
            self._title(char)
        elif not self._parentheses or self._count >= DESTINATION_LIMIT:
            self._state = self._text

    def _title(self, char: str) -> None:
        if char in "\"'" and char:
            self._state = self._in_title
        elif char == ")":
            self._state = self._text
        elif char == "\n" or not char.isspace():
            self._state = self._text
            self._sink.char(" ", self._at, self._at, fixed=False)
            self._text(char)

    def _in_title(self, char: str) -> None:
        self._count += 1
        if char == "\n":
            self._state = self._text
            self._text(char)
        elif (char == ")" and self._before in "\"'") or self._count >= DESTINATION_LIMIT:
            self._state = self._text
