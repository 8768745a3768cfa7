"""Reads HTML: the main text under its headings, without navigation, scripts and forms."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from document_ingestion.blocks import Outline, Parsed, code, items, paragraph, table

_SKIPPED = {
    "script", "style", "noscript", "template", "svg", "iframe", "object", "canvas", "nav", "aside", "footer",
    "form", "button", "select", "dialog", "math",
}  # fmt: skip
_VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # fmt: skip
_BREAKS = {
    "p", "div", "section", "article", "main", "header", "blockquote", "figure", "figcaption", "dl", "dt", "dd",
    "ul", "ol", "li", "table", "thead", "tbody", "tr", "td", "th", "pre", "hr", "address", "details", "summary",
    "h1", "h2", "h3", "h4", "h5", "h6", "body", "html", "head", "title",
}  # fmt: skip
_HEADING = re.compile(r"h([1-6])$")
_LANGUAGE = re.compile(r"\blang(?:uage)?-([\w+#-]+)")


def parse_html(text: str) -> Parsed:
    """Read HTML. Where the page marks its main part (`main`, `article`), only that is read."""
    whole = _read(text, None)
    for marker in ("main", "article"):
        part = _read(text, marker)
        if part.sections:
            return Parsed(part.title or whole.title, part.sections)
    return whole


def _read(text: str, only: str | None) -> Parsed:
    reader = _Reader(only)
    reader.feed(text)
    reader.close()
    return reader.parsed()


class _Reader(HTMLParser):
    """Collects text until a block begins or ends. Tolerates tags that are never closed."""

    def __init__(self, only: str | None) -> None:
        super().__init__(convert_charrefs=True)
        self._only = only
        self._inside = 0
        self._skip: list[str] = []
        self._outline = Outline()
        self._text: list[str] = []
        self._title: list[str] | None = None
        self._page_title = ""
        self._heading = 0
        self._pre: list[str] | None = None
        self._language = ""
        self._lists: list[list[str]] = []
        self._rows: list[list[str]] | None = None

    def parsed(self) -> Parsed:
        self._flush()
        while self._lists:
            self._end_list()
        self._end_table()
        found = self._outline.parsed()
        return Parsed(self._page_title or found.title, found.sections)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.handle_data("\n")
        if tag in _VOID or self._skipped(tag, attrs):
            return
        if tag == self._only:
            self._inside += 1
        if tag == "title" and not self._page_title:
            self._title = []
        if self._pre is not None:
            match = _LANGUAGE.search(dict(attrs).get("class") or "") if tag == "code" else None
            self._language = match[1] if match else self._language
        elif tag in _BREAKS:
            self._flush()
            self._begin(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._skip:
            if tag == self._skip[-1]:
                self._skip.pop()
            return
        if tag == "title" and self._title is not None:
            self._page_title = " ".join("".join(self._title).split())
            self._title = None
        if tag in _BREAKS and (self._pre is None or tag == "pre"):
            self._flush()
            if tag in {"ul", "ol"}:
                self._end_list()
            elif tag == "table":
                self._end_table()
            elif _HEADING.match(tag):
                self._heading = 0
        if tag == self._only and self._inside:
            self._inside -= 1

    def handle_data(self, data: str) -> None:
        if self._title is not None:
            self._title.append(data)
        elif not self._skip and (self._only is None or self._inside):
            (self._text if self._pre is None else self._pre).append(data)

    def _skipped(self, tag: str, attrs: list[tuple[str, str | None]]) -> bool:
        if self._skip:
            if tag == self._skip[-1]:
                self._skip.append(tag)
        elif tag in _SKIPPED or any(name == "hidden" for name, _ in attrs):
            self._skip.append(tag)
        return bool(self._skip)

    def _begin(self, tag: str) -> None:
        match tag:
            case "pre":
                self._pre, self._language = [], ""
            case "ul" | "ol":
                self._lists.append([])
            case "li" if self._lists and self._rows is None:
                self._lists[-1].append(f"{'  ' * (len(self._lists) - 1)}-")
            case "table" if self._rows is None:
                self._rows = []
            case "tr" if self._rows is not None:
                self._rows.append([])
            case "td" | "th" if self._rows:
                self._rows[-1].append("")
            case _ if heading := _HEADING.match(tag):
                self._heading = int(heading[1])
            case _:
                pass

    def _flush(self) -> None:
        """Put the text so far where it belongs."""
        if self._pre is not None:
            text, self._pre = "".join(self._pre).strip("\n"), None
            if self._rows is None and not self._lists:
                self._outline.add(code(text, self._language))
                return
            self._text.append(text)
        text = " ".join("".join(self._text).split())
        self._text = []
        if not text:
            return
        if self._heading:
            self._outline.heading(self._heading, text)
        elif self._rows and self._rows[-1]:
            self._rows[-1][-1] = f"{self._rows[-1][-1]} {text}".strip()
        elif self._lists and self._lists[-1]:
            self._lists[-1][-1] += f" {text}"
        else:
            self._outline.add(paragraph(text))

    def _end_list(self) -> None:
        if not self._lists:
            return
        found = [item for item in self._lists.pop() if item.strip() != "-"]
        if self._lists:
            self._lists[-1].extend(found)
        else:
            self._outline.add(items(found))

    def _end_table(self) -> None:
        rows = [row for row in self._rows or () if any(row)]
        self._rows = None
        if len(rows) > 1:
            self._outline.add(table(rows[0], rows[1:]))
        elif rows:
            self._outline.add(paragraph(" ".join(rows[0])))
