"""Audio files of every kind, also those that lie about themselves."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import pytest
import soundfile

from handler_base.audio import wav_header
from handler_testkit.speech import wav
from local_inference.audio import RATE, mended, read_audio
from local_inference.wire import ApiError

SECONDS = 0.5
FORMATS = {
    "wav": ("WAV", "PCM_16"), "wav24": ("WAV", "PCM_24"), "float": ("WAV", "FLOAT"), "ulaw": ("WAV", "ULAW"),
    "flac": ("FLAC", "PCM_16"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip


def tone(rate: int = RATE, channels: int = 1, seconds: float = SECONDS) -> np.ndarray:
    one = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    return np.repeat(one[:, None], channels, axis=1).astype(np.float32)


def file(kind: str, rate: int = RATE, channels: int = 1, seconds: float = SECONDS) -> bytes:
    container, coding = FORMATS[kind]
    written = io.BytesIO()
    soundfile.write(written, tone(rate, channels, seconds), rate, format=container, subtype=coding)
    return written.getvalue()


def pcm(rate: int = RATE, channels: int = 1) -> bytes:
    return (tone(rate, channels) * 32767).astype("<i2").tobytes()


def is_the_tone(samples: np.ndarray, seconds: float = SECONDS) -> bool:
    assert len(samples) / RATE == pytest.approx(seconds, abs=0.15)
    middle = samples[RATE // 10 : RATE // 10 + RATE // 5]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.1)
    return abs(int(spectrum.argmax()) * 5 - 440) <= 5


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_rate_and_channel_count_is_read(kind: str, rate: int, channels: int) -> None:
    if kind == "opus" and rate in {22_050, 44_100}:
        rate = 24_000  # Opus has no such rate
    assert is_the_tone(read_audio(file(kind, rate, channels)))


@pytest.mark.parametrize("channels", [3, 6])
def test_many_channels_become_one(channels: int) -> None:
    assert is_the_tone(read_audio(file("wav", 48_000, channels)))


@pytest.mark.parametrize(
    "label", ["audio/pcm", "audio/L16; rate=1", "audio/x-raw", "x/y speech.pcm", " a.RAW"]
)
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (24_000, 1), (44_100, 2)])
def test_bare_pcm_is_read_by_its_label(label: str, rate: int, channels: int) -> None:
    assert is_the_tone(read_audio(pcm(rate, channels) + b"\0", label=label, rate=rate, channels=channels))


def test_bare_pcm_without_a_rate_says_which_field_is_missing() -> None:
    with pytest.raises(ApiError, match="sample_rate=16000"):
        read_audio(pcm(), label="audio/pcm")


@pytest.mark.parametrize("kind", ["wav", "flac", "opus", "mp3"])
@pytest.mark.parametrize("label", ["audio/pcm x.pcm", "audio/mpeg a.mp3", "video/webm blob", ""])
def test_the_bytes_are_trusted_over_the_label(kind: str, label: str) -> None:
    if kind == "mp3" and "pcm" in label:
        label = ""  # the first two bytes of an MP3 are as good as samples
    assert is_the_tone(read_audio(file(kind), label=label, rate=8000))


@pytest.mark.parametrize("promised", [0xFFFFFFFF, 0, 0x7FFFFFFF, 10**6])
@pytest.mark.parametrize("riff", [0xFFFFFFFF, 0, 36])
def test_a_wav_is_as_long_as_it_is(promised: int, riff: int) -> None:
    whole = bytearray(wav(pcm()))
    struct.pack_into("<I", whole, 4, riff)
    struct.pack_into("<I", whole, 40, promised)
    assert is_the_tone(read_audio(bytes(whole)))


def test_a_wav_with_other_chunks_first_is_mended_too() -> None:
    whole = wav(pcm())
    extra = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    changed = whole[:36] + extra + b"data" + struct.pack("<I", 0xFFFFFFFF) + whole[44:]
    assert is_the_tone(read_audio(changed))


def test_a_sound_wav_is_left_as_it_is() -> None:
    trailer = b"LIST\x04\0\0\0INFO"
    for whole in (wav(pcm()), wav(pcm()) + trailer, wav(b"") + trailer, b"RIFF", b"RIFF\0\0\0\0WAVE"):
        assert mended(whole) is whole


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_ends_early_is_read_as_far_as_it_goes(kind: str) -> None:
    whole = file(kind, seconds=9)
    samples = read_audio(whole[: int(len(whole) * 0.7)])
    # A page of OGG holds seconds.
    assert 2 * RATE < len(samples) < 7 * RATE


def test_our_own_stream_header_is_read() -> None:
    assert is_the_tone(read_audio(wav_header(RATE) + pcm()))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (wav(b""), "no audio"),
        (b"hello, this is text and no audio at all", "WAV, FLAC"),
        (bytes(5000), "WAV, FLAC"),
        (np.random.default_rng(1).bytes(5000), "WAV, FLAC"),
        (b"RIFF", "WAV, FLAC"),
        (b"RIFF\xff\xff\xff\xffWAVE", "WAV, FLAC"),
        (b"OggS" + bytes(50), "WAV, FLAC"),
        (b"\x1a\x45\xdf\xa3" + bytes(50), "WebM"),
        (b"\0\0\0\x20ftypM4A " + bytes(50), "MP4"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_what_cannot_be_read_is_told(data: bytes, says: str) -> None:
    with pytest.raises(ApiError, match=says) as caught:
        read_audio(data)
    assert caught.value.status == 400
    assert caught.value.param == "file"


def test_a_small_file_that_holds_hours_is_refused_before_it_is_unpacked() -> None:
    written = io.BytesIO()
    soundfile.write(written, np.zeros(8000 * 900, np.int16), 8000, format="FLAC")
    with pytest.raises(ApiError, match="longer than 600 seconds") as caught:
        read_audio(written.getvalue(), max_seconds=600)
    assert caught.value.status == 413


def test_numbers_that_are_none_become_silence() -> None:
    written = io.BytesIO()
    broken = tone()
    broken[100] = np.nan
    broken[200] = np.inf
    soundfile.write(written, broken, RATE, format="WAV", subtype="FLOAT")
    samples = read_audio(written.getvalue())
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_never_raises_anything_else(kind: str) -> None:
    random = np.random.default_rng(5)
    whole = np.frombuffer(file(kind), np.uint8)
    for _ in range(40):
        damaged = whole.copy()
        damaged[random.integers(0, len(damaged), 20)] = random.integers(0, 256, 20)
        damaged[random.integers(0, 60, 2)] = random.integers(0, 256, 2)
        with contextlib.suppress(ApiError):
            read_audio(damaged.tobytes(), max_seconds=600)
