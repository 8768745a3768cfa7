"""Audio files that come in: what they are, and what was recorded in them."""

from __future__ import annotations

import io
import sys
from array import array
from pathlib import Path
from typing import Any, NamedTuple

from handler_base.audio import AudioError, sniff
from handler_base.errors import HandlerError
from handlers_cli.terminal import size
from handlers_cli.voice.recording import Recording, read_wav


class FileError(HandlerError):
    """An audio file cannot be used."""

    type = "audio_file"


MAX_BYTES = 1 << 30
"""Largest file that is read."""


class AudioFile(NamedTuple):
    """An audio file as it is.

    Attributes:
        name: What people call it.
        data: Its bytes.
        format: `wav`, `flac`, `ogg`, `mp3`, `mp4` or `webm`.
    """

    name: str
    data: bytes
    format: str


def open_audio(path: str) -> AudioFile:
    """Read a file, or standard input for `-`.

    Raises:
        FileError: If it cannot be read, or is no audio.
    """
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FileError(f"{name} cannot be read: {error.strerror or error}") from error
    if not data:
        raise FileError(f"{name} is empty")
    if len(data) > MAX_BYTES:
        raise FileError(f"{name} is larger than {size(MAX_BYTES)}")
    found = sniff(data)
    if not found:
        raise FileError(f"{name} is no audio file that is known here")
    return AudioFile(name, data, found)


def decode(file: AudioFile) -> Recording:
    """Return what was recorded: WAV by ourselves, other formats with the help of `soundfile`.

    Raises:
        FileError: If it cannot be read.
    """
    if file.format != "wav":
        return _decode_with_soundfile(file)
    try:
        return read_wav(file.data)
    except AudioError as error:
        raise FileError(f"{file.name} cannot be used: {error}") from error


def _decode_with_soundfile(file: AudioFile) -> Recording:
    try:
        # It brings numpy, and a library of the system's where its wheel has none.
        import soundfile  # pyright: ignore[reportMissingTypeStubs]
    except (ImportError, OSError):
        raise FileError(
            f"{file.name} is {file.format}; formats other than WAV need handlers-cli[audio]: install it, or convert the "
            "file first, for instance with `ffmpeg -i in.mp3 out.wav`"
        ) from None
    library: Any = soundfile
    try:
        samples, rate = library.read(io.BytesIO(file.data), dtype="int16", always_2d=True)
    except library.LibsndfileError as error:
        raise FileError(f"{file.name} cannot be decoded as {file.format}: {error}") from error
    if not len(samples):
        raise FileError(f"{file.name} has no samples")
    mixed = samples if samples.shape[1] == 1 else samples.mean(axis=1)
    return Recording(array("h", mixed.astype("int16").tobytes()), int(rate))
