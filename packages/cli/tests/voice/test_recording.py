"""Recordings: every WAV there is, at every rate."""

from __future__ import annotations

import io
import math
import struct
import time
import wave
from array import array

import pytest

from handler_base.audio import AudioError
from handlers_cli.voice.recording import Recording, read_wav


def sine(hertz: float, seconds: float, rate: int, loud: float = 0.5) -> list[float]:
    return [loud * math.sin(2 * math.pi * hertz * n / rate) for n in range(int(seconds * rate))]


def packed(values: list[float], bits: int, *, floats: bool = False) -> bytes:
    if floats:
        return array("f" if bits == 32 else "d", values).tobytes()
    if bits == 8:
        return bytes(round(127 * value) + 128 for value in values)
    top = 2 ** (bits - 1) - 1
    return b"".join(round(top * value).to_bytes(bits // 8, "little", signed=True) for value in values)


def riff(
    body: bytes, *, rate: int, channels: int, bits: int, encoding: int = 1, size: int | None = None
) -> bytes:
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", encoding, channels, rate, rate * frame, frame, bits)
    if encoding == 0xFFFE:
        head += struct.pack("<HHIH14s", 22, bits, 0, 1, b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71")
    notes = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    length = len(body) if size is None else size
    return (
        b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", len(head)) + head + notes + b"data" + struct.pack("<I", length) + body
    )  # fmt: skip


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("bits", "floats"), [(8, False), (16, False), (24, False), (32, False), (32, True), (64, True)]
)
def test_every_kind_of_wav_is_read(rate: int, channels: int, bits: int, floats: bool) -> None:
    tone = sine(300, 0.05, rate)
    body = packed([value for value in tone for _ in range(channels)], bits, floats=floats)
    data = riff(body, rate=rate, channels=channels, bits=bits, encoding=3 if floats else 1)
    recording = read_wav(data)
    assert recording.rate == rate
    assert recording.warning == ""
    assert len(recording.samples) == len(tone)
    off = 300 if bits == 8 else 2
    assert all(abs(a - 32767 * b) <= off for a, b in zip(recording.samples, tone, strict=True))


def test_the_extended_header_is_read() -> None:
    body = packed(sine(300, 0.05, 16000), 24)
    assert len(read_wav(riff(body, rate=16000, channels=1, bits=24, encoding=0xFFFE)).samples) == 800


def test_channels_are_mixed() -> None:
    data = riff(array("h", [1000, -1000, 200, 400]).tobytes(), rate=8000, channels=2, bits=16)
    assert list(read_wav(data).samples) == [0, 300]


def test_floats_beyond_full_scale_are_clipped() -> None:
    data = riff(array("f", [2.0, -2.0, math.inf]).tobytes(), rate=8000, channels=1, bits=32, encoding=3)
    assert list(read_wav(data).samples) == [32767, -32767, 32767]


def test_a_file_that_ends_early_is_read_as_far_as_it_goes() -> None:
    whole = riff(bytes(2 * 16000), rate=16000, channels=1, bits=16)
    recording = read_wav(whole[: len(whole) - 8001])
    assert len(recording.samples) == 16000 - 4001
    assert recording.warning == "it ends after 0.7 s of the 1.0 s that it should have"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_length_that_was_not_known_is_no_fault(size: int) -> None:
    recording = read_wav(riff(bytes(3200), rate=16000, channels=1, bits=16, size=size))
    assert len(recording.samples) == 1600
    assert recording.warning == ""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OggS",
        b"RIFF\0\0\0\0WAVE",
        riff(b"", rate=16000, channels=1, bits=16),
        riff(b"\0", rate=16000, channels=1, bits=16),
        riff(bytes(100), rate=16000, channels=1, bits=8, encoding=7),
        riff(bytes(100), rate=16000, channels=1, bits=16)[:30],
    ],
)
def test_what_cannot_be_read_is_told(data: bytes) -> None:
    with pytest.raises(AudioError):
        read_wav(data)


def loudness(samples: array[int]) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return math.sqrt(sum(value * value for value in middle) / len(middle)) / 32767


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 16001])
def test_at_a_lower_rate_it_sounds_the_same_and_nothing_is_folded_into_it(rate: int) -> None:
    heard = Recording(array("h", [round(32767 * v) for v in sine(1000, 0.3, rate)]), rate).at_most(16000)
    assert heard.rate == 16000
    assert abs(heard.seconds - 0.3) < 0.001
    assert loudness(heard.samples) == pytest.approx(0.5 / math.sqrt(2), rel=0.01)
    if rate > 24000:  # 10 kHz would come back as 6 kHz
        gone = Recording(array("h", [round(32767 * v) for v in sine(10000, 0.3, rate)]), rate).at_most(16000)
        assert loudness(gone.samples) < 0.003


def test_a_lower_rate_is_left_alone() -> None:
    recording = Recording(array("h", [1, 2, 3]), 8000)
    assert recording.at_most(16000) is recording


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_pieces_together_are_the_whole(rate: int) -> None:
    recording = Recording(array("h", [round(32767 * v) for v in sine(440, 0.55, rate)]), rate)
    pieces = list(recording.pieces(0.1, 16000))
    assert [len(piece) for piece in pieces[:-1]] == [2 * min(rate, 16000) // 10] * 5
    assert b"".join(pieces) == recording.at_most(16000).samples.tobytes()


def test_a_minute_of_studio_sound_is_converted_in_seconds() -> None:
    recording = Recording(array("h", bytes(2 * 48000 * 10)), 48000)
    began = time.process_time()
    recording.at_most(16000)
    assert time.process_time() - began < 5


def test_it_is_written_as_wav() -> None:
    with wave.open(io.BytesIO(Recording(array("h", [1, 2, 3]), 8000).wav())) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getnframes()) == (8000, 1, 3)
