"""What the readers make of a document: sections under their headings, in blocks that know where they may be cut."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from document_ingestion.sentences import sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LINK = re.compile(r"!?\[([^\]]*)\]\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\)")
_CELL_BAR = re.compile(r"(?<!\\)\|")


class Block(msgspec.Struct, frozen=True):
    """A paragraph, list, piece of code or table.

    Attributes:
        kind: What it is. Code and tables are not cut where they fit into a chunk.
        pieces: Sentences, items, lines or rows: it may be cut between them.
        joint: What stands between two pieces.
        head: What stands before the pieces, also of a part: a fence, the header of a table.
        tail: What stands after them.
        plain: The pieces in words alone, for the embedding; empty when the pieces themselves will do.
    """

    kind: Literal["text", "list", "code", "table"]
    pieces: tuple[str, ...]
    joint: str = "\n"
    head: str = ""
    tail: str = ""
    plain: tuple[str, ...] = ()

    def text(self, start: int = 0, end: int | None = None) -> str:
        """Return some of the pieces as they are quoted."""
        return f"{self.head}{self.joint.join(self.pieces[start:end])}{self.tail}"

    def words(self, start: int = 0, end: int | None = None) -> str:
        """Return some of the pieces as they are embedded."""
        return self.joint.join((self.plain or self.pieces)[start:end])


class Section(msgspec.Struct, frozen=True):
    """Blocks under one heading.

    Attributes:
        headings: The headings above it, outermost first.
        blocks: In reading order.
    """

    headings: tuple[str, ...]
    blocks: tuple[Block, ...]


class Parsed(msgspec.Struct, frozen=True):
    """A document as a reader gives it.

    Attributes:
        title: Its title, or "" if it names none.
        sections: In reading order.
    """

    title: str
    sections: tuple[Section, ...]


class Outline:
    """Collects blocks into sections as a reader meets headings and blocks."""

    def __init__(self) -> None:
        self.title = ""
        self._path: list[tuple[int, str]] = []
        self._blocks: list[Block] = []
        self._sections: list[Section] = []

    def heading(self, level: int, text: str) -> None:
        """Begin a section. The first heading of level 1 is the title if there is none yet."""
        self._flush()
        text = " ".join(plain(text).split())
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if level == 1 and not self.title:
            self.title = text
        self._path.append((level, text))

    def add(self, block: Block) -> None:
        """Add a block to the section."""
        if any(piece.strip() for piece in block.pieces):
            self._blocks.append(block)

    def parsed(self) -> Parsed:
        """Return the whole document."""
        self._flush()
        return Parsed(self.title, tuple(self._sections))

    def _flush(self) -> None:
        if self._blocks:
            headings = tuple(text for _, text in self._path if text)
            self._sections.append(Section(headings, tuple(self._blocks)))
            self._blocks = []


def paragraph(text: str) -> Block:
    """Return a paragraph, which may be cut between sentences."""
    found = tuple(sentences(" ".join(text.split())))
    return Block("text", found, joint=" ", plain=tuple(map(plain, found)))


def items(texts: Iterable[str]) -> Block:
    """Return a list, which may be cut between items."""
    found = tuple(texts)
    return Block("list", found, plain=tuple(map(plain, found)))


def code(text: str, language: str = "") -> Block:
    """Return code, which is cut between lines if it must be."""
    fence = "```" if "```" not in text else "~~~~"
    lines = tuple(text.rstrip().split("\n"))
    return Block("code", lines, head=f"{fence}{language}\n", tail=f"\n{fence}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Block:
    """Return a table, which is cut between rows if it must be; each part repeats the header.

    For the embedding each cell is named by its column, so that a row is found without its table.
    """
    width = max([len(header), *map(len, rows)])
    names = [plain(cell) for cell in header]
    lines = tuple(_row([*row, *[""] * (width - len(row))]) for row in rows)
    words = tuple(
        "; ".join(
            f"{name}: {plain(cell)}" if name else plain(cell)
            for name, cell in zip([*names, *[""] * (width - len(names))], row, strict=False)
            if cell
        )
        for row in rows
    )
    head = f"{_row([*header, *[''] * (width - len(header))])}\n{_row(['---'] * width)}\n"
    return Block("table", lines, head=head, plain=words)


def cells(row: str) -> list[str]:
    """Return the cells of a row of a Markdown table."""
    inner = row.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    return [cell.strip().replace("\\|", "|") for cell in _CELL_BAR.split(inner)]


def plain(text: str) -> str:
    """Return Markdown text without the targets of its links and without emphasis marks."""
    return _LINK.sub(r"\1", text).replace("**", "").replace("`", "")


def _row(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
