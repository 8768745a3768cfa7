"""Where somebody speaks: so that silence, noise and tones are not made into words, and long audio is cut at pauses.

WebRTC's detector looks at 30 ms at a time and takes steady noise and tones for speech. So what it finds must stand out
from the quietest part, and each stretch must move as speech does: some of it voiced (a period of 70 to 400 Hz, which
noise lacks), its loudness going up and down (which hum lacks), and its spectrum changing all the time (which notes,
however they follow each other, do only where one ends and the next begins).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from local_inference.audio import RATE

if TYPE_CHECKING:
    from local_inference.resample import Samples

Numbers = NDArray[np.floating]
Flags = NDArray[np.bool_]

_FRAME = 480
_SECOND = RATE / _FRAME
_WINDOW = 1024

_STRICTNESS = 3
_QUIET_DB = -75.0
_ABOVE_FLOOR_DB = 6.0
_JOINED_SECONDS, _SHORTEST_SECONDS = 0.3, 0.12
_PADDING_SECONDS = 0.25
_LONGEST_SECONDS = 20.0

_VOICED = 0.5
_VOICED_SHARE, _LOUDNESS_DB, _CHANGE_DB = 0.2, 1.2, 1.8


class Piece(NamedTuple):
    """Where somebody speaks, in samples."""

    start: int
    end: int


def spoken_pieces(samples: Samples) -> list[Piece]:
    """Return the stretches between pauses in which somebody speaks, in order, none longer than 20 s.

    Args:
        samples: One channel of 16 kHz.
    """
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames):
        return []
    loudness = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    active = _active(frames, loudness)
    runs = [run for run in _runs(active) if run[1] - run[0] >= _SHORTEST_SECONDS * _SECOND]
    spoken = [run for run in runs if _is_speech(samples, active, loudness, *run)]
    return [piece for run in spoken for piece in _padded(_cut(loudness, *run), len(samples))]


def _active(frames: Samples, loudness: Numbers) -> Flags:
    import webrtcvad

    floor = quantile(loudness, 0.1) + _ABOVE_FLOOR_DB
    # A steady voice may fill the whole clip: what is near its top is never the floor.
    floor = min(floor, float(loudness.max()) - 2 * _ABOVE_FLOOR_DB)
    detector = webrtcvad.Vad(_STRICTNESS)
    # It was made for loud voices: bring a quiet recording up.
    gain = min(0.5 / max(float(np.abs(frames).max()), 1e-4), 300.0)
    pcm = (np.clip(frames * gain, -1, 1) * 32767).astype("<i2")
    speech = np.array([detector.is_speech(frame.tobytes(), RATE) for frame in pcm])
    return speech & (loudness > max(floor, _QUIET_DB))


def quantile(values: Numbers, share: float) -> float:
    """Return a quantile; numpy's own loads its masked arrays, which an image without docstrings cannot."""
    return float(np.sort(values)[int(len(values) * share)])


def _runs(active: Flags) -> list[tuple[int, int]]:
    """Return the stretches of active frames, those with a short pause between them as one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    runs: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] <= _JOINED_SECONDS * _SECOND:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


def _is_speech(samples: Samples, active: Flags, loudness: Numbers, start: int, end: int) -> bool:
    own = active[start:end]
    spectra = _spectra(samples, start, end)
    voiced = _periodicity(spectra)[own] > _VOICED
    both = own[1:] & own[:-1]
    change = np.abs(np.diff(_bands(spectra), axis=0)).mean(axis=1)[both]
    return bool(
        voiced.mean() >= _VOICED_SHARE
        and loudness[start:end].std() >= _LOUDNESS_DB
        and len(change)
        and quantile(change, 0.5) >= _CHANGE_DB
    )


def _spectra(samples: Samples, start: int, end: int) -> Samples:
    """Return the power spectrum of 64 ms at each frame, long enough for two periods of a low voice."""
    part = samples[start * _FRAME : end * _FRAME + _WINDOW]
    part = np.pad(part, (0, (end - start) * _FRAME + _WINDOW - len(part)))
    windows = np.lib.stride_tricks.sliding_window_view(part, _WINDOW)[: (end - start) * _FRAME : _FRAME]
    windows = (windows - windows.mean(axis=1, keepdims=True)) * np.hanning(_WINDOW)
    return (np.abs(np.fft.rfft(windows, 2 * _WINDOW)) ** 2).astype(np.float32)


def _periodicity(spectra: Samples) -> Numbers:
    """Return how much each frame repeats itself with a period of a voice, up to about 1."""
    shape = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_WINDOW), 2 * _WINDOW)) ** 2)
    own = np.fft.irfft(spectra)
    lags = slice(RATE // 400, RATE // 70)
    return (own[:, lags] / (own[:, :1] + 1e-9) / (shape[lags] / shape[0])).max(axis=1)


def _bands(spectra: Samples) -> Numbers:
    """Return the level of the bands from 150 to 3800 Hz in dB, without the loudness that they share."""
    edges = (np.geomspace(150, 3800, 13) / RATE * 2 * _WINDOW).astype(int)
    levels = 10 * np.log10(np.add.reduceat(spectra, edges, axis=1)[:, :-1] + 1e-6)
    return levels - levels.mean(axis=1, keepdims=True)


def _cut(loudness: Numbers, start: int, end: int) -> list[tuple[int, int]]:
    """Cut what is too long where it is quietest, looking at its second half so that pieces stay long."""
    longest = int(_LONGEST_SECONDS * _SECOND)
    pieces: list[tuple[int, int]] = []
    while end - start > longest:
        half = start + longest // 2
        smooth = np.convolve(loudness[half : start + longest], np.ones(5) / 5, mode="same")
        smooth[:2] = smooth[-2:] = np.inf
        at = half + int(np.argmin(smooth))
        pieces.append((start, at))
        start = at
    return [*pieces, (start, end)]


def _padded(pieces: list[tuple[int, int]], length: int) -> list[Piece]:
    """Add what is before and after, where words begin and end softly; not between the parts of one stretch."""
    padding = int(_PADDING_SECONDS * RATE)
    first, last = pieces[0][0], pieces[-1][1]
    return [
        Piece(
            max(start * _FRAME - (padding if start == first else 0), 0),
            min(end * _FRAME + (padding if end == last else 0), length),
        )
        for start, end in pieces
    ]
