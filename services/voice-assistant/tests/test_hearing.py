"""What came in as audio: believed by its bytes, mended where it can be."""

from __future__ import annotations

import struct

import pytest

from handler_base.audio import read_wav_header, sniff, wav, wav_header
from handler_base.errors import InvalidRequest, TooLarge
from handler_messages import VoiceRequest
from voice_assistant.config import TalkSettings
from voice_assistant.hearing import Recording, hear

SETTINGS = TalkSettings(max_audio_seconds=10, max_audio_bytes=2_000_000)
SECOND = bytes(range(1, 251)) * 64  # 8000 samples


def heard(audio: bytes, **fields: object) -> Recording:
    return hear(VoiceRequest(audio=audio, **fields), SETTINGS)  # type: ignore[arg-type]


def extensible(pcm: bytes, rate: int, channels: int, bits: int) -> bytes:
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", 0xFFFE, channels, rate, rate * frame, frame, bits)
    form += struct.pack("<HHIH", 22, bits, 0, 1) + bytes(14)
    return (
        b"RIFF" + struct.pack("<I", 60 + len(pcm)) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
        + b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"data" + struct.pack("<I", len(pcm)) + pcm
    )  # fmt: skip


def test_a_whole_file_is_taken_as_it_is() -> None:
    assert heard(wav(SECOND, 8000), format="wav") == Recording(wav(SECOND, 8000), "wav")
    stereo = extensible(SECOND * 4, 48000, 2, 24)
    assert heard(stereo, format="wav") == Recording(stereo, "wav")


@pytest.mark.parametrize(
    ("audio", "format_"),
    [
        (b"fLaC....", "flac"), (b"OggS....", "ogg"), (b"ID3\4...", "mp3"), (b"\xff\xfb\x90\0", "mp3"),
        (b"\0\0\0\x20ftypM4A ", "mp4"), (b"\x1aE\xdf\xa3....", "webm"),
    ],
)  # fmt: skip
def test_other_files_are_passed_on_under_their_right_name(audio: bytes, format_: str) -> None:
    assert heard(audio, format="wav") == Recording(audio, format_)
    assert sniff(audio) == format_


@pytest.mark.parametrize("missing", [1, 2, 4001, 15_998])
def test_a_file_that_is_cut_off_is_mended(missing: int) -> None:
    recording = heard(wav(SECOND, 8000)[:-missing])
    header = read_wav_header(recording.audio)
    assert header is not None
    assert header.size == (16_000 - missing) // 2 * 2
    assert len(recording.audio) == header.start + header.size
    assert len(recording.warnings) == 1


@pytest.mark.parametrize("size", [None, 0])
def test_a_file_that_was_never_finished_is_mended_without_a_warning(size: int | None) -> None:
    recording = heard(wav_header(8000, size=size) + SECOND)
    assert recording == Recording(wav(SECOND, 8000), "wav")


def test_raw_samples_become_a_file() -> None:
    for label in ("pcm", "PCM", "audio/l16", "s16le"):
        assert heard(SECOND + b"x", format=label, sample_rate=8000) == Recording(wav(SECOND, 8000), "wav")


@pytest.mark.parametrize(
    ("audio", "fields", "says"),
    [
        (b"", {}, "no audio"),
        (b"x", {"format": "pcm", "sample_rate": 8000}, "no samples"),
        (SECOND, {"format": "pcm", "sample_rate": 0}, "between 4000 and 384000"),
        (SECOND, {"format": "pcm", "sample_rate": -1}, "it is -1"),
        (SECOND, {}, "no label"),
        (SECOND, {"format": "wav"}, "labelled 'wav'"),
        (b"RIFF\0\0\0\0WAVE", {}, "before its samples"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", {}, "says what they are"),
        (b"RIFF\0\0\0\0WAVEfmt \4\0\0\0abcd", {}, "header is broken"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16), {}, "0 channels"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f", {}, "no samples"),
        (wav_header(8000), {}, "no samples"),
    ],
)  # fmt: skip
def test_what_cannot_be_heard_is_refused_in_words(audio: bytes, fields: dict, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        heard(audio, **fields)


def test_limits_of_size_and_length_hold() -> None:
    with pytest.raises(TooLarge, match="bytes"):
        heard(b"fLaC" + bytes(2_000_000))
    with pytest.raises(TooLarge, match="20 s long"):
        heard(wav(bytes(320_000), 8000))
    with pytest.raises(TooLarge, match="11 s long"):
        heard(bytes(11 * 16_000), format="pcm", sample_rate=8000)
