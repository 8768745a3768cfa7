"""The plain text that is not spoken yet: what stands in it, and where it is best cut."""

from __future__ import annotations

import re

from handler_base.conversation._abbreviations import joints, leading
from handler_base.conversation._characters import (
    CLAUSE_MARKS,
    CLOSERS,
    CLOSING,
    ENDS,
    OPENERS,
    OPENING,
    WIDE_CLAUSE_MARKS,
    is_mark,
    is_wide,
    width,
    words,
)

NESTING_LIMIT = 8

# Ranks of places, best last.
_NOWHERE, _SHORT, _POOR, _FAIR, _JOINT, _CLAUSE = range(-1, 5)
_NOT_FIRST = CLOSERS | ENDS | WIDE_CLAUSE_MARKS | frozenset("ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々〻・％")  # noqa: RUF001
_PARTICLES = frozenset("はがをにでともへや")
_WIDE_JOINTS = words(
    "但是 因为 所以 如果 而且 或者 以及 并且 虽然 然后 因此 不过 同时 其中 尤其 例如 比如 为了 通过 根据 由于 "
    "因為 而後 雖然 然後 並且 例如 為了 通過 由於"
)
_UNSPACED = WIDE_CLAUSE_MARKS | frozenset("—")
_JUNK = CLAUSE_MARKS | (ENDS | CLOSERS | frozenset("-*|")) - frozenset("\"'»›")  # noqa: RUF001
"""What begins no piece."""


class Phrase:
    """Characters, each with where it begins and ends in the answer, and the quotes and brackets open at the end."""

    def __init__(self) -> None:
        self.chars: list[str] = []
        self.width = 0
        self.nesting: list[str] = []
        self._starts: list[int] = []
        self._ends: list[int] = []

    def append(self, char: str, start: int, end: int) -> None:
        """Add a character."""
        self.chars.append(char)
        self._starts.append(start)
        self._ends.append(end)
        self.width += width(char)

    def nest(self, char: str) -> None:
        """Note that a quote or bracket opens or closes; German quotes close with what opens English ones."""
        top = self.nesting[-1] if self.nesting else ""
        if char == '"' or (char == "“" and top == "„") or (char == "«" and top == "»"):
            opens = char == '"' and top != '"'
        elif char in OPENING or (char == "»" and "«" not in self.nesting):
            opens = True
        elif char in CLOSING:
            opens = False
        else:
            return
        if not opens:
            del self.nesting[-1:]
        elif len(self.nesting) < NESTING_LIMIT:
            self.nesting.append(char)

    def join(self, start: int) -> None:
        """Drop the space at the end, when what stood between it and a mark was left out, like a citation."""
        if self.chars and self.chars[-1] == " " and self._ends[-1] < start:
            del self.chars[-1], self._starts[-1], self._ends[-1]
            self.width -= 1

    def take(self, count: int, at: int = 0) -> tuple[str, int, int]:
        """Remove characters from the beginning, and the space after them.

        Args:
            count: How many.
            at: Where what they stand for ends in the answer at the least, when no space follows.

        Returns:
            The text, where it ends in the answer, and how many characters are gone.
        """
        text = "".join(self.chars[:count])
        spaced = count < len(self.chars) and self.chars[count] == " "
        end = self._starts[count] if spaced else max(at, self._ends[count - 1])
        gone = count + spaced
        del self.chars[:gone], self._starts[:gone], self._ends[:gone]
        self.width = sum(map(width, self.chars))
        return text, end, gone

    def words_before(self, index: int) -> tuple[str, str]:
        """Return the word that ends at a place, and the one before it or ""."""
        start = self._word_start(index)
        before = self._word_start(start - 1) if start else 0
        return "".join(self.chars[start:index]), "".join(self.chars[before : max(start - 1, 0)])

    def _word_start(self, index: int) -> int:
        while index > 0 and self.chars[index - 1] != " ":
            index -= 1
        return index

    def place(self, limit: int, least: int) -> int:
        """Return where to cut a text that is too long: after a clause, before a joint, between words, anywhere.

        Args:
            limit: The most that may stand before the cut, as a width.
            least: The least that should.
        """
        best, best_rank, hard, so_far = 0, _NOWHERE, 1, 0
        for index, char in enumerate(self.chars):
            if so_far > limit:
                break
            if index:
                rank = self._rank(index)
                if rank > _SHORT and so_far < least:
                    rank = _SHORT
                if rank >= max(best_rank, _SHORT):
                    best, best_rank = index, rank
                if not is_mark(char):
                    hard = index
            so_far += width(char)
        return best or hard

    def _rank(self, index: int) -> int:
        char, before = self.chars[index], self.chars[index - 1]
        if char == " ":
            return self._rank_of_space(index)
        if before in _UNSPACED and char not in CLOSERS and char not in _UNSPACED:
            return _CLAUSE
        if not is_wide(char) or not is_wide(before) or char in _NOT_FIRST or before in OPENERS:
            return _NOWHERE
        if before in _PARTICLES and not "\u3040" <= char <= "\u309f":
            return _FAIR
        return _FAIR if "".join(self.chars[index : index + 2]) in _WIDE_JOINTS else _POOR

    def _rank_of_space(self, index: int) -> int:
        if self.chars[index - 1] in CLAUSE_MARKS:
            return _CLAUSE
        end = index + 1
        while end < len(self.chars) and self.chars[end] != " ":
            end += 1
        if self.words_before(index)[0].lower() in leading():
            return _POOR
        joint = end < len(self.chars) and "".join(self.chars[index + 1 : end]).lower() in joints()
        return _JOINT if joint else _FAIR


def speakable(text: str) -> str:
    """Return the text of a piece without what removed marks left behind; "" when nothing can be spoken."""
    if not any(map(str.isalnum, text)):
        return ""
    text = re.sub(r"\(\s*\)|（\s*）", "", text)  # noqa: RUF001
    text = re.sub(r"\s+(?=[.,]+(?:\s|$)|[，。！？；：、）」』])", "", text)  # noqa: RUF001
    text = " ".join(text.split())
    start = 0
    while text[start] in _JUNK and not (text[start] in "-.–" and text[start + 1].isdigit()):  # noqa: RUF001
        start += 1
        start += text[start] == " "
    return text[start:]


def ended(text: str) -> str:
    """Return a text with a full stop, when no mark ends it."""
    last = text.rstrip("".join(CLOSERS))[-1:]
    if last in ENDS or last in CLAUSE_MARKS:
        return text
    return f"{text}。" if is_wide(last) else f"{text}."
