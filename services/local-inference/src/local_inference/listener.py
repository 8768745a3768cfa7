"""The process that listens: pocketsphinx holds the interpreter's lock while it decodes, so it has one of its own.

A job comes on standard input as two frames, each after its length: a `Job` in JSON and the file. What is heard goes to
standard output, one `Heard` a line. `ears` starts these processes, and ends one whose client has gone away.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import IO, Any

import msgspec

from local_inference.wire import ApiError

LENGTH = struct.Struct(">I")

_NICE = 5
_QUIET_PEAK = 0.5


class Job(msgspec.Struct):
    """What to read a file as."""

    label: str = ""
    rate: int = 0
    channels: int = 1
    max_seconds: float = 600.0


class Segment(msgspec.Struct):
    """What somebody said between two pauses, in seconds."""

    start: float
    end: float
    text: str


class Refusal(msgspec.Struct):
    """Why there is no transcript: what an ApiError says."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


class Heard(msgspec.Struct, omit_defaults=True):
    """The answer to a job."""

    duration: float = 0.0
    segments: list[Segment] = []
    refusal: Refusal | None = None


def main() -> None:
    """Answer jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service decides when this process ends
    os.nice(_NICE)
    # Libraries may print; the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs = sys.stdin.buffer
    recognizer = Recognizer()
    while (head := _frame(jobs)) is not None and (data := _frame(jobs)) is not None:
        job = msgspec.json.decode(head, type=Job)
        try:
            heard = recognizer.hear(data, job)
        except ApiError as error:
            heard = Heard(refusal=Refusal(error.status, error.message, error.code, error.param))
        answers.write(msgspec.json.encode(heard) + b"\n")
        answers.flush()


def _frame(stream: IO[bytes]) -> bytes | None:
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


class Recognizer:
    """pocketsphinx with its model of US English, loaded with the first sound that has a voice in it."""

    def __init__(self) -> None:
        self._decoder: Any = None

    def hear(self, data: bytes, job: Job) -> Heard:
        """Return what is said in a file.

        Raises:
            ApiError: If it cannot be read or is too long.
        """
        from local_inference.audio import RATE, read_audio
        from local_inference.voice_activity import spoken_pieces

        samples = read_audio(
            data, label=job.label, rate=job.rate, channels=job.channels, max_seconds=job.max_seconds
        )
        pieces = spoken_pieces(samples)
        texts = [(piece, self._decoded(samples[piece.start : piece.end])) for piece in pieces]
        segments = [Segment(p.start / RATE, p.end / RATE, text) for p, text in texts if text]
        return Heard(len(samples) / RATE, segments)

    def _decoded(self, samples: Any) -> str:
        from local_inference.pitch import normalised

        if self._decoder is None:
            import pocketsphinx

            # Two settings are not its defaults, by the word error rate over four voices: a language model that weighs
            # less, and no third pass.
            self._decoder = pocketsphinx.Decoder(
                samprate=16000, cmn="batch", lw=5.0, bestpath=False, loglevel="FATAL"
            )
        samples = normalised(samples)
        gain = max(1.0, _QUIET_PEAK / max(float(abs(samples).max()), 1e-3))
        pcm = (samples * gain * 32767).astype("<i2").tobytes()
        # It would go on with the noise of what it heard before: no request is to change how the next is heard.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found is not None else ""
