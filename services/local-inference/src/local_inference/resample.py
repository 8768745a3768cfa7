"""From any sample rate to another, in pieces: a windowed sinc as a polyphase filter.

Source: J. O. Smith, Digital Audio Resampling (https://ccrma.stanford.edu/~jos/resample/). A Kaiser window of beta 8.6
keeps what would fold back some 85 dB down; the pass band ends at 0.94 of the lower of the two Nyquist frequencies.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_ZERO_CROSSINGS = 24
_PASS = 0.94
_BETA = 8.6
_AT_ONCE = 8192
"""Outputs computed at once: their windows of input are copied, so this bounds the memory."""


class Resampler:
    """One channel from one rate to another; the pieces that go in may have any length.

    Args:
        source: Samples a second that go in.
        target: Samples a second that come out.
    """

    def __init__(self, source: int, target: int) -> None:
        common = math.gcd(source, target)
        self._up, self._down = target // common, source // common
        cutoff = _PASS * min(1.0, target / source)
        self._half = math.ceil(_ZERO_CROSSINGS / min(1.0, target / source))
        self._filters = _filters(self._up, self._half, cutoff) if source != target else None
        self._held: Samples = np.zeros(self._half - 1, np.float32)
        self._next = 0  # output number, counted from the start of what is held

    def feed(self, samples: Samples) -> Samples:
        """Return what can be said of the output so far."""
        if self._filters is None:
            return samples
        held = np.concatenate([self._held, samples])
        # Output n lies at n * down / up of the input and needs `half` samples on each side.
        last = (len(held) - 2 * self._half + 1) * self._up
        numbers = np.arange(self._next, last, self._down) if last > self._next else np.arange(0)
        out = np.empty(len(numbers), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(held, 2 * self._half) if len(numbers) else None
        for first in range(0, len(numbers), _AT_ONCE):
            part = numbers[first : first + _AT_ONCE]
            assert windows is not None
            out[first : first + len(part)] = np.einsum(
                "nk,nk->n", windows[part // self._up], self._filters[part % self._up]
            )
        position = int(numbers[-1]) + self._down if len(numbers) else self._next
        gone = min(position // self._up, len(held))
        self._held, self._next = held[gone:], position - gone * self._up
        return out

    def end(self) -> Samples:
        """Return the rest, as if silence followed."""
        return self.feed(np.zeros(self._half, np.float32)) if self._filters is not None else _NOTHING


def resample(samples: Samples, source: int, target: int) -> Samples:
    """Return a whole signal at another rate."""
    resampler = Resampler(source, target)
    return np.concatenate([resampler.feed(samples), resampler.end()])


_NOTHING: Samples = np.zeros(0, np.float32)


def _filters(up: int, half: int, cutoff: float) -> Samples:
    """Return the filter of each phase; phase p stands p / up after the sample in the middle."""
    taps = np.arange(-half + 1, half + 1)[None, :] - (np.arange(up) / up)[:, None]
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (taps / half) ** 2, 0, None))) / np.i0(_BETA)
    filters = np.sinc(cutoff * taps) * window
    return (filters / filters.sum(1, keepdims=True)).astype(np.float32)
