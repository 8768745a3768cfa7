"""A text cut into what is said in one breath, in the characters that flite can say."""

from __future__ import annotations

import re
import unicodedata

from local_inference.passages import sentences_of

_LONGEST = 400
"""Characters: so that the first audio is there soon, and far below what a program's argument may hold."""

_ASCII = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": ", ", "\u2014": ", ", "\u2026": "... ",
        "\u20ac": " euros ", "\u00a3": " pounds ", "\u00b0": " degrees ", "\u00df": "ss", "\u00e6": "ae", "\u00c6": "AE",
        "\u00f8": "o", "\u00d8": "O", "\u0142": "l", "\u0141": "L", "\u0153": "oe", "\u0152": "OE",
    }
)  # fmt: skip
_UNSAYABLE = re.compile(r"[^ -~]+")
_FOREIGN_END = re.compile(r"[\u3002\uff01\uff1f]|\n\s*\n")
_BREATH = re.compile(r"(?<=[,;:])\s+")


def utterances(text: str) -> list[str]:
    """Return what is to be said, sentence by sentence; nothing where nothing can be said.

    Args:
        text: Any text. Letters lose their accents; what has no place in ASCII, such as emoji, is left out.
    """
    found: list[str] = []
    for sentence in (s for part in _FOREIGN_END.split(text) for s in sentences_of(part)):
        plain = " ".join(sayable(sentence).split())
        while len(plain) > _LONGEST:
            at = _last_break(plain)
            found.append(plain[:at].strip())
            plain = plain[at:].strip()
        found.append(plain)
    return [part for part in found if re.search(r"[A-Za-z0-9]", part)]


def sayable(text: str) -> str:
    """Return a text in printable ASCII."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_ASCII))
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return _UNSAYABLE.sub(" ", letters)


def _last_break(text: str) -> int:
    breaths = [match.end() for match in _BREATH.finditer(text, 0, _LONGEST)]
    if breaths and breaths[-1] > _LONGEST // 3:
        return breaths[-1]
    space = text.rfind(" ", 1, _LONGEST)
    return space if space > 0 else _LONGEST
