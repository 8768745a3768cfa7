"""Speech for tests: a voice that says a text, and how far a transcript is from what was said.

The voice is Debian's `flite`, a real synthesizer of two hundredths of a second a sentence. A test that speaks carries
`needs_flite`, which skips it where the program is missing and says how to get it.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import unicodedata
import wave

import pytest

from handler_base import audio

RATE = 16_000
"""Samples a second of what `speak` returns."""

VOICES = ("awb", "kal16", "rms", "slt")
"""Voices of flite at 16 kHz: a Scot, a robot, a man, a woman."""

FLITE_MISSING = "flite is not on PATH: `make flite` installs it on Debian, `brew install flite` on a Mac"

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason=FLITE_MISSING)
"""Marks a test that speaks."""

_SPEAK_SECONDS = 60

_SMALL = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_UNITS = _SMALL.split()
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WRITTEN = {
    "mr": "mister", "dr": "doctor", "ok": "okay", "%": "percent", "&": "and",
    "1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth",
}  # fmt: skip
_WORD = re.compile(r"\d+(?:st|nd|rd|th)|\d[\d,]*(?:\.\d+)?|[^\W\d_]+|[%&]")


def speak(text: str, voice: str = "slt") -> bytes:
    """Say a text.

    Args:
        text: English, one or more sentences.
        voice: One of `VOICES`.

    Returns:
        PCM of 16 bits, little endian, mono, 16 kHz, without a header.

    Raises:
        ValueError: If there is no such voice.
        RuntimeError: If flite is not installed.
    """
    if voice not in VOICES:
        raise ValueError(f"there is no voice {voice!r} of 16 kHz; there are {', '.join(VOICES)}")
    program = shutil.which("flite")
    if program is None:
        raise RuntimeError(FLITE_MISSING)
    said = subprocess.run(
        [program, "-voice", voice, "-t", text, "-o", "/dev/stdout"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_SPEAK_SECONDS,
    )
    with wave.open(io.BytesIO(said.stdout)) as spoken:
        assert (spoken.getframerate(), spoken.getnchannels(), spoken.getsampwidth()) == (RATE, 1, 2)
        return spoken.readframes(spoken.getnframes())


def wav(pcm: bytes, rate: int = RATE, channels: int = 1) -> bytes:
    """Put a WAV header before PCM of 16 bits.

    Args:
        pcm: Little endian, channels interleaved.
        rate: Samples a second and channel.
        channels: How many there are.
    """
    return audio.wav(pcm, rate, channels)


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Return how many words must be replaced, put in or taken out, as a share of the words that were said.

    Case, punctuation and apostrophes do not count, and `12` is the same as `twelve`.

    Args:
        reference: What was said.
        hypothesis: What was heard.

    Returns:
        0 when nothing is wrong; it can be more than 1. Without a word in `reference`, 0 if nothing was heard, else 1.
    """
    said, heard = _words(reference), _words(hypothesis)
    if not said:
        return float(bool(heard))
    row = list(range(len(heard) + 1))
    for count, word in enumerate(said, 1):
        above, row[0] = row[0], count
        for index, other in enumerate(heard, 1):
            above, row[index] = row[index], min(above + (word != other), row[index] + 1, row[index - 1] + 1)
    return row[-1] / len(said)


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "").replace("'", "")
    return [word for found in _WORD.findall(plain) for word in _spoken(found)]


def _spoken(word: str) -> list[str]:
    if word in _WRITTEN or not word.strip(",")[-1].isdigit():
        return [_WRITTEN.get(word, word)]
    whole, _, fraction = word.replace(",", "").partition(".")
    is_year = word == whole and (1100 <= int(whole) < 2000 or 2010 <= int(whole) < 2100)
    number = _number(int(whole), in_halves=is_year) if len(whole) < 7 else [_UNITS[int(d)] for d in whole]
    return number + (["point", *(_UNITS[int(digit)] for digit in fraction)] if fraction else [])


def _number(value: int, *, in_halves: bool = False) -> list[str]:
    """Return a number below a million in words, without `and`; in halves as one says years."""
    if value < 20:
        return [_UNITS[value]]
    if value < 100:
        size, words = 10, [_TENS[value // 10]]
    elif in_halves and value % 100 > 9:
        size, words = 100, _number(value // 100)
    else:
        size, name = (100, "hundred") if value < 1000 else (1000, "thousand")
        words = [*_number(value // size), name]
    return words + (_number(value % size) if value % size else [])
