"""What counts as somebody speaking: never silence, noise, hum or tones, whatever they do; always a voice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from handler_testkit.speech import VOICES, needs_flite, speak
from local_inference.audio import RATE
from local_inference.voice_activity import spoken_pieces

SECONDS = 10
TIME = np.arange(RATE * SECONDS) / RATE
RANDOM = np.random.default_rng(7)


def noise(level: float) -> np.ndarray:
    return RANDOM.standard_normal(len(TIME)) * level


def tones(*frequencies: float) -> np.ndarray:
    return sum(0.3 / len(frequencies) * np.sin(2 * np.pi * f * TIME) for f in frequencies)


def melody(harmonics: int, decay: float, seconds: float) -> np.ndarray:
    at = np.arange(int(seconds * RATE)) / RATE
    notes = [220 * 2 ** (RANDOM.integers(0, 13) / 12) for _ in range(int(SECONDS / seconds))]
    return (
        np.concatenate(
            [
                sum(np.sin(2 * np.pi * note * k * at) / k for k in range(1, harmonics + 1))
                * np.exp(-at * decay)
                for note in notes
            ]
        )
        * 0.2
    )


def pink() -> np.ndarray:
    spectrum = np.fft.rfft(noise(1))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(TIME)) * 5


ON_AND_OFF = np.sin(np.pi * TIME) > 0
NO_SPEECH = {
    "silence": np.zeros(len(TIME)),
    "one bit of noise": RANDOM.integers(-1, 2, len(TIME)) / 32768,
    "white noise": noise(0.1),
    "quiet noise": noise(0.003),
    "loud noise": np.clip(noise(1), -1, 1),
    "pink noise": pink(),
    "bursts of noise": noise(0.1) * ON_AND_OFF,
    "waves": noise(0.1) * (1 + np.sin(2 * np.pi * 4 * TIME)) / 2,
    "hum": tones(50, 100, 150, 250),
    "hum in noise": tones(50, 100, 150, 250) + noise(0.01),
    "hum that comes and goes": tones(60, 120, 180) * ON_AND_OFF,
    "tone": tones(440),
    "tone in noise": tones(440) + noise(0.02),
    "beeps": tones(1000) * ON_AND_OFF,
    "dial": tones(350, 440),
    "sweep": 0.3 * np.sin(2 * np.pi * (100 + 190 * TIME) * TIME),
    "whistled melody": melody(1, 0, 0.4),
    "played melody": melody(6, 5, 0.4),
    "quick melody in noise": melody(12, 8, 0.25)[: len(TIME)] + noise(0.01),
    "clicks": np.put(clicks := np.zeros(len(TIME)), np.arange(0, len(TIME), RATE // 3), 0.8) or clicks,
    "too short": np.zeros(100),
    "nothing": np.zeros(0),
}  # fmt: skip


def said(text: str, voice: str = "slt") -> np.ndarray:
    return (np.frombuffer(speak(text, voice), "<i2") / 32768).astype(np.float32)


@pytest.mark.parametrize("sound", NO_SPEECH.values(), ids=NO_SPEECH.keys())
def test_nobody_speaks(sound: np.ndarray) -> None:
    assert spoken_pieces(sound.astype(np.float32)) == []


@needs_flite
@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("text", ["Yes.", "Turn it off.", "Where did I leave the keys of the car?"])
@pytest.mark.parametrize("level", [1, 0.01])
def test_somebody_speaks_loudly_or_quietly(text: str, voice: str, level: float) -> None:
    sound = said(text, voice) * np.float32(level)
    (piece,) = spoken_pieces(sound)
    assert piece.end - piece.start > len(sound) * 0.7


@needs_flite
@pytest.mark.parametrize("ratio_db", [30, 20, 15])
def test_speech_is_found_in_noise_with_its_pauses(ratio_db: int) -> None:
    text = said("The old house stands on the hill beside the river.")
    pause = np.zeros(RATE, np.float32)
    sound = np.concatenate([pause, text, pause, text, pause])
    level = np.sqrt(np.mean(text**2)) / 10 ** (ratio_db / 20)
    noisy = sound + RANDOM.standard_normal(len(sound)).astype(np.float32) * level
    first, second = spoken_pieces(noisy)
    assert first.start < 1.4 * RATE
    assert first.end < len(text) + 1.6 * RATE < second.start + 0.6 * RATE


@needs_flite
def test_a_speech_without_pauses_is_cut_where_it_is_quietest() -> None:
    words = said("one two three four five six seven eight nine ten " * 20)
    pieces = spoken_pieces(words)
    assert len(pieces) > 2
    assert all(piece.end - piece.start <= 21 * RATE for piece in pieces)
    for one, other in itertools.pairwise(pieces):
        assert other.start >= one.end
