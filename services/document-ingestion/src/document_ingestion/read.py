"""Bytes of a document into its sections, by their kind."""

from __future__ import annotations

import codecs
from pathlib import PurePath
from typing import TYPE_CHECKING

from document_ingestion.html import parse_html
from document_ingestion.markdown import parse_markdown, parse_text
from document_ingestion.pdf import parse_pdf
from document_ingestion.sources import SUFFIXES
from handler_base.errors import InvalidRequest

if TYPE_CHECKING:
    from document_ingestion.blocks import Parsed

_KINDS = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/plain": "text",
    "text/x-rst": "text",
    "application/pdf": "pdf",
}
_BOMS = (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")


def kind_of(uri: str, content_type: str = "") -> str:
    """Return what a document is to be read as: `markdown`, `text`, `html` or `pdf`.

    Args:
        uri: Its path or URL; the suffix decides where the type does not.
        content_type: The type that came with a page, or "".

    Raises:
        InvalidRequest: If it is of a kind that cannot be read.
    """
    kind = _KINDS.get(content_type.partition(";")[0].strip().lower(), "")
    by_suffix = SUFFIXES.get(PurePath(uri.partition("?")[0]).suffix.lower(), "")
    if kind == "text" or not kind:
        kind = by_suffix or kind
    if not kind and content_type:
        raise InvalidRequest(f"is {content_type.partition(';')[0]}, which cannot be read")
    return kind or "text"


def parse(content: bytes, kind: str, charset: str = "") -> Parsed:
    """Return the sections of a document; none if it has no text. Blocking: a PDF file may take seconds.

    Args:
        content: The document.
        kind: As `kind_of` returns it.
        charset: The charset that came with a page, or "".

    Raises:
        InvalidRequest: If it cannot be read.
    """
    if kind == "pdf":
        return parse_pdf(content)
    text = _decoded(content, charset).replace("\r\n", "\n").replace("\r", "\n")
    parser = {"markdown": parse_markdown, "html": parse_html}.get(kind, parse_text)
    return parser(text)


def _decoded(content: bytes, charset: str) -> str:
    encoding = next((name for mark, name in _BOMS if content.startswith(mark)), charset or "utf-8")
    try:
        text = content.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise InvalidRequest(f"is not {encoding.upper()} text: {error}") from error
    if "\0" in text:
        raise InvalidRequest("is not text: it has zero bytes")
    return text
