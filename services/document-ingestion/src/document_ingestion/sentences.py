"""Cuts text into sentences by its punctuation, without a dictionary of any language."""

from __future__ import annotations

import re

# A full stop, question or exclamation mark with what closes it, before white space and what can begin a sentence;
# the full-width marks of Chinese and Japanese need no white space.
_END = re.compile(r"""(?:[.!?…]+["'”’)\]*_`]*(?=\s+["'“‘(\[*_`]*[^\s\Wa-z_])|[。！？]+["'”’」』）]*)""")  # noqa: RUF001
_NOT_AN_END = re.compile(
    r"(?:\b(?:[A-Z]|[A-Za-z]\.[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|vs|cf|etc|approx|Fig|No|Nos|Vol|pp?|ca|bzw|Nr|Abs)\.)$"
)


def sentences(text: str) -> list[str]:
    """Return the sentences of `text`, which is one paragraph; together they are the text but for white space."""
    found: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if match[0] == "." and _NOT_AN_END.search(text, start, match.end()):
            continue
        if sentence := text[start : match.end()].strip():
            found.append(sentence)
        start = match.end()
    if rest := text[start:].strip():
        found.append(rest)
    return found
