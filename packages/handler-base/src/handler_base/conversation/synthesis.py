"""Pieces of text into audio, in order: the next pieces are synthesised while one is on its way out."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Annotated, NamedTuple

from handler_base.config import Settings, env
from handler_base.errors import HandlerError, cause_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from handler_base.clients.text_to_speech import TextToSpeech


class SynthesisSettings(Settings, frozen=True, kw_only=True):
    """How far speech runs ahead."""

    parallel: Annotated[
        int, env("TTS_PARALLEL", help="pieces of one text that are synthesised at once", ge=1)
    ] = 2


class Sound(NamedTuple):
    """A part of the speech.

    Attributes:
        number: Which piece of text it belongs to, from 0.
        audio: Whole samples, or bytes of a compressed format.
        format: `pcm`, or the compressed format.
        sample_rate: Samples per second; 0 for compressed formats.
        first: Whether it is the first of its piece.
        last: Whether it is the last of its piece; it may then hold no audio.
    """

    number: int
    audio: bytes
    format: str
    sample_rate: int
    first: bool
    last: bool


class Manner(NamedTuple):
    """How something is said.

    Attributes:
        speaker: The voice, in the endpoint's words.
        language: BCP 47 tag.
        speaker_wav: A sample of the voice to clone.
        format: `pcm`, or a compressed format.
    """

    speaker: str = ""
    language: str = ""
    speaker_wav: bytes = b""
    format: str = "pcm"


class _Track:
    """The audio of one piece, as far as it is made and not taken yet."""

    def __init__(self) -> None:
        self._sounds: deque[Sound | HandlerError] = deque()
        self._changed = asyncio.Event()

    def put(self, sound: Sound | HandlerError) -> None:
        self._sounds.append(sound)
        self._changed.set()

    async def get(self) -> Sound:
        while not self._sounds:
            self._changed.clear()
            await self._changed.wait()
        sound = self._sounds.popleft()
        if isinstance(sound, HandlerError):
            raise sound
        return sound


class Synthesis:
    """Speaks what comes, piece by piece.

    Cancelling `run` closes every connection to the endpoint at once.

    Args:
        tts: The endpoint.
        settings: How far it runs ahead.
    """

    def __init__(self, tts: TextToSpeech, settings: SynthesisSettings) -> None:
        self._tts = tts
        self._settings = settings

    async def run(
        self, pieces: AsyncIterable[str], manner: Manner, sink: Callable[[Sound], Awaitable[None]]
    ) -> int:
        """Give the audio of all pieces to `sink`, in their order; a slow sink holds the synthesis back.

        Returns:
            How many pieces there were.

        Raises:
            HandlerError: If one of them cannot be had, once what was before it has been given to `sink`.
        """
        tracks: asyncio.Queue[_Track | None] = asyncio.Queue()
        slots = asyncio.Semaphore(self._settings.parallel)

        async def feed(tasks: asyncio.TaskGroup) -> None:
            number = 0
            async for text in pieces:
                await slots.acquire()
                track = _Track()
                tasks.create_task(self._speak(number, text, manner, track))
                tracks.put_nowait(track)
                number += 1
            tracks.put_nowait(None)

        count = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(feed(tasks))
                while (track := await tracks.get()) is not None:
                    count += 1
                    while True:
                        sound = await track.get()
                        await sink(sound)
                        if sound.last:
                            break
                    slots.release()
        except BaseExceptionGroup as group:
            raise cause_of(group) from group
        return count

    async def _speak(self, number: int, text: str, manner: Manner, track: _Track) -> None:
        try:
            async with self._tts.stream(
                text,
                speaker=manner.speaker,
                language=manner.language,
                speaker_wav=manner.speaker_wav,
                format=manner.format,
            ) as speech:
                first = True
                async for audio in speech:
                    track.put(Sound(number, audio, speech.format, speech.sample_rate, first, last=False))
                    first = False
                track.put(Sound(number, b"", speech.format, speech.sample_rate, first, last=True))
        except HandlerError as error:
            track.put(error)
