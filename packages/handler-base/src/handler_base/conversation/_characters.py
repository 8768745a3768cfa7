"""What single characters mean to speech: how wide they are, and whether a voice can say them."""

# ruff: noqa: RUF001 - the marks of many languages are the subject of this module

from __future__ import annotations

import unicodedata

WIDE_WIDTH = 3
"""A Chinese, Japanese or Korean character is a syllable or more; it takes as long to say as about three letters."""

ENDS = frozenset(".!?…‼⁇⁈⁉。！？．｡।॥؟۔።")
"""What can end a sentence."""
WIDE_ENDS = frozenset("。！？｡")
"""What ends a sentence without white space after it."""
CLOSERS = frozenset("\"'”’»›)]}」』）】》〉］")
"""What can follow the mark at the end and belongs to the sentence."""
OPENERS = frozenset("\"'“‘„‚«‹([{¿¡「『（【《〈［")
"""What can stand before the first letter of a sentence."""
OPENING = frozenset("“„«([{「『（【《〈［")
CLOSING = frozenset("”»)]}」』）】》〉］")
"""Quotes and brackets that nest; a straight quote is counted on its own."""
DASHES = frozenset("-–—―")
CLAUSE_MARKS = frozenset(",;:–—―،؛，、；：")
"""Where a sentence can be cut when white space follows."""
WIDE_CLAUSE_MARKS = frozenset("，、；：")
"""Where it can be cut whatever follows."""

_SPOKEN_SYMBOLS = frozenset("°©®™№℃℉")
_ARROWS = ((0x2190, 0x21FF), (0x27F0, 0x27FF), (0x2900, 0x297F), (0x2B00, 0x2BFF))
_WIDE = (
    (0x1100, 0x115F),  # Hangul jamo
    (0x2E80, 0xA4CF),  # radicals, marks, kana, ideographs, Yi
    (0xAC00, 0xD7A3),  # Hangul
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0xFE30, 0xFE4F),  # compatibility forms
    (0xFF00, 0xFFEF),  # full-width forms
    (0x20000, 0x3FFFF),  # further ideographs
)
_JOINERS = "\u200c\u200d"


def words(text: str) -> frozenset[str]:
    """Return the words of a list."""
    return frozenset(text.split())


def is_wide(char: str) -> bool:
    """Return whether a character is of Chinese, Japanese or Korean writing; "" is not."""
    return char >= "ᄀ" and any(low <= ord(char) <= high for low, high in _WIDE)


def width(char: str) -> int:
    """Return how much a character counts towards the length of a piece."""
    return WIDE_WIDTH if is_wide(char) else 1


def is_mark(char: str) -> bool:
    """Return whether a character is written onto the one before it, and must not be parted from it."""
    return char >= "\u0300" and unicodedata.category(char) in {"Mn", "Mc"}


def spoken(char: str, before: str) -> str:
    """Return what a voice is given for a character: itself, a space, or "" when it says nothing.

    Emoji, their joiners and selectors, control characters and halves of a surrogate pair say nothing.

    Args:
        char: The character.
        before: The one before it.
    """
    if char.isascii():
        return char if char.isprintable() and char != "`" else ""
    if char == "ℹ" or _is_selector(char):
        return ""
    if char.isalnum() or char in _SPOKEN_SYMBOLS:
        return char
    if any(low <= ord(char) <= high for low, high in _ARROWS):
        return " "
    if char in _JOINERS and (before.isalpha() or is_mark(before)):
        return char
    category = unicodedata.category(char)
    return "" if category[0] == "C" or category in {"So", "Me", "Sk"} else char


def _is_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0000" <= char <= "\U000e0fff"
