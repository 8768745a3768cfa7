"""flite, the program that speaks: one process a sentence, ended when nobody listens any more.

Source: https://github.com/festvox/flite; Debian's package holds the voices.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import struct
from typing import NamedTuple

from local_inference.wire import ApiError

RATE = 16_000
"""Samples a second of what is said."""

_SENTENCE_SECONDS = 60.0
_HEADER = struct.Struct("<4sI8sIHHIIHH4sI")


class Voice(NamedTuple):
    """One of flite's voices."""

    id: str
    name: str
    language: str


VOICES = {
    voice.id: voice
    for voice in (
        Voice("slt", "US English, female", "en-US"),
        Voice("rms", "US English, male", "en-US"),
        Voice("awb", "Scottish English, male", "en-GB"),
        Voice("kal16", "US English, male, mechanical", "en-US"),
    )
}

_ALIASES = {
    "slt": ("", "default", "alloy", "nova", "shimmer", "coral", "sage", "marin", "cmu_us_slt"),
    "rms": ("echo", "onyx", "ash", "verse", "cedar", "cmu_us_rms"),
    "awb": ("fable", "ballad", "cmu_us_awb"),
    "kal16": ("kal", "kal_diphone", "cmu_us_kal", "cmu_us_kal16"),
}
_NAMES = {alias: voice for voice, aliases in _ALIASES.items() for alias in (voice, *aliases)}


def voice_named(name: str) -> Voice:
    """Return a voice by its own name or by one of OpenAI's.

    Raises:
        ApiError: 400, with those there are.
    """
    found = _NAMES.get(name.strip().lower())
    if found is None:
        known = ", ".join(VOICES)
        raise ApiError(400, f"there is no voice {name!r}; there are {known}", param="voice")
    return VOICES[found]


class Flite:
    """The program.

    Args:
        path: Its path, or its name on PATH.
        parallel: How many speak at the same time; more wait for their turn.
    """

    def __init__(self, path: str, parallel: int) -> None:
        self._path = path
        self._turns = asyncio.Semaphore(parallel)

    @property
    def missing(self) -> str:
        """Why nothing can be said, or nothing."""
        if shutil.which(self._path):
            return ""
        return (
            f"speech needs the program flite, and there is no {self._path!r}: apt-get install flite, or brew install "
            "flite, or set FLITE_PATH"
        )

    async def say(self, text: str, voice: Voice, *, speed: float = 1.0) -> bytes:
        """Return one sentence as PCM: 16 bits, little endian, mono, 16 kHz.

        Args:
            text: Printable ASCII, at most some thousand characters.
            voice: Who says it.
            speed: 2 is twice as fast.

        Raises:
            ApiError: 503 `engine_missing`, or 500 when flite fails.
        """
        if self.missing:
            raise ApiError(503, self.missing, code="engine_missing")
        async with self._turns:
            # There is no shell, and what follows -t is text whatever it begins with.
            process = await asyncio.create_subprocess_exec(
                shutil.which(self._path) or self._path,
                *("-voice", voice.id),
                *("--setf", f"duration_stretch={1 / speed:.4f}"),
                *("-t", text),
                *("-o", "/dev/stdout"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                async with asyncio.timeout(_SENTENCE_SECONDS):
                    said, _ = await process.communicate()
            except TimeoutError as error:
                raise ApiError(500, "flite takes too long", code="engine_failed") from error
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        return _pcm(said, process.returncode)


def _pcm(said: bytes, status: int | None) -> bytes:
    if len(said) > _HEADER.size:
        riff, _, form, _, _, channels, rate, _, _, bits, data, _ = _HEADER.unpack_from(said)
        if (riff, form, channels, rate, bits, data) == (b"RIFF", b"WAVEfmt ", 1, RATE, 16, b"data"):
            return said[_HEADER.size :]
    raise ApiError(500, f"flite said nothing; it ended with {status}", code="engine_failed")
