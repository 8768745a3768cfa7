"""Recorded speech as 16 bit samples of one channel, whatever WAV it came in, at whatever rate it is wanted."""

from __future__ import annotations

import math
from array import array
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

from handler_base.audio import BYTES, ENDLESS, AudioError, read_wav_header, wav

if TYPE_CHECKING:
    from collections.abc import Iterator

_INTEGERS, _FLOATS = 1, 3
_UNKNOWN = 0x7FFFFF00  # what programs write that do not know how long it will be
_CROSSINGS = 8
"""Zero crossings of the filter on each side: aliases are 60 dB down."""


class Recording(NamedTuple):
    """What somebody said.

    Attributes:
        samples: 16 bit, one channel.
        rate: Samples per second.
        warning: What is wrong with the file it came from, or "".
    """

    samples: array[int]
    rate: int
    warning: str = ""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def at_most(self, rate: int) -> Recording:
        """Return it with at most `rate` samples per second."""
        if self.rate <= rate:
            return self
        parts = Converter(self, rate)
        return Recording(parts.part(0, len(parts)), rate, self.warning)

    def pieces(self, seconds: float, rate: int) -> Iterator[bytes]:
        """Give it piece by piece, with at most `rate` samples per second; each is converted when its turn comes."""
        parts = Converter(self, min(rate, self.rate))
        step = max(1, round(parts.rate * seconds))
        for start in range(0, len(parts), step):
            yield parts.part(start, min(start + step, len(parts))).tobytes()

    def wav(self) -> bytes:
        """Return it as a WAV file."""
        return wav(self.samples.tobytes(), self.rate)


def read_wav(data: bytes) -> Recording:
    """Read a WAV file of integers of 8 to 32 bits or of floats; channels are mixed.

    A file that ends early is read as far as it goes.

    Raises:
        AudioError: If it is none, or has no samples.
    """
    header = read_wav_header(data)
    if header is None:
        raise AudioError("it ends before its first sample")
    width = (header.bits + 7) // 8
    there = len(data) - header.start
    said = there if header.size in {0, ENDLESS} or header.size >= _UNKNOWN else header.size
    frame = width * header.channels
    frames = min(said, there) // frame
    if not frames:
        raise AudioError("it has no samples")
    body = data[header.start : header.start + frames * frame]
    if header.encoding == _FLOATS and width in {4, 8}:
        samples = _from_floats(body, "f" if width == 4 else "d")
    elif header.encoding == _INTEGERS and 1 <= width <= 4:
        samples = _from_integers(body, width)
    else:
        raise AudioError(
            f"its samples are of a kind that is not read (encoding {header.encoding}, {header.bits} bits)"
        )
    warning = ""
    if said > there:
        seconds = said / frame / header.rate
        warning = f"it ends after {frames / header.rate:.1f} s of the {seconds:.1f} s that it should have"
    return Recording(_mixed(samples, header.channels), header.rate, warning)


def _from_integers(body: bytes, width: int) -> array[int]:
    """Return the upper 16 bits of each sample."""
    if width == BYTES:
        return array("h", body)
    upper = bytearray(len(body) // width * BYTES)
    if width == 1:  # without a sign, alone of all
        upper[1::2] = body.translate(bytes(value ^ 0x80 for value in range(256)))
    else:
        upper[0::2] = body[width - 2 :: width]
        upper[1::2] = body[width - 1 :: width]
    return array("h", bytes(upper))


def _from_floats(body: bytes, code: str) -> array[int]:
    return array("h", [round(32767 * min(1.0, max(-1.0, value))) for value in array(code, body)])


def _mixed(samples: array[int], channels: int) -> array[int]:
    if channels == 1:
        return samples
    each = [samples[channel::channels] for channel in range(channels)]
    return array("h", [sum(frame) // channels for frame in zip(*each, strict=True)])


class Converter:
    """A recording at a lower rate: a windowed sinc, one set of weights for each place between two samples.

    Attributes:
        rate: Samples per second that come out.
    """

    def __init__(self, recording: Recording, rate: int) -> None:
        common = math.gcd(recording.rate, rate)
        self.rate = rate
        self._up, self._down = rate // common, recording.rate // common
        self._count = len(recording.samples)
        self._scale = recording.rate / rate
        self._half = math.ceil(_CROSSINGS * self._scale)
        silence = array("h", bytes(BYTES * self._half))
        self._padded = silence + recording.samples + silence
        self._weights: dict[int, list[float]] = {}

    def __len__(self) -> int:
        return (self._count * self._up + self._down - 1) // self._down

    def part(self, start: int, stop: int) -> array[int]:
        """Return the samples from `start` to `stop`, counted in what comes out."""
        if self._up == self._down:
            return self._padded[self._half + start : self._half + stop]
        padded, wide = self._padded, 2 * self._half
        found = array("h")
        for number in range(start, stop):
            at, phase = divmod(number * self._down, self._up)
            weights = self._weights.get(phase) or self._weigh(phase)
            value = round(sum(map(mul, weights, padded[at + 1 : at + 1 + wide])))
            found.append(min(32767, max(-32768, value)))
        return found

    def _weigh(self, phase: int) -> list[float]:
        cutoff = 0.95 / self._scale
        distances = [k - phase / self._up for k in range(1 - self._half, self._half + 1)]
        weights = [
            _sinc(cutoff * distance) * (0.5 + 0.5 * math.cos(math.pi * distance / self._half))
            for distance in distances
        ]
        total = sum(weights)
        self._weights[phase] = [weight / total for weight in weights]
        return self._weights[phase]


def _sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x) if x else 1.0
