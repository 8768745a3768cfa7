"""Reads Markdown (CommonMark's blocks and GitHub's tables, as far as cutting needs them) and plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from document_ingestion.blocks import Outline, Parsed, cells, code, items, paragraph, table

if TYPE_CHECKING:
    from collections.abc import Callable

_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([^`]*)$")
_ATX = re.compile(r" {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)\s*$")
_RULE = re.compile(r" {0,3}([-*_])(?:\s*\1){2,}\s*$")
_DELIMITER = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s+\S")
_REFERENCE = re.compile(r" {0,3}\[[^\]]+\]:\s*\S+")
_TAGS_ALONE = re.compile(r"\s*(?:<[/!]?[A-Za-z][^>]*>\s*)+$")
_BADGES_ALONE = re.compile(r"\s*(?:\[?!\[[^\]]*\]\([^)]*\)(?:\]\([^)]*\))?\s*)+$")
_TITLE = re.compile(r"title:\s*(.+?)\s*$")


def parse_markdown(text: str) -> Parsed:
    """Read Markdown."""
    return _Reader(text).read()


def parse_text(text: str) -> Parsed:
    """Read plain text: paragraphs between blank lines."""
    outline = Outline()
    for part in re.split(r"\n\s*\n", text):
        outline.add(paragraph(part))
    return outline.parsed()


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = text.expandtabs(4).split("\n")
        self._at = 0
        self._outline = Outline()
        self._pending: list[str] = []

    def read(self) -> Parsed:
        self._front_matter()
        readers: tuple[Callable[[str], bool], ...] = (
            self._fenced,
            self._comment,
            self._heading,
            self._underlined,
            self._table,
            self._list,
            self._indented,
            self._skipped,
        )
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if not any(read(line) for read in readers):
                self._pending.append(line.strip().removeprefix(">").strip())
                self._at += 1
        self._flush()
        return self._outline.parsed()

    def _flush(self) -> None:
        if self._pending:
            self._outline.add(paragraph(" ".join(self._pending)))
            self._pending = []

    def _front_matter(self) -> None:
        if self._lines[0].rstrip() != "---":
            return
        for number, line in enumerate(self._lines[1:200], 1):
            if line.rstrip() == "---":
                for entry in self._lines[1:number]:
                    if match := _TITLE.match(entry):
                        self._outline.title = match[1].strip("\"'")
                self._at = number + 1
                return

    def _fenced(self, line: str) -> bool:
        match = _FENCE.match(line)
        if match is None:
            return False
        self._flush()
        indent = len(line) - len(line.lstrip())
        body: list[str] = []
        self._at += 1
        while self._at < len(self._lines):
            inner = self._lines[self._at]
            self._at += 1
            closing = inner.strip()
            if closing.startswith(match[1]) and not closing.strip(match[1][0]):
                break
            body.append(inner[indent:] if not inner[:indent].strip() else inner)
        self._outline.add(code("\n".join(body), match[2].strip()))
        return True

    def _comment(self, line: str) -> bool:
        if not line.lstrip().startswith("<!--"):
            return False
        self._flush()
        while self._at < len(self._lines) and "-->" not in self._lines[self._at]:
            self._at += 1
        self._at += 1
        return True

    def _heading(self, line: str) -> bool:
        match = _ATX.match(line)
        if match is None:
            return False
        self._flush()
        self._outline.heading(len(match[1]), match[2] or "")
        self._at += 1
        return True

    def _underlined(self, line: str) -> bool:
        match = _SETEXT.match(line)
        if match is None or len(self._pending) != 1 or not self._pending[0]:
            return False
        title = self._pending.pop()
        self._outline.heading(1 if match[1][0] == "=" else 2, title)
        self._at += 1
        return True

    def _table(self, line: str) -> bool:
        following = self._lines[self._at + 1] if self._at + 1 < len(self._lines) else ""
        if not _begins_table(line, following):
            return False
        header = cells(line)
        self._flush()
        self._at += 2
        rows: list[list[str]] = []
        while self._at < len(self._lines) and "|" in self._lines[self._at]:
            rows.append(cells(self._lines[self._at]))
            self._at += 1
        if rows:
            self._outline.add(table(header, rows))
        return True

    def _list(self, line: str) -> bool:
        if not _ITEM.match(line) or _RULE.match(line):
            return False
        self._flush()
        found: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            blank = not line.strip()
            following = self._lines[self._at + 1] if self._at + 1 < len(self._lines) else ""
            if blank and not (_ITEM.match(following) or following.startswith("  ")):
                break
            if _ATX.match(line) or _FENCE.match(line) or _RULE.match(line) or _begins_table(line, following):
                break
            if _ITEM.match(line):
                found.append(line.rstrip())
            elif not blank:
                found[-1] += f" {line.strip()}"
            self._at += 1
        self._outline.add(items(found))
        return True

    def _indented(self, line: str) -> bool:
        if self._pending or not line.startswith("    ") or not line.strip():
            return False
        body: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip() and not line.startswith("    "):
                break
            body.append(line[4:])
            self._at += 1
        self._outline.add(code("\n".join(body)))
        return True

    def _skipped(self, line: str) -> bool:
        """Blank lines, rules, reference definitions, and lines of nothing but tags or badges."""
        if not line.strip() or _RULE.match(line):
            self._flush()
        elif not (
            (not self._pending and _REFERENCE.match(line))
            or _TAGS_ALONE.match(line)
            or _BADGES_ALONE.match(line)
        ):
            return False
        self._at += 1
        return True


def _begins_table(line: str, following: str) -> bool:
    return (
        "|" in line and _DELIMITER.match(following) is not None and len(cells(following)) == len(cells(line))
    )
