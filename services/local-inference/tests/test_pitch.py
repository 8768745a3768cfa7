"""How high a voice is, told from real speech and from what is none."""

from __future__ import annotations

import numpy as np
import pytest

from handler_testkit.speech import needs_flite, speak
from local_inference.pitch import RATE, median_pitch, normalised

SENTENCE = "The keeper of the lighthouse goes up every evening."


def spoken(voice: str) -> np.ndarray:
    return np.frombuffer(speak(SENTENCE, voice), "<i2").astype(np.float32) / 32768


@needs_flite
@pytest.mark.parametrize(
    ("voice", "lowest", "highest"), [("rms", 80, 130), ("awb", 100, 150), ("slt", 155, 230)]
)
def test_the_pitch_of_a_voice_is_found(voice: str, lowest: float, highest: float) -> None:
    assert lowest < median_pitch(spoken(voice)) < highest


@needs_flite
def test_a_high_voice_is_played_more_slowly_and_a_low_one_as_it_is() -> None:
    low, high = spoken("rms"), spoken("slt")
    assert normalised(low) is low
    assert len(normalised(high)) == pytest.approx(len(high) * 1.12, rel=0.01)
    assert median_pitch(normalised(high)) == pytest.approx(median_pitch(high) / 1.12, rel=0.05)


@pytest.mark.parametrize("hertz", [90, 120, 160, 220, 300])
def test_a_tone_has_its_own_pitch(hertz: int) -> None:
    at = np.arange(RATE) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * n * at) / n for n in range(1, 6)).astype(np.float32)
    assert median_pitch(tone) == pytest.approx(hertz, rel=0.03)


def test_what_is_no_voice_has_no_pitch() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, RATE).astype(np.float32)
    assert median_pitch(noise) == 0.0
    assert median_pitch(np.zeros(RATE, np.float32)) == 0.0
    assert median_pitch(np.zeros(10, np.float32)) == 0.0
