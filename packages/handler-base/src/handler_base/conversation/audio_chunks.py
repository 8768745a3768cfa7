"""Speech as messages: chunks that fit into a NATS message, each with its exact place in the whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from handler_base.audio import BYTES
from handler_messages import TTSAudioChunk

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 64 * 1024
"""Most audio in one chunk: two seconds at 16 kHz."""

ENVELOPE_BYTES = 4096
"""Room kept in a message for everything but the audio."""


def room(max_payload: int, *, as_text: bool) -> int:
    """Return how many bytes of audio fit into one message.

    Args:
        max_payload: Largest message that NATS takes.
        as_text: Whether it travels in base64, four bytes for three.
    """
    space = max_payload - ENVELOPE_BYTES
    return max(BYTES, min(CHUNK_BYTES, space * 3 // 4 if as_text else space) // BYTES * BYTES)


class ChunkWriter:
    """Numbers the chunks of one request, and counts their samples.

    Args:
        template: What every chunk says: session, request, attempt, generation.
        limit: Most audio in one chunk of `write`, in bytes; see `room`.

    Attributes:
        count: How many chunks there are so far.
        samples: How many samples they hold; 0 for compressed formats.
    """

    def __init__(self, template: TTSAudioChunk, limit: int = CHUNK_BYTES) -> None:
        self._template = template
        self._limit = limit
        self.count = 0
        self.samples = 0

    def write(self, audio: bytes, *, form: str, sample_rate: int, text: str = "") -> Iterator[TTSAudioChunk]:
        """Yield audio as chunks within the limit.

        Args:
            audio: Whole samples of 16 bit mono PCM, or bytes of a compressed format.
            form: `pcm`, or the compressed format.
            sample_rate: Samples per second; 0 for compressed formats.
            text: The text whose speech begins here.
        """
        for start in range(0, len(audio), self._limit):
            part = audio[start : start + self._limit]
            samples = len(part) // BYTES if form == "pcm" else 0
            yield self.chunk(part, samples, form=form, sample_rate=sample_rate, text="" if start else text)

    def chunk(
        self,
        audio: bytes,
        samples: int,
        *,
        form: str,
        sample_rate: int,
        text: str = "",
        last: bool = False,
    ) -> TTSAudioChunk:
        """Return the next chunk.

        Args:
            audio: What it holds, of any length.
            samples: How many samples that are; 0 for compressed formats.
            form: The format.
            sample_rate: Samples per second; 0 for compressed formats.
            text: The text whose speech begins here.
            last: Whether nothing follows.
        """
        chunk = TTSAudioChunk()
        chunk.CopyFrom(self._template)
        chunk.chunk_index = self.count
        chunk.audio = audio
        chunk.format = form
        chunk.sample_rate = sample_rate
        chunk.sample_offset = self.samples
        chunk.samples = samples
        chunk.text = text
        chunk.timestamp = time.time()
        self.count += 1
        self.samples += samples
        if last:
            chunk.is_last = True
            chunk.total_chunks = self.count
        return chunk

    def last(self, *, form: str, sample_rate: int) -> TTSAudioChunk:
        """Return the chunk that ends it; it holds no audio."""
        return self.chunk(b"", 0, form=form, sample_rate=sample_rate, last=True)
