"""What came in as audio: checked, made whole where it can be, refused in words where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from handler_base.audio import (
    BYTES,
    ENDLESS,
    AudioError,
    WavFormat,
    read_wav_header,
    sniff,
    wav,
)
from handler_base.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from handler_messages import VoiceRequest
    from voice_assistant.config import TalkSettings

RAW = {"pcm", "raw", "s16le", "l16", "pcm16", "pcm_s16le"}
"""What raw PCM16LE is called; it needs a sample rate."""

RATES = (4_000, 384_000)
"""Lowest and highest sample rate taken."""


class Recording(NamedTuple):
    """Audio to transcribe.

    Attributes:
        audio: A whole file.
        format: What it is, by its bytes.
        warnings: What was mended.
    """

    audio: bytes
    format: str
    warnings: tuple[str, ...] = ()


def hear(request: VoiceRequest, settings: TalkSettings) -> Recording:
    """Return the audio of a request. Its bytes are believed, not its label.

    Raises:
        InvalidRequest: If there is none, or it is nothing that can be heard.
        TooLarge: If it is more than the settings allow.
    """
    audio, label = request.audio, request.format.strip().lower().removeprefix("audio/")
    if not audio:
        raise InvalidRequest("there is no audio")
    if len(audio) > settings.max_audio_bytes:
        raise TooLarge(f"the audio has {len(audio)} bytes; {settings.max_audio_bytes} are accepted")
    found = sniff(audio)
    if found == "wav":
        return _wav(audio, settings)
    if found:
        return Recording(audio, found)
    if label in RAW:
        return _raw(audio, request.sample_rate, settings)
    named = f"the audio is labelled {label[:20]!r}, and its" if label else "the audio has no label, and its"
    raise InvalidRequest(
        f"{named} bytes are no WAV, FLAC, Ogg, MP3, MP4 or WebM file; raw 16 bit PCM needs the format pcm and a "
        "sample_rate"
    )


def _wav(audio: bytes, settings: TalkSettings) -> Recording:
    try:
        header = read_wav_header(audio)
    except AudioError as error:
        raise InvalidRequest(f"the WAV file cannot be read: {error}") from error
    if header is None:
        raise InvalidRequest("the WAV file ends before its samples begin")
    frame = max(1, header.bits // 8) * header.channels
    there = len(audio) - header.start
    if there < frame:
        raise InvalidRequest("the WAV file holds no samples")
    _check_length(there / frame / header.rate, settings)
    if header.size not in {0, ENDLESS} and header.size > there:
        missing = (header.size - there) / frame / header.rate
        return Recording(
            _mended(audio, header), "wav", (f"the audio is cut off: {missing:.1f} s of it are missing",)
        )
    if header.size in {0, ENDLESS}:
        return Recording(_mended(audio, header), "wav")
    return Recording(audio, "wav")


def _mended(audio: bytes, header: WavFormat) -> bytes:
    """Return a WAV file whose header says what is there."""
    frame = max(1, header.bits // 8) * header.channels
    size = (len(audio) - header.start) // frame * frame
    head = bytearray(audio[: header.start])
    head[4:8] = (header.start - 8 + size).to_bytes(4, "little")
    head[-4:] = size.to_bytes(4, "little")
    return bytes(head) + audio[header.start : header.start + size]


def _raw(audio: bytes, rate: int, settings: TalkSettings) -> Recording:
    if not RATES[0] <= rate <= RATES[1]:
        raise InvalidRequest(f"raw PCM needs a sample_rate between {RATES[0]} and {RATES[1]}; it is {rate}")
    whole = len(audio) // BYTES * BYTES
    if not whole:
        raise InvalidRequest("the audio holds no samples")
    _check_length(whole / BYTES / rate, settings)
    return Recording(wav(audio[:whole], rate), "wav")


def _check_length(seconds: float, settings: TalkSettings) -> None:
    if seconds > settings.max_audio_seconds:
        raise TooLarge(f"the audio is {seconds:.0f} s long; {settings.max_audio_seconds:g} s are accepted")
