"""How high a voice is, and what that makes of the sound for a recognizer that knows lower voices best.

A short vocal tract puts its resonances higher; playing the sound more slowly puts them where the acoustic model expects
them. The pitch tells about the length of the tract.

Source: L. Lee, R. Rose, A frequency warping approach to speaker normalization, IEEE Transactions on Speech and Audio
Processing 6 (1998); factors between 0.88 and 1.12.
"""

from __future__ import annotations

import numpy as np

from local_inference.resample import Samples, resample
from local_inference.voice_activity import quantile

RATE = 16_000

HIGH_VOICE = 155.0
"""Median pitch from which a voice counts as high, in Hz."""

STRETCH = (25, 28)
"""By how much the sound of a high voice gets longer: 1.12 times."""

_FRAME, _STEP = 640, 320
_LOWEST, _HIGHEST = 70, 400
_VOICED = 0.5
_ABOUT = 0.9
_MOST_FRAMES = 1500


def normalised(samples: Samples) -> Samples:
    """Return speech of 16 kHz as the recognizer hears it best."""
    if median_pitch(samples) < HIGH_VOICE:
        return samples
    return resample(samples, RATE * STRETCH[0], RATE * STRETCH[1])


def median_pitch(samples: Samples) -> float:
    """Return the median pitch of the voiced frames of speech of 16 kHz, in Hz; 0 without any.

    Voiced is what resembles itself after a period, by the normalised autocorrelation.
    """
    if len(samples) < _FRAME:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_STEP][:_MOST_FRAMES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    spectra = np.fft.rfft(frames, 2 * _FRAME)
    correlation = np.fft.irfft(np.abs(spectra) ** 2)[:, : RATE // _LOWEST + 1]
    energy = correlation[:, 0]
    shortest = RATE // _HIGHEST
    # A frame has the less of itself to compare with, the longer the period.
    lags = np.arange(shortest, correlation.shape[1])
    similar = correlation[:, shortest:] / np.maximum(energy[:, None], 1e-9) * _FRAME / (_FRAME - lags)
    highest = similar.max(axis=1, keepdims=True)
    voiced = (highest[:, 0] > _VOICED) & (energy > 0.1 * quantile(energy, 0.9))
    if not voiced.any():
        return 0.0
    # Two periods resemble each other as well as one does: the first hill that is about as high as any, at its top.
    first = (similar >= _ABOUT * highest).argmax(axis=1)
    hill = np.arange(similar.shape[1])
    near = (hill >= first[:, None]) & (hill < first[:, None] + shortest // 2)
    tops = np.where(near, similar, -np.inf).argmax(axis=1)
    return RATE / quantile(lags[tops[voiced]], 0.5)
