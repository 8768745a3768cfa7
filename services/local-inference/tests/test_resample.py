"""Sample rates: tones keep their pitch and strength, what does not fit is gone, pieces make no difference."""

from __future__ import annotations

import numpy as np
import pytest

from local_inference.resample import Resampler, resample

RATES = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 44_100, 44_101, 48_000, 96_000, 192_000]


def tone(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_pitch_phase_and_strength(rate: int) -> None:
    out = resample(tone(1000, rate), rate, 16_000)
    assert len(out) == pytest.approx(8_000, abs=2)
    inner = slice(200, 7_800)
    assert np.abs(out[inner] - tone(1000, 16_000)[: len(out)][inner]).max() < 1e-3


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > 20_000])
def test_what_the_new_rate_cannot_hold_is_gone_and_not_folded_back(rate: int) -> None:
    out = resample(tone(9_500, rate), rate, 16_000)
    assert np.abs(out[200:-200]).max() < 1e-3


@pytest.mark.parametrize("rate", RATES)
def test_pieces_of_any_length_give_the_same_as_the_whole(rate: int) -> None:
    random = np.random.default_rng(3)
    sound = random.standard_normal(5_000).astype(np.float32)
    resampler = Resampler(rate, 16_000)
    cuts = np.sort(random.integers(0, len(sound), 9))
    parts = [resampler.feed(part) for part in np.split(sound, cuts)] + [resampler.end()]
    assert np.allclose(np.concatenate(parts), resample(sound, rate, 16_000), atol=1e-5)


def test_nothing_stays_nothing() -> None:
    assert len(resample(np.zeros(0, np.float32), 48_000, 16_000)) == 0
