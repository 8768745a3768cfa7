"""How text is laid out on a terminal: what fits into a line, columns, spans of time."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from handlers_cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_COLUMNS = 40
_LONG = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))


def cells(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def one_line(text: str) -> str:
    """Return foreign text as one line that cannot steer a terminal."""
    return " ".join(printable(text).split())


def start_of(text: str, columns: int) -> str:
    """Return `text`, or as much of its start as fits into `columns` with a mark that it goes on."""
    used = 0
    fits = 0  # how much of it leaves room for the mark
    for number, character in enumerate(text):
        used += cells(character)
        if used > columns:
            return f"{text[:fits]}…" if columns > 0 else ""
        if used < columns:
            fits = number + 1
    return text


def end_of(text: str, columns: int) -> str:
    """Return `text`, or as much of its end as fits into `columns` with a mark that more comes before."""
    used, start = 0, len(text)
    while start > 0:
        used += cells(text[start - 1])
        if used > columns - (start > 1):
            return f"…{text[start:]}"
        start -= 1
    return text


def aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the cells of a table padded to its columns; a column without any text is left out."""
    wide = [min(_MOST_COLUMNS, max(map(len, column))) for column in zip(*rows, strict=True)]
    return [[f"{cell:<{width}}" for cell, width in zip(row, wide, strict=True) if width] for row in rows]


def duration(seconds: float) -> str:
    """Return a span of time as people say it: `0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`, `4 d 03 h`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for name, length, rest, part in _LONG:
        if whole >= length:
            return f"{whole // length} {name} {whole % length // part:02d} {rest}"
    return f"{whole} s"
