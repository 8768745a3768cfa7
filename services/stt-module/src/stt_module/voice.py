"""Whether 10, 20 or 30 ms of audio are somebody's voice: WebRTC's detector, less what sounds the same all the time.

WebRTC's detector takes loud noise for speech for as long as it lasts. Speech has gaps: what stays as loud as the
quietest moment of the last seconds is the room. And vowels have a tone, which a hiss does not.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from operator import mul
from typing import Any, NamedTuple

RATES = (8000, 16000, 32000, 48000)
"""What WebRTC's detector takes. Whatever has another rate is judged at 8 kHz, where it works inside."""

LOUDER = 3.0
"""How much more energy than the room a voice has."""

LEARNING_MS = 200
"""How long nothing is held against the first sounds."""

BLOCK_MS = 500
BLOCKS = 6
"""The room is the quietest moment of so many blocks."""

TONE = 0.35
"""Correlation of neighbouring samples, at about 16 kHz, from which a sound has a tone."""


class Judged(NamedTuple):
    """What a frame is.

    Attributes:
        voiced: Whether somebody speaks.
        tone: Whether it is a sound of the voice, not a hiss.
    """

    voiced: bool
    tone: bool


class Voice:
    """Judges the frames of one speaker, one after the other.

    Args:
        rate: Samples per second.
        frame_ms: Length of a frame: 10, 20 or 30.
        aggressiveness: 0 to 3.

    Attributes:
        samples: Samples of a frame.
    """

    def __init__(self, rate: int, frame_ms: int, aggressiveness: int) -> None:
        # `webrtcvad` itself looks up its own version when it is imported, which takes 40 ms.
        import _webrtcvad as webrtc

        self.samples = rate * frame_ms // 1000
        self._webrtc: Any = webrtc
        self._detector: Any = webrtc.create()
        webrtc.init(self._detector)
        webrtc.set_mode(self._detector, aggressiveness)
        self._rate = rate if rate in RATES else 8000
        self._reduce = None if rate in RATES else Reducer(self.samples, 8 * frame_ms)
        self._stride = max(1, rate // 16000)
        self._learning = LEARNING_MS // frame_ms
        self._block = BLOCK_MS // frame_ms
        self._quietest: list[float] = []
        self._frames = 0

    def judge(self, frame: bytes) -> Judged:
        """Judge the next frame."""
        detected = frame if self._reduce is None else self._reduce(frame)
        speech: bool = self._webrtc.process(self._detector, self._rate, detected, len(detected) // 2)
        samples = array("h", frame)[:: self._stride]
        # What is constant is no sound.
        offset = (sum(samples) / len(samples)) ** 2
        energy = sum(map(mul, samples, samples)) / len(samples) - offset
        room = min(self._quietest, default=0.0) if self._frames >= self._learning else 0.0
        if self._frames % self._block == 0:
            self._quietest = [*self._quietest[-BLOCKS + 1 :], energy]
        elif energy < self._quietest[-1]:
            self._quietest[-1] = energy
        self._frames += 1
        if not speech or energy <= LOUDER * room:
            return Judged(voiced=False, tone=False)
        correlation = sum(map(mul, samples, samples[1:])) / len(samples) - offset
        return Judged(voiced=True, tone=correlation > TONE * energy)


class Reducer:
    """Makes frames of one length from frames of another: means of neighbours, which is good enough to judge by."""

    def __init__(self, samples: int, wanted: int) -> None:
        self._bounds = [
            (
                number * samples // wanted,
                max(number * samples // wanted + 1, (number + 1) * samples // wanted),
            )
            for number in range(wanted)
        ]

    def __call__(self, frame: bytes) -> bytes:
        """Return a frame of 16 bit PCM in the wanted length."""
        sums = list(accumulate(array("h", frame), initial=0))
        return array(
            "h", [(sums[end] - sums[begin]) // (end - begin) for begin, end in self._bounds]
        ).tobytes()
