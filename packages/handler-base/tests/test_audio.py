"""Audio is known by its first bytes, and 16 bit PCM goes in and out of WAV."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given, strategies as st

from handler_base.audio import (
    ENDLESS,
    AudioError,
    PcmReader,
    WavFormat,
    duration,
    mono,
    read_wav_header,
    sniff,
    wav,
    wav_header,
)

PCM = b"\x01\x00\xff\x7f\x00\x80\xfe\xff"


def made_by_python(pcm: bytes, rate: int, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(pcm)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (made_by_python(PCM, 16000), "wav"),
        (b"fLaC\0\0\0\x22", "flac"),
        (b"OggS\0\2", "ogg"),
        (b"ID3\4\0", "mp3"),
        (b"\xff\xfb\x90\x64", "mp3"),
        (b"\xff\xf3\x90\x64", "mp3"),
        (b"\xff\xf1\x50\x80", ""),  # AAC
        (b"\0\0\0\x20ftypM4A ", "mp4"),
        (b"\x1aE\xdf\xa3\x01", "webm"),
        (b"RIFF\0\0\0\0AVI ", ""),
        (b"hello", ""),
        (b"", ""),
        (PCM, ""),
    ],
)
def test_a_format_is_known_by_its_first_bytes(data: bytes, name: str) -> None:
    assert sniff(data) == name


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_file_is_what_others_make_of_the_same_samples(channels: int) -> None:
    assert wav(PCM, 22050, channels) == made_by_python(PCM, 22050, channels)


def test_the_header_of_a_file_that_is_still_being_made_says_so() -> None:
    header = read_wav_header(wav_header(24000) + PCM)
    assert header == WavFormat(rate=24000, channels=1, bits=16, encoding=1, start=44, size=ENDLESS)


@given(
    pcm=st.binary(max_size=200).map(lambda b: b[: len(b) // 4 * 4]),
    size=st.integers(1, 60),
    two=st.booleans(),
)
def test_a_file_may_come_in_any_pieces(pcm: bytes, size: int, two: bool) -> None:
    channels = 2 if two else 1
    file = wav(pcm, 8000, channels)
    reader = PcmReader()
    out = b"".join(reader.feed(file[start : start + size]) for start in range(0, len(file), size))
    assert out == mono(pcm, channels)
    assert reader.rate == 8000


def test_what_stands_between_and_behind_the_samples_is_left_out() -> None:
    file = wav(PCM, 16000)
    listed = file[:36] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + file[36:] + b"LIST\4\0\0\0abcd"
    reader = PcmReader()
    assert reader.feed(listed) == PCM
    assert reader.feed(b"more") == b""


@pytest.mark.parametrize("size", [0, ENDLESS, 0x7FFFFFFF])
def test_a_length_that_was_not_known_lasts_until_the_end(size: int) -> None:
    reader = PcmReader()
    assert reader.feed(wav_header(16000, size=None)[:40] + struct.pack("<I", size) + PCM) == PCM
    assert reader.feed(PCM) == PCM


def test_a_header_may_be_of_the_extensible_kind() -> None:
    fmt = struct.pack("<HHIIHHHHIHH", 0xFFFE, 1, 16000, 32000, 2, 16, 22, 16, 4, 1, 0) + bytes(12)
    file = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", 8) + PCM
    header = read_wav_header(file)
    assert header is not None
    assert (header.encoding, header.rate) == (1, 16000)
    assert read_wav_header(file[:30]) is None
    assert PcmReader().feed(file) == PCM


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"OggS", "does not begin like a WAV file"),
        (b"RIFF\0\0\0\0AVI fmt ", "does not begin like a WAV file"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "samples come before"),
        (b"RIFF\0\0\0\0WAVEfmt \4\0\0\0\1\0\1\0", "header is broken"),
        (wav_header(0), "says 1 channels, 0 Hz"),
        (wav_header(16000, 200), "says 200 channels"),
        (b"RIFF\0\0\0\0WAVEjunk" + struct.pack("<I", 1 << 21) + b"x", "has no samples"),
        (made_by_python(b"\0" * 9, 16000, width=3), "integers of 24 bits"),
        (wav_header(16000)[:20] + b"\3\0" + wav_header(16000)[22:], "floats of 16 bits"),
    ],
)
def test_what_is_no_wav_file_of_samples_is_refused_with_a_reason(data: bytes, problem: str) -> None:
    with pytest.raises(AudioError, match=problem):
        PcmReader().feed(data)


def test_the_first_bytes_may_be_too_few_to_tell() -> None:
    for length in range(44):
        assert read_wav_header(wav(PCM, 16000)[:length]) is None


def test_the_length_of_samples_is_counted_in_seconds() -> None:
    assert duration(bytes(32000), 16000) == 1.0
    assert duration(PCM, 0) == 0.0
