"""The audio of one answer as it comes over NATS: in order, once, of the newest attempt."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from handler_base.audio import AudioError, PcmReader, duration
from handler_base.errors import HandlerError
from handlers_cli.terminal import size

if TYPE_CHECKING:
    from handler_messages import TTSAudioChunk
    from handlers_cli.voice.output import Output


class SpeechError(HandlerError):
    """Speech came that nobody can use."""

    type = "audio"


class Incoming:
    """Puts chunks into an output.

    Args:
        output: Where the audio goes.

    Attributes:
        first: When the first audio came, on the monotonic clock; 0.0 before.
        seconds: How much of it came; 0.0 for compressed formats.
        size: How many bytes came.
        lost: How many chunks are missing.
        generation: The newest one seen.
        failure: Why it cannot be used, or None.
        ended: Set when the last chunk came, or none can be used.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._attempt = 0
        self._next = 0
        self._reader: PcmReader | None = None
        self._news = asyncio.Event()
        self.first = 0.0
        self.seconds = 0.0
        self.size = 0
        self.lost = 0
        self.generation = 0
        self.failure: SpeechError | None = None
        self.ended = asyncio.Event()

    def chunk(self, chunk: TTSAudioChunk) -> bool:
        """Take a chunk; what is old or came before is dropped.

        Returns:
            Whether it began anew, in place of audio that came before.
        """
        old = (chunk.generation, chunk.attempt) < (self.generation, self._attempt)
        again = (chunk.generation, chunk.attempt) > (self.generation, self._attempt)
        if old or (not again and chunk.chunk_index < self._next):
            return False
        anew = again and self.renew(chunk.generation, chunk.attempt)
        self.lost += chunk.chunk_index - self._next
        self._next = chunk.chunk_index + 1
        self._take(chunk.audio, chunk.format or "pcm", chunk.sample_rate)
        if chunk.is_last:
            self.ended.set()
        return anew

    def renew(self, generation: int, attempt: int = 0) -> bool:
        """Forget what came; return whether there was anything."""
        had = self.size > 0
        if had:
            self._output.reset()
        self.generation, self._attempt, self._next = generation, attempt, 0
        self.seconds, self.size, self.lost = 0.0, 0, 0
        self._reader = None
        self.ended.clear()
        return had

    def whole(self, audio: bytes, form: str, rate: int, seconds: float = 0.0) -> None:
        """Take all of the audio at once, in place of what came; `seconds` when it cannot be counted."""
        self.renew(self.generation, self._attempt)
        self._take(audio, form or "wav", rate)
        self.seconds = self.seconds or seconds
        self.ended.set()

    async def complete(self, idle: float) -> None:
        """Wait for the last chunk; no longer than `idle` seconds for each.

        Raises:
            SpeechError: If what came cannot be used.
        """
        with contextlib.suppress(TimeoutError):
            while not self.ended.is_set():
                self._news.clear()
                async with asyncio.timeout(idle):
                    await self._news.wait()
        if self.failure is not None:
            raise self.failure

    def describe(self) -> str:
        """Say how much came."""
        return f"{self.seconds:.1f} s of speech" if self.seconds else f"{size(self.size)} of speech"

    def _take(self, audio: bytes, form: str, rate: int) -> None:
        self._news.set()
        try:
            if form == "wav":
                self._reader = self._reader or PcmReader()
                audio, form, rate = self._reader.feed(audio), "pcm", self._reader.rate
            if form == "pcm" and audio and not rate:
                raise AudioError("nobody says how many samples a second it has")
        except AudioError as error:
            self.failure = SpeechError(f"the speech that came cannot be used: {error}")
            self.ended.set()
            return
        if not audio:
            return
        self.first = self.first or time.monotonic()
        self.size += len(audio)
        if form == "pcm":
            self.seconds += duration(audio, rate)
        self._output.write(audio, form, rate)
