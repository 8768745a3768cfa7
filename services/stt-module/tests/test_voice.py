"""Voices are told from rooms, hisses and hums, at any sample rate."""

from __future__ import annotations

import math
import random
from array import array
from typing import TYPE_CHECKING

import pytest

from handler_testkit.talking import RATE, chunks, resample, silence
from stt_module.voice import Voice

if TYPE_CHECKING:
    from collections.abc import Callable


def share(pcm: bytes, rate: int = RATE, frame_ms: int = 20, aggressiveness: int = 2) -> float:
    """Return which part of some audio is voice."""
    voice = Voice(rate, frame_ms, aggressiveness)
    frames = [f for f in chunks(pcm, frame_ms, rate) if len(f) == 2 * voice.samples]
    return sum(voice.judge(frame).tone for frame in frames) / len(frames)


def noise(seconds: float, loud: int, rate: int = RATE) -> bytes:
    draw = random.Random(1)
    return array(
        "h", [max(-32768, min(32767, int(draw.gauss(0, loud)))) for _ in range(int(rate * seconds))]
    ).tobytes()


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("frame_ms", [10, 20, 30])
def test_speech_is_voice_at_any_rate(speak: Callable[..., bytes], rate: int, frame_ms: int) -> None:
    speech = resample(speak("The quick brown fox jumps over the lazy dog."), RATE, rate)
    assert share(speech, rate, frame_ms) > 0.6


@pytest.mark.parametrize("voice", ["slt", "rms", "awb", "kal"])
def test_every_voice_is_one(speak: Callable[..., bytes], voice: str) -> None:
    assert share(speak("How are you?", voice)) > 0.4


def test_silence_is_none() -> None:
    assert share(silence(2)) == 0


@pytest.mark.parametrize("loud", [30, 300, 3000, 10000])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_white_noise_is_none_however_loud(loud: int, rate: int) -> None:
    assert share(noise(3, loud, rate), rate) < 0.02


def test_a_hum_is_part_of_the_room_soon() -> None:
    hum = array("h", [int(3000 * math.sin(2 * math.pi * 150 * n / RATE)) for n in range(5 * RATE)]).tobytes()
    assert share(hum[len(hum) // 10 :]) < 0.15


def test_speech_is_heard_in_a_noisy_room(speak: Callable[..., bytes]) -> None:
    speech = array("h", silence(1) + speak("The quick brown fox jumps over the lazy dog."))
    room = array("h", noise(len(speech) / RATE, 300))
    mixed = array("h", [max(-32768, min(32767, a + b)) for a, b in zip(speech, room, strict=True)])
    assert share(mixed.tobytes()[2 * RATE :]) > 0.4
