"""Reads the text of PDF files, page by page."""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib

from document_ingestion.blocks import Outline, Parsed, paragraph
from handler_base.errors import InvalidRequest

_HYPHEN = re.compile(r"(\w)[-\u00ad]\n(?=[a-zß-ÿ])")
# What a damaged file makes pypdf raise beside its own errors.
_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    struct.error, zlib.error,
)  # fmt: skip


def parse_pdf(content: bytes) -> Parsed:
    """Read a PDF file; each page is a section. Blocking: takes up to seconds.

    Raises:
        InvalidRequest: If it is damaged, locked by a password, or has no text.
    """
    import pypdf
    import pypdf.errors

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of every oddity of every file
    outline = Outline()
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise InvalidRequest("is locked by a password")
        pages = [page.extract_text() for page in reader.pages]
        title = str((reader.metadata and reader.metadata.title) or "").strip()
    except InvalidRequest:
        raise
    except (pypdf.errors.PyPdfError, pypdf.errors.DependencyError, *_DAMAGE) as error:
        raise InvalidRequest(f"cannot be read as PDF: {error or type(error).__name__}") from error
    for number, text in enumerate(pages, 1):
        if not text.strip():
            continue
        if len(pages) > 1:
            outline.heading(2, f"page {number}")
        for part in re.split(r"\n\s*\n", _HYPHEN.sub(r"\1", text)):
            outline.add(paragraph(part))
    parsed = outline.parsed()
    if not parsed.sections:
        raise InvalidRequest("has no text: its pages may be pictures")
    return Parsed(title, parsed.sections)
