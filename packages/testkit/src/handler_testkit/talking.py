"""A client of a voice session, and endpoints that write down what they are sent.

talk = Talk(client, "s1", *[await client.listen(subject) for subject in Talk.subjects("s1")])
await talk.start()
await talk.say(pcm)
(final,) = await talk.written(1)
"""

from __future__ import annotations

import asyncio
import re
import wave
from array import array
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from handler_base.messaging import wire
from handler_messages import STTInterrupt, STTStreamMessage, STTTranscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from handler_testkit.endpoints import Exchange, Request, Script
    from handler_testkit.services import Client, Heard

RATE = 16_000
"""Samples per second where nothing else is said."""


def silence(seconds: float, rate: int = RATE) -> bytes:
    """Return 16 bit PCM of nothing."""
    return bytes(2 * int(seconds * rate))


def resample(pcm: bytes, rate: int, wanted: int) -> bytes:
    """Return 16 bit PCM at another sample rate, by straight lines."""
    if rate == wanted:
        return pcm
    samples = array("h", pcm)
    last = len(samples) - 1
    out = array("h")
    for number in range(len(samples) * wanted // rate):
        at, part = divmod(number * rate, wanted)
        following = samples[min(at + 1, last)]
        out.append(samples[at] + (following - samples[at]) * part // wanted)
    return out.tobytes()


def scaled(pcm: bytes, peak: int) -> bytes:
    """Return audio with exactly this peak, by which a scripted endpoint knows it again."""
    samples = array("h", pcm)
    loudest = max(map(abs, samples))
    return array("h", [sample * peak // loudest for sample in samples]).tobytes()


def chunks(pcm: bytes, ms: int = 20, rate: int = RATE) -> list[bytes]:
    """Return 16 bit PCM in pieces."""
    size = 2 * (rate * ms // 1000)
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


class Audio(NamedTuple):
    """What an endpoint of transcriptions was sent."""

    pcm: bytes
    rate: int
    language: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.pcm) / 2 / self.rate

    @property
    def peak(self) -> int:
        """Its loudest sample."""
        return max(map(abs, array("h", self.pcm)), default=0)


def audio_of(request: Request) -> Audio:
    """Return the audio of a request to `/v1/audio/transcriptions`."""
    start = request.body.index(b"RIFF")
    end = request.body.rindex(b"\r\n--")
    with wave.open(BytesIO(request.body[start:end])) as reader:
        assert (reader.getnchannels(), reader.getsampwidth()) == (1, 2)
        language = re.search(rb'name="language"\r\n\r\n([^\r]*)', request.body)
        return Audio(
            reader.readframes(reader.getnframes()),
            reader.getframerate(),
            language[1].decode() if language else "",
        )


def answers(recognise: Callable[[Audio], str], delay: float = 0.0) -> Script:
    """Return an endpoint that writes down whatever `recognise` says."""

    async def script(exchange: Exchange) -> None:
        if delay:
            await asyncio.sleep(delay)
        await exchange.json({"text": recognise(audio_of(exchange.request))})

    return script


def by_length(audio: Audio) -> str:
    """Write down how long it is."""
    return f"{audio.seconds:.1f} s"


class Talk:
    """A client of one session: what it sends, and what it hears.

    Attributes:
        session_id: The session.
        heard: Its transcriptions, as they came.
        interrupted: Its interrupts, as they came.
        kind: Content type of what is sent.
        sent: Sequence number of the next chunk.
    """

    def __init__(self, client: Client, session_id: str, transcriptions: Heard, interrupts: Heard) -> None:
        self.session_id = session_id
        self.heard = transcriptions
        self.interrupted = interrupts
        self.kind = wire.PROTOBUF
        self.sent = 0
        self._client = client

    @classmethod
    async def listening(cls, client: Client, session_id: str) -> Self:
        """Return the client of a session that hears what is published of it from now on."""
        return cls(
            client,
            session_id,
            await client.listen(f"ai.voice.transcription.{session_id}"),
            await client.listen(f"ai.voice.interrupt.{session_id}"),
        )

    async def start(self, **fields: Any) -> None:
        """Start the session."""
        message = STTStreamMessage(session_id=self.session_id, type="start", **fields)
        subject = f"ai.voice.session.{self.session_id}"
        if self.kind == wire.PROTOBUF:
            await self._client.send(subject, message)
        else:
            await self._client.connection.publish(subject, message, kind=self.kind)

    async def send(self, **fields: Any) -> None:
        """Send any message of the session."""
        message = STTStreamMessage(session_id=self.session_id, **fields)
        await self._client.connection.publish(f"ai.voice.stream.{self.session_id}", message, kind=self.kind)

    async def chunk(self, pcm: bytes, rate: int = RATE, **fields: Any) -> None:
        """Send one chunk, with the next number if no other is given."""
        fields = {"sequence": self.sent, **fields}
        self.sent = fields["sequence"] + 1
        await self.send(type="chunk", audio=pcm, sample_rate=rate, **fields)

    async def say(
        self, pcm: bytes, *, rate: int = RATE, ms: int = 20, pace: float = 0.0, **fields: Any
    ) -> None:
        """Send audio in chunks.

        Args:
            pcm: 16 bit PCM.
            rate: Its sample rate.
            ms: Length of a chunk.
            pace: How long a second of it takes; 1 is real time.
            fields: Of every chunk.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, piece in enumerate(chunks(pcm, ms, rate), 1):
            await self.chunk(piece, rate, **fields)
            await asyncio.sleep(max(0.0, began + number * ms / 1000 * pace - loop.time()))

    async def state(self, state: str) -> None:
        """Say whether the assistant is `listening` or `responding`."""
        await self.send(type="state", state=state)

    async def end(self) -> None:
        """End the session."""
        await self.send(type="end", sequence=self.sent)
        self.sent += 1

    def said(self) -> list[STTTranscription]:
        """Return all transcriptions so far."""
        return [wire.decode(STTTranscription, m.data, wire.content_type(m.headers)) for m in self.heard.all]

    def finals(self) -> list[STTTranscription]:
        """Return the final ones so far."""
        return [said for said in self.said() if said.is_final]

    def interrupts(self) -> list[STTInterrupt]:
        """Return the interrupts so far."""
        return [wire.decode(STTInterrupt, m.data, wire.content_type(m.headers)) for m in self.interrupted.all]

    async def written(self, number: int, timeout: float = 20) -> list[STTTranscription]:
        """Wait for so many final transcriptions, and return them."""
        await self.heard.until(lambda _: len(self.finals()) >= number, timeout)
        return self.finals()

    async def closed(self, timeout: float = 20) -> STTTranscription:
        """Wait for the end of the session, and return what says so."""
        await self.heard.until(lambda _: any(said.session_end for said in self.said()), timeout)
        return next(said for said in self.said() if said.session_end)
