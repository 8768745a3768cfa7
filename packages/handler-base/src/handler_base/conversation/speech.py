"""Cuts an answer into pieces that can be spoken while the model still writes it.

The first piece is short, because a person waits for it; then whole sentences, because a voice needs them for its
melody. Markdown, code, emoji and thoughts are not read aloud.
"""

# ruff: noqa: RUF001 - the marks of many languages are the subject of this module

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_base.conversation._abbreviations import stop_after
from handler_base.conversation._characters import (
    CLAUSE_MARKS,
    CLOSERS,
    DASHES,
    ENDS,
    OPENERS,
    WIDE_CLAUSE_MARKS,
    WIDE_ENDS,
    is_wide,
)
from handler_base.conversation._phrase import Phrase, ended, speakable
from handler_base.conversation._plain import Plain
from handler_base.conversation.pieces import Piece, SpeechSettings

if TYPE_CHECKING:
    from handler_base.conversation._abbreviations import Stop


_JOINED = ENDS | CLAUSE_MARKS - DASHES
_DEFAULTS = SpeechSettings()


class SpeechCutter:
    """Takes an answer as it comes and gives pieces as soon as they are certain.

    What is decided depends on the characters alone, never on how they were split into tokens. The sources of all
    pieces, and `unspoken` after them, are the answer: marks that touch the end of a piece are part of it, and what is not
    spoken between two pieces is part of the second.

    Args:
        settings: How long pieces are.
        language: BCP 47 tag of the answer's language; "" when it is not known.
        early: Whether the first piece may be less than a sentence.
    """

    def __init__(
        self, settings: SpeechSettings = _DEFAULTS, *, language: str = "", early: bool = True
    ) -> None:
        self._first_chars = settings.first_chars
        self._max = settings.max_chars
        self._first_max = min(settings.first_max_chars, settings.max_chars)
        self._language = language.replace("_", "-").partition("-")[0].lower()
        self._early = early  # whether the first piece is still to come, and may be a clause
        self._plain = Plain(self)
        self._source: list[str] = []  # the answer from the end of the last piece on
        self._source_at = 0  # where that begins in the answer
        self._pieces: list[Piece] = []
        self._phrase = Phrase()
        self._stop = 0  # how many characters would be cut off, when a mark may have ended a sentence
        self._mark = 0  # where that mark stands
        self._kind: Stop | None = None  # what the mark is, once white space followed it

    @property
    def unspoken(self) -> str:
        """What came and is part of no piece; after `close`, what was left out at the end."""
        return "".join(self._source)

    def feed(self, text: str) -> list[Piece]:
        """Take the next part of the answer and return the pieces that are complete now."""
        for char in text:
            self._source.append(char)
            self._plain.step(char)
        return self._taken()

    def close(self) -> list[Piece]:
        """Take the end of the answer and return the rest."""
        self._plain.close()
        pieces = self._taken()
        if pieces:
            last = pieces[-1]
            pieces[-1] = Piece(last.text, last.source + self.unspoken)
            self._source.clear()
        return pieces

    def _taken(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    # What the plain text is given to

    def char(self, char: str, start: int, end: int, *, fixed: bool) -> None:
        """Take a character of the plain text; see `Sink`."""
        if char.isspace():
            self._space(start, end, line=char == "\n")
            return
        phrase = self._phrase
        if char in _JOINED:
            phrase.join(start)
        phrase.append(char, start, end)
        if self._stop:
            self._follow(char, fixed=fixed)
        if not self._stop and not fixed and char in ENDS:
            self._stop = len(phrase.chars)
            self._mark = self._stop - 1
        phrase.nest(char)
        limit = self._first_limit(char) if self._early else self._max
        if phrase.width > limit:
            self._cut(
                phrase.place(limit, max(self._first_chars, limit * 2 // 5) if self._early else limit // 3)
            )
        elif self._early and not fixed and self._is_certain(char):
            self._cut(len(phrase.chars))

    def line_end(self, at: int, *, stop: bool) -> None:
        """Take the end of a line; see `Sink`."""
        chars = self._phrase.chars
        if chars:
            self._cut(len(chars) - (chars[-1] == " "), at, as_sentence=stop)
        self._phrase.nesting.clear()

    def _space(self, start: int, end: int, *, line: bool) -> None:
        phrase = self._phrase
        chars = phrase.chars
        if not chars:
            return
        if chars[-1] != " ":
            phrase.append(" ", start, end)
        if self._stop:
            self._judge(line=line)
        elif self._early and self._is_clause():
            self._cut(len(chars) - 1)

    # Where a sentence ends

    def _judge(self, *, line: bool) -> None:
        """Judge a mark that white space follows."""
        if self._kind is None:
            self._kind = self._what_stops()
        if self._kind == "none":
            self._go_on()
        elif line or (
            self._kind == "firm"
            and self._phrase.chars[self._stop - 1] in ENDS
            and "«" not in self._phrase.nesting
        ):
            self._cut(self._stop)

    def _what_stops(self) -> Stop:
        chars = self._phrase.chars
        marks = [char for char in chars[self._mark : self._stop] if char in ENDS]
        if marks == ["."]:
            return stop_after(*self._phrase.words_before(self._mark), self._language)
        return "weak" if {".", "…"}.issuperset(marks) else "firm"

    def _follow(self, char: str, *, fixed: bool) -> None:
        """Judge a mark by the character after it, or by the one after the white space after it."""
        if self._kind is not None:
            self._follow_space(char)
        elif (char in ENDS and not fixed) or char in CLOSERS or (char in "“«‹‘" and not self._is_wide_end()):
            self._stop = len(self._phrase.chars)
        elif self._ends_without_space(char):
            self._cut(self._stop)
        else:
            self._go_on()

    def _follow_space(self, char: str) -> None:
        if char in "»›":
            self._stop = len(self._phrase.chars)
            self._kind = None
        elif char in DASHES:
            self._go_on()
        elif char in OPENERS:
            if self._kind == "firm":
                self._cut(self._stop)
        elif char.islower() or (self._kind == "weak" and not char.isalpha()):
            self._go_on()
        else:
            self._cut(self._stop)

    def _end_mark(self) -> int:
        chars, index = self._phrase.chars, self._stop - 1
        while chars[index] not in ENDS:
            index -= 1
        return index

    def _is_wide_end(self) -> bool:
        return self._phrase.chars[self._end_mark()] in WIDE_ENDS

    def _ends_without_space(self, char: str) -> bool:
        """Return whether a sentence of Chinese or Japanese ends; a quotation that `と` follows is part of one."""
        chars, mark = self._phrase.chars, self._end_mark()
        if chars[mark] in WIDE_ENDS:
            return not (char in "とっ" and chars[self._stop - 1] in "」』")
        return chars[mark] in "!?" and is_wide(char) and mark > 0 and is_wide(chars[mark - 1])

    def _go_on(self) -> None:
        self._stop, self._kind = 0, None

    # Where the first piece may end

    def _first_limit(self, char: str) -> int:
        """Return where the first piece is cut: later than the setting has it rather than within a word."""
        if is_wide(char):
            return self._first_max
        chars = self._phrase.chars
        word = chars.index(" ") if " " in chars else self._max
        return min(self._max, max(self._first_max, word))

    def _is_certain(self, char: str) -> bool:
        """Return whether the first piece can end here, whatever follows."""
        chars = self._phrase.chars
        if self._phrase.nesting or len(chars) < 3 or not chars[-2].isalpha():
            return False
        if char in WIDE_ENDS or (char in "!?" and chars[-3].isalpha()):
            return True
        return (char == "," or char in WIDE_CLAUSE_MARKS) and self._phrase.width >= self._first_chars

    def _is_clause(self) -> bool:
        """Return whether a clause ends at the space at hand, long enough for a first piece."""
        chars = self._phrase.chars
        if self._phrase.nesting or chars[-2] not in CLAUSE_MARKS or self._phrase.width <= self._first_chars:
            return False
        return not (chars[-2] in DASHES and any(map(str.isdigit, chars[-4:-2])))

    def _cut(self, count: int, at: int = 0, *, as_sentence: bool = False) -> None:
        """Make a piece of the first characters, when anything in them can be spoken.

        Args:
            count: How many.
            at: Where what they stand for ends in the answer, when no space follows; 0 for where the last one ends.
            as_sentence: Whether to end it with a full stop.
        """
        text, end, gone = self._phrase.take(count, at)
        self._stop, self._mark = self._stop - gone, self._mark - gone
        if self._stop <= 0 or self._mark < 0:
            self._go_on()
        text = speakable(text)
        if not text:
            return
        if as_sentence and len(text) < self._max:
            text = ended(text)
        length = end - self._source_at
        self._pieces.append(Piece(text, "".join(self._source[:length])))
        del self._source[:length]
        self._source_at = end
        self._early = False


def cut(text: str, settings: SpeechSettings = _DEFAULTS, *, language: str = "") -> list[Piece]:
    """Cut a whole text into sentences; the sources of the pieces are the text.

    Args:
        text: What is to be spoken.
        settings: How long pieces are.
        language: BCP 47 tag of the text's language; "" when it is not known.
    """
    cutter = SpeechCutter(settings, language=language, early=False)
    pieces = [*cutter.feed(text), *cutter.close()]
    if pieces and (rest := cutter.unspoken):
        pieces[-1] = Piece(pieces[-1].text, pieces[-1].source + rest)
    return pieces
