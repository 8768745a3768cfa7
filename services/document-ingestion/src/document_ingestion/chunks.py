"""Cuts a document into overlapping chunks that respect headings, sentences, code and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from handler_base.conversation.prompt import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from document_ingestion.blocks import Block, Parsed, Section

_PATH = " > "
_HEADING_MAX = 200


class Piece(msgspec.Struct, frozen=True):
    """One chunk of a document.

    Attributes:
        title: Title of the document and the headings above the chunk.
        text: What a prompt quotes.
        embedded: What is embedded: title and text in words alone.
    """

    title: str
    text: str
    embedded: str


def measure_of(unit: Literal["characters", "tokens"]) -> Callable[[str], int]:
    """Return what measures a text: its characters, or an estimate of its tokens."""
    return len if unit == "characters" else estimate_tokens


def cut(parsed: Parsed, title: str, *, size: int, overlap: int, measure: Callable[[str], int]) -> list[Piece]:
    """Cut a document.

    No chunk spans two sections. Within one, a chunk begins with the last sentences of the one before. Code and
    tables that fit are not cut; a larger table is cut between rows and repeats its header.

    Args:
        parsed: The document.
        title: Its title.
        size: Longest chunk, by `measure`; only a fence or header that is repeated may exceed it.
        overlap: Most that a chunk repeats of the one before it; 0 for nothing.
        measure: Length of a text.
    """
    found: list[Piece] = []
    for section in parsed.sections:
        path = _path(title, section)
        for chunk in _Packer(size, overlap, measure).pack(section):
            text, words = chunk
            found.append(Piece(path, text, f"{path}\n{words}"))
    return found


def _path(title: str, section: Section) -> str:
    parts = [title, *section.headings]
    if len(parts) > 1 and parts[0] == parts[1]:
        del parts[0]
    return _PATH.join(part[:_HEADING_MAX] for part in parts)


class _Run:
    """Consecutive pieces of one block."""

    __slots__ = ("block", "end", "start")

    def __init__(self, block: Block, start: int, end: int) -> None:
        self.block = block
        self.start = start
        self.end = end


class _Packer:
    """Fills chunks with pieces of the blocks of one section."""

    def __init__(self, size: int, overlap: int, measure: Callable[[str], int]) -> None:
        self._size = size
        self._overlap = overlap
        self._measure = measure
        self._runs: list[_Run] = []
        self._fresh = False
        self._chunks: list[tuple[str, str]] = []

    def pack(self, section: Section) -> list[tuple[str, str]]:
        """Return the text and the words of each chunk."""
        for block in map(self._divided, section.blocks):
            whole = _Run(block, 0, len(block.pieces))
            if block.kind in {"code", "table"} and self._measure(block.text()) <= self._size:
                self._put(whole)
            else:
                for number in range(len(block.pieces)):
                    self._put(_Run(block, number, number + 1))
        self._flush()
        return self._chunks

    def _put(self, run: _Run) -> None:
        """Add pieces to the chunk, or begin another with them."""
        longer = self._with(self._runs, run)
        if self._fresh and self._measure(_text(longer)) > self._size:
            kept = self._tail()
            self._flush()
            longer = self._with(kept, run)
            if self._measure(_text(longer)) > self._size:
                longer = [run]
        elif not self._fresh and self._measure(_text(longer)) > self._size:
            longer = [run]
        self._runs = longer
        self._fresh = True

    def _with(self, runs: list[_Run], run: _Run) -> list[_Run]:
        if runs and runs[-1].block is run.block and runs[-1].end == run.start:
            return [*runs[:-1], _Run(run.block, runs[-1].start, run.end)]
        return [*runs, run]

    def _tail(self) -> list[_Run]:
        """Return the last sentences or items of the chunk, as many as the overlap holds."""
        if not self._runs or self._runs[-1].block.kind not in {"text", "list"}:
            return []
        last = self._runs[-1]
        start = last.end
        while start > last.start and self._measure(last.block.text(start - 1, last.end)) <= self._overlap:
            start -= 1
        whole = start == last.start and len(self._runs) == 1
        return [] if start == last.end or whole else [_Run(last.block, start, last.end)]

    def _flush(self) -> None:
        if self._fresh:
            words = "\n".join(run.block.words(run.start, run.end) for run in self._runs)
            self._chunks.append((_text(self._runs), words))
        self._runs = []
        self._fresh = False

    def _divided(self, block: Block) -> Block:
        """Return the block with pieces that fit: a sentence, line or row may be longer than a chunk."""
        head, tail = block.head, block.tail
        if self._measure(head + tail) > self._size // 2:
            head = tail = ""
        room = self._size - self._measure(head + tail)
        pieces: list[str] = []
        words: list[str] = []
        for number, piece in enumerate(block.pieces):
            plain = block.plain[number] if block.plain else piece
            if self._measure(piece) <= room:
                pieces.append(piece)
                words.append(plain)
            else:
                parts = list(self._broken(piece, room))
                pieces += parts
                words += parts
        return msgspec.structs.replace(block, pieces=tuple(pieces), plain=tuple(words), head=head, tail=tail)

    def _broken(self, text: str, room: int) -> Iterator[str]:
        """Cut text between words where that is possible."""
        while self._measure(text) > room:
            low, high = 1, len(text)
            while low < high:  # the longest start that fits
                middle = (low + high + 1) // 2
                low, high = (middle, high) if self._measure(text[:middle]) <= room else (low, middle - 1)
            space = text.rfind(" ", low // 2, low + 1)
            end = space if space > 0 else low
            yield text[:end].rstrip()
            text = text[end:].lstrip()
        if text:
            yield text


def _text(runs: list[_Run]) -> str:
    return "\n\n".join(run.block.text(run.start, run.end) for run in runs)
