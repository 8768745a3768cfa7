"""Audio files in: whatever libsndfile reads, or bare PCM, becomes one channel of 16 kHz.

The first bytes say what a file is, not its name: browsers and bots label wrongly. A file that ends early, or a WAV
whose header was written before its length was known, is read as far as it goes.
"""

from __future__ import annotations

import io
import re
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from local_inference.resample import Resampler, Samples
from local_inference.wire import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 16_000
"""What the recognizer was trained on."""

READABLE = "WAV, FLAC, OGG (Vorbis or Opus), MP3, or PCM named .pcm with the field sample_rate"

_BLOCK = 1024
"""Frames read at once: of a damaged file no more is lost before the damage."""

_MIN_RATE, _MAX_RATE = 1_000, 768_000
_KNOWN = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b".snd")
_FOREIGN = {b"\x1a\x45\xdf\xa3": "WebM", b"OpusHead": "Opus without OGG", b"#!AMR": "AMR", b"%PDF": "PDF"}
_PCM_TYPES = re.compile(r"^audio/(x-)?(pcm|l16|raw)\b|(^|[\s/])\S+\.(pcm|raw)$", re.IGNORECASE)


def read_audio(
    data: bytes, *, label: str = "", rate: int = 0, channels: int = 1, max_seconds: float = float("inf")
) -> Samples:
    """Return the sound of a file.

    Args:
        data: The file.
        label: Its media type or name; only bare PCM needs it.
        rate: Samples a second of bare PCM.
        channels: Of bare PCM.
        max_seconds: Longest file.

    Returns:
        One channel of 16 kHz, between -1 and 1.

    Raises:
        ApiError: 400 if it is empty or no audio that can be read, 413 if it is too long.
    """
    if not data:
        raise ApiError(400, "the file is empty", param="file")
    is_pcm = bool(_PCM_TYPES.search(label)) and not data.startswith(_KNOWN)
    blocks = _pcm_blocks(data, rate, channels) if is_pcm else _file_blocks(data)
    found: list[Samples] = []
    length = 0
    for block in _resampled(blocks):
        length += len(block)
        if length > max_seconds * RATE:
            message = f"the audio is longer than {max_seconds:g} seconds; send it in parts"
            raise ApiError(413, message, code="audio_too_long", param="file")
        found.append(block)
    if not length:
        raise ApiError(400, "the file holds no audio", param="file")
    return np.concatenate(found)


def _resampled(blocks: Iterator[tuple[int, Samples]]) -> Iterator[Samples]:
    resampler = None
    for rate, block in blocks:
        if resampler is None:
            if not _MIN_RATE <= rate <= _MAX_RATE:
                raise ApiError(400, f"a sample rate of {rate} cannot be read", param="file")
            resampler = Resampler(rate, RATE)
        # A damaged file of floats may hold anything.
        mono = np.nan_to_num(block.mean(axis=1, dtype=np.float32), nan=0, posinf=1, neginf=-1)
        yield resampler.feed(np.clip(mono, -1, 1))
    if resampler is not None:
        yield resampler.end()


def _pcm_blocks(data: bytes, rate: int, channels: int) -> Iterator[tuple[int, Samples]]:
    if not rate:
        raise ApiError(
            400, "bare PCM needs the field sample_rate, such as sample_rate=16000", param="sample_rate"
        )
    frames = np.frombuffer(data, "<i2", count=len(data) // 2 // channels * channels).reshape(-1, channels)
    for first in range(0, len(frames), _BLOCK):
        yield rate, frames[first : first + _BLOCK].astype(np.float32) / np.float32(32768)


def _file_blocks(data: bytes) -> Iterator[tuple[int, Samples]]:
    import soundfile

    class Forward(soundfile.SoundFile):
        """Never seeks: soundfile does so after each read, which in an MP3 lands beside the place."""

        def seekable(self) -> bool:
            return False

    source = io.BytesIO(mended(data))
    try:
        file: Any = Forward(source)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ApiError(400, _unreadable(data), param="file") from error
    with file:
        is_empty = True
        while True:
            try:
                block = file.read(_BLOCK, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, RuntimeError) as error:
                if is_empty:
                    raise ApiError(400, _unreadable(data), param="file") from error
                return  # damaged further on: what was read is there
            if not len(block):
                return
            is_empty = False
            yield file.samplerate, block


def _unreadable(data: bytes) -> str:
    kind = next((name for magic, name in _FOREIGN.items() if data.startswith(magic)), "")
    if data[4:8] == b"ftyp":
        kind = "MP4"
    return f"the file cannot be read{f': it is {kind}' if kind else ' as audio'}; send {READABLE}"


def mended(data: bytes) -> bytes:
    """Return a WAV file with the length it has, where its header promises another; other files as they are."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return data
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        rest = len(data) - at - 8
        if name == b"data":
            # 0 with something behind it is a recorder that never came back to write the length.
            is_open = size == 0 and rest > 0 and data[at + 8 : at + 12] not in {b"LIST", b"id3 ", b"fact"}
            if size <= rest and not is_open:
                return data
            whole = struct.pack("<I", min(len(data) - 8, 0xFFFFFFFF))
            return data[:4] + whole + data[8 : at + 4] + struct.pack("<I", rest) + data[at + 8 :]
        at += 8 + size + size % 2
    return data
