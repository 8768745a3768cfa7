"""Pieces of an answer that are spoken one by one, and how long they are; `speech` cuts them.

Services know these from their start on; the cutter, with its tables of marks and abbreviations, comes with the first
answer.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from handler_base.config import Settings, env


class SpeechSettings(Settings, frozen=True, kw_only=True):
    """How long pieces are, in characters; a Chinese, Japanese or Korean one counts as three."""

    first_chars: Annotated[
        int, env("SPEECH_FIRST_CHARS", help="fewest characters of a first piece that is no sentence", ge=1)
    ] = 12
    first_max_chars: Annotated[
        int, env("SPEECH_FIRST_MAX_CHARS", help="where the first piece is cut without punctuation", ge=10)
    ] = 25
    max_chars: Annotated[int, env("SPEECH_MAX_CHARS", help="most characters of a piece", ge=20)] = 240


class Piece(NamedTuple):
    """A part of an answer.

    Attributes:
        text: What is spoken: plain text with at least one letter or digit.
        source: The part of the answer it stands for, as the model wrote it.
    """

    text: str
    source: str
