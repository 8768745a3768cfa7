"""Audio as bytes: what format they are in, and 16 bit PCM in and out of WAV. No decoding of anything else.

Formats: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html, and the magic numbers of FLAC, Ogg and
MPEG audio.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Literal, NamedTuple

BYTES = 2
"""Bytes of one sample."""

ENDLESS = 0xFFFFFFFF
"""Length in the header of a WAV file that is still being made."""

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_LONGEST_HEADER = 1 << 20

Format = Literal["wav", "flac", "ogg", "mp3", "mp4", "webm", ""]


class AudioError(ValueError):
    """Bytes are not the audio they should be; the text says what is wrong with them."""


class WavFormat(NamedTuple):
    """What a WAV header says.

    Attributes:
        rate: Samples per second and channel.
        channels: How many.
        bits: Bits of one sample.
        encoding: 1 for integers, 3 for floats.
        start: Where the samples begin, in bytes.
        size: Bytes of samples as the header has it; 0 or `ENDLESS` when it was not known.
    """

    rate: int
    channels: int
    bits: int
    encoding: int
    start: int
    size: int


_MAGIC: tuple[tuple[int, bytes, Format], ...] = (
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (4, b"ftyp", "mp4"),
    (0, b"\x1aE\xdf\xa3", "webm"),
)


def sniff(data: bytes) -> Format:
    """Return the format of a file by its first bytes; "" when they are none of a known one."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    for at, magic, name in _MAGIC:
        if data[at : at + len(magic)] == magic:
            return name
    # A frame of MPEG audio: eleven bits set, a version that exists, layer III.
    frame = len(data) > 2 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[1] & 0x18 != 0x08
    return "mp3" if frame else ""


def wav_header(rate: int, channels: int = 1, size: int | None = None) -> bytes:
    """Return the header of a WAV file of 16 bit PCM.

    Args:
        rate: Samples per second.
        channels: How many.
        size: Bytes of samples that follow; None when that is not known yet.
    """
    length = ENDLESS if size is None else size
    frame = BYTES * channels
    return _HEADER.pack(
        b"RIFF", min(ENDLESS, length + 36), b"WAVE", b"fmt ", 16, _PCM, channels, rate, rate * frame, frame, 16,
        b"data", length,
    )  # fmt: skip


def wav(pcm: bytes, rate: int, channels: int = 1) -> bytes:
    """Return 16 bit PCM, little endian, as a WAV file."""
    return wav_header(rate, channels, len(pcm)) + pcm


def read_wav_header(data: bytes) -> WavFormat | None:
    """Read the header of a WAV file; None when more of it must come.

    Raises:
        AudioError: If it is none.
    """
    if not (b"RIFF".startswith(data[:4]) and b"WAVE".startswith(data[8:12])):
        raise AudioError("it does not begin like a WAV file")
    found: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if name == b"data":
            if found is None:
                raise AudioError("its samples come before it says what they are")
            return WavFormat(*found, start=at, size=size)
        if name == b"fmt ":
            if at + min(size, 26) > len(data):
                return None
            found = _read_format(data[at : at + size])
        at += size + size % 2
        if at > _LONGEST_HEADER:
            raise AudioError("it has no samples")
    return None


def _read_format(chunk: bytes) -> tuple[int, int, int, int]:
    """Return rate, channels, bits and encoding."""
    if len(chunk) < 16:
        raise AudioError("its header is broken")
    encoding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if encoding == _EXTENSIBLE and len(chunk) >= 26:
        encoding = int.from_bytes(chunk[24:26], "little")
    if not (1 <= channels <= 64 and 1 <= rate <= 768_000 and bits):
        raise AudioError(f"its header says {channels} channels, {rate} Hz, {bits} bits")
    return rate, channels, bits, encoding


class PcmReader:
    """Takes a WAV file as it comes and gives its samples: 16 bit, little endian, the first channel.

    Attributes:
        rate: Samples per second; 0 before the header is complete.
    """

    def __init__(self) -> None:
        self.rate = 0
        self._channels = 0
        self._left = 0
        self._held: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """Return the samples that `data` completes, perhaps none.

        Raises:
            AudioError: If it is no WAV file of 16 bit PCM.
        """
        data = self._held + data
        if not self.rate:
            header = read_wav_header(data)
            if header is None:
                self._held = data
                return b""
            if header.encoding != _PCM or header.bits != 16:
                kind = "floats" if header.encoding == _FLOAT else "integers"
                raise AudioError(f"its samples are {kind} of {header.bits} bits; 16 bit PCM is read")
            self.rate, self._channels = header.rate, header.channels
            self._left = (
                sys.maxsize if header.size in {0, ENDLESS} or header.size >= 0x7FFFFF00 else header.size
            )
            data = data[header.start :]
        if len(data) > self._left:  # what follows the samples
            data = data[: self._left]
        whole = len(data) - len(data) % (BYTES * self._channels)
        self._held = data[whole:]
        self._left -= whole
        return mono(data[:whole], self._channels)


def mono(pcm: bytes, channels: int) -> bytes:
    """Return the first channel of 16 bit PCM."""
    if channels == 1:
        return pcm
    return array("h", pcm)[::channels].tobytes()


def duration(pcm: bytes, rate: int) -> float:
    """Return the length of 16 bit mono PCM in seconds."""
    return len(pcm) / BYTES / rate if rate else 0.0
