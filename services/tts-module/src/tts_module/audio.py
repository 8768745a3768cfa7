"""Sounds on their way out: as a stream of `TTSAudioChunk`s, or whole as one `TTSFullResponse`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from handler_base import telemetry
from handler_base.audio import BYTES, duration, wav, wav_header
from handler_base.conversation.audio_chunks import ChunkWriter
from handler_base.errors import UpstreamProtocol
from handler_base.messaging import wire
from handler_messages import TTSAudioChunk, TTSFullResponse, subjects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handler_base.conversation.synthesis import Sound
    from handler_base.messaging.context import Context
    from tts_module.config import SpeakSettings

ENVELOPE_BYTES = 2048
"""Room kept in a NATS message for headers, ids and the names of fields."""

SMALLEST_ROOM = 256
"""Audio that a message must hold besides its caption, in bytes; otherwise the caption is left out."""


class Output(Protocol):
    """Where the sounds of one request go.

    Attributes:
        seconds: How long the audio is so far; 0 for compressed formats.
    """

    seconds: float

    async def take(self, sound: Sound) -> None:
        """Take one more sound."""
        ...

    async def finish(self) -> None:
        """Send what is left; nothing comes any more."""
        ...


class AudioStream:
    """Sends audio as it comes, in chunks of whole samples that fit into a message.

    The first chunk goes out early. A chunk never holds audio of two pieces, so that captions begin where their speech
    begins.

    Args:
        context: The request.
        captions: The text of each piece.
        format: What was asked for; compressed audio stays what it is.
        settings: Sizes of chunks.
    """

    def __init__(
        self,
        context: Context,
        captions: Sequence[str],
        format: str,  # noqa: A002
        settings: SpeakSettings,
    ) -> None:
        self.seconds = 0.0
        self._context = context
        self._subject = subjects.TTS_AUDIO.build(session_id=context.session_id)
        self._captions = captions
        self._asked = format
        self._settings = settings
        self._writer = ChunkWriter(
            TTSAudioChunk(
                session_id=context.session_id, request_id=context.request_id, attempt=context.attempt
            )
        )
        self._format = ""
        self._rate = 0
        self._buffer = bytearray()
        self._caption = ""

    async def take(self, sound: Sound) -> None:
        """Take one more sound; publishes what is enough for a chunk.

        Raises:
            UpstreamProtocol: If it is in another format or rate than those before it.
            MessagingError: If NATS does not take it.
        """
        if sound.audio:
            check_same(self._format, self._rate, sound)
            self._format, self._rate = sound.format, sound.sample_rate
        if sound.first:
            caption = self._captions[sound.number]
            fits = self._context.max_payload - ENVELOPE_BYTES - size_of(caption) >= SMALLEST_ROOM
            self._caption = caption if fits else ""
        self._buffer += sound.audio
        while self._buffer and len(self._buffer) >= self._enough():
            await self._send(min(len(self._buffer), self._full()))
        if sound.last and sound.number < len(self._captions) - 1:
            while self._buffer:
                await self._send(min(len(self._buffer), self._full()))

    async def finish(self) -> None:
        """Send the last chunk, which says how many there were; it may be empty.

        Raises:
            MessagingError: If NATS does not take it.
        """
        await self._send(len(self._buffer), last=True)  # `take` leaves less than a full chunk

    def _enough(self) -> int:
        """Return how many bytes the next chunk waits for; compressed audio waits for nothing."""
        if self._format != "pcm":
            return 1
        return self._full() if self.chunks else min(self._full(), self._bytes(self._settings.first_chunk_ms))

    def _full(self) -> int:
        """Return the size of a full chunk in bytes."""
        if self._format != "pcm":
            return self._room()
        return min(self._room(), self._bytes(self._settings.chunk_ms))

    def _bytes(self, milliseconds: int) -> int:
        return max(1, self._rate * milliseconds // 1000) * BYTES

    def _room(self) -> int:
        """Return the most audio that the next chunk can hold, in bytes."""
        left = self._context.max_payload - ENVELOPE_BYTES - size_of(self._caption)
        room = room_of(self._context, max(SMALLEST_ROOM, left))
        return room - room % BYTES

    async def _send(self, size: int, *, last: bool = False) -> None:
        pcm = self._format == "pcm"
        audio = bytes(self._buffer[:size])
        del self._buffer[:size]
        samples = len(audio) // BYTES if pcm else 0
        as_wav, first = self._wav and pcm, not self.chunks
        chunk = self._writer.chunk(
            wav_header(self._rate) + audio if as_wav and first else audio,
            samples,
            form="wav" if as_wav else self._format or self._asked,
            sample_rate=self._rate,
            text=self._caption,
            last=last,
        )
        await self._context.publish(self._subject, chunk, named=True)
        if first:
            went_out(self._context)
        self._caption = ""
        if self._rate:
            self.seconds = self._writer.samples / self._rate

    @property
    def chunks(self) -> int:
        """How many chunks went out."""
        return self._writer.count

    @property
    def _wav(self) -> bool:
        return self._asked == "wav"


class WholeAudio:
    """Keeps audio until it is complete, and sends it as one message.

    What does not fit into a message becomes a stream at that moment.

    Args:
        context: The request.
        stream: Where it goes then.
        format: What was asked for; uncompressed audio in place of a compressed format becomes `wav`.
    """

    def __init__(self, context: Context, stream: AudioStream, format: str) -> None:  # noqa: A002
        self.seconds = 0.0
        self._context = context
        self._stream = stream
        self._format = format
        self._sounds: list[Sound] = []
        self._size = 0
        self._streaming = False

    async def take(self, sound: Sound) -> None:
        """Take one more sound.

        Raises:
            UpstreamProtocol, MessagingError: As `AudioStream.take`.
        """
        if self._streaming:
            await self._pass_on(sound)
            return
        self._sounds.append(sound)
        self._size += len(sound.audio)
        if self._size > room_of(self._context, self._context.max_payload - ENVELOPE_BYTES):
            self._streaming = True
            for held in self._sounds:
                await self._pass_on(held)
            self._sounds.clear()

    async def finish(self) -> None:
        """Send the audio, or what is left of it.

        Raises:
            UpstreamProtocol, MessagingError: As `AudioStream`.
        """
        if self._streaming:
            await self._stream.finish()
            self.seconds = self._stream.seconds
            return
        kind, rate = "", 0
        sounding = [sound for sound in self._sounds if sound.audio]
        for sound in sounding:
            check_same(kind, rate, sound)
            kind, rate = sound.format, sound.sample_rate
        audio = b"".join(sound.audio for sound in sounding)
        if kind == "pcm":
            self.seconds = duration(audio, rate)
            if self._format != "pcm":
                audio, kind = wav(audio, rate), "wav"
        answer = TTSFullResponse(
            session_id=self._context.session_id,
            request_id=self._context.request_id,
            audio=audio,
            format=kind or self._format,
            sample_rate=rate,
            duration_seconds=self.seconds,
        )
        subject = subjects.TTS_AUDIO.build(session_id=self._context.session_id)
        await self._context.publish(subject, answer, named=True)
        went_out(self._context)

    async def _pass_on(self, sound: Sound) -> None:
        await self._stream.take(sound)
        self.seconds = self._stream.seconds


def check_same(format: str, rate: int, sound: Sound) -> None:  # noqa: A002
    """Refuse audio that cannot follow on what came before: samples are counted over the whole text.

    Raises:
        UpstreamProtocol: If its format or rate is another.
    """
    if format and (format, rate) != (sound.format, sound.sample_rate):
        raise UpstreamProtocol(
            f"text to speech changed from {format} with {rate} Hz to {sound.format} with {sound.sample_rate} Hz "
            "within one text",
            endpoint="tts",
        )


def size_of(caption: str) -> int:
    """Return the most bytes that a caption takes in a message: JSON has two for some characters."""
    return 2 * len(caption.encode())


def room_of(context: Context, size: int) -> int:
    """Return how many bytes of audio take `size` bytes of a message: base64 in JSON takes four for three."""
    return size * 3 // 4 if context.kind == wire.JSON else size


def went_out(context: Context) -> None:
    """Measure the time to the first audio."""
    telemetry.record("handler.first_audio", asyncio.get_running_loop().time() - context.received)
