"""`handlers talk`: one spoken turn: a recorded question out, what was heard and the spoken answer in."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handler_base.errors import HandlerError, TooLarge
from handler_base.messaging import wire
from handler_base.messaging.connection import decode_answer
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    TTSAudioChunk,
    VoiceRequest,
    VoiceResponse,
    subjects,
)
from handlers_cli.exchange import Exchange, over_nats
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Terminal, printable, size
from handlers_cli.voice.answer import HEARD, show_timings, show_words
from handlers_cli.voice.files import FileError, decode, open_audio
from handlers_cli.voice.incoming import Incoming
from handlers_cli.voice.output import output_to

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage
    from handlers_cli.voice.files import AudioFile
    from handlers_cli.voice.output import Output
    from handlers_cli.voice.recording import Recording

SERVICE = "voice-assistant"
RATE = 16_000
"""Samples per second that a recording is brought down to when it is too large as it is."""

_FRAME = 1024
"""What headers and the other fields of a request may take, in bytes."""

_IDLE_SECONDS = 5.0
"""Longest wait for the next piece of the answer's audio once its text is here."""


@dataclass(frozen=True, slots=True)
class Talking:
    """What to ask, and how.

    Attributes:
        path: The file with the question, `-` for standard input.
        nats_url: The server, "" for the settings' one.
        output: A file for the answer, `-` for standard output, "" to play it.
        user: Ask as this user, on the durable subject; "" for request/reply.
        session: Conversation to go on with.
        voice: Who answers, "" for the service's default.
        language: BCP 47 tag of what is spoken.
        collection: Knowledge base to search.
        rag: False leaves the knowledge base out.
        timeout: Seconds for the whole answer.
    """

    path: str
    nats_url: str = ""
    output: str = ""
    user: str = ""
    session: str = ""
    voice: str = ""
    language: str = ""
    collection: str = ""
    rag: bool = True
    timeout: float = 120.0

    def check(self) -> None:
        """Make sure that its ids can be in a subject.

        Raises:
            SubjectError: If one cannot.
        """
        for value, option in ((self.user, "--user"), (self.session, "--session")):
            if value:
                subjects.check_token(value, option)


async def talk(talking: Talking, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Ask, show and play the answer, return the exit code; `interrupt` cancels the work at the far end."""
    beside = terminal.aside() if talking.output == "-" else terminal
    try:
        file = open_audio(talking.path)
        recording = decode(file) if file.format == "wav" else None
        output = output_to(talking.output, terminal)
    except HandlerError as error:
        terminal.error(error.message)
        return EXIT_USAGE
    if recording is not None and recording.warning:
        terminal.warning(f"{file.name}: {recording.warning}")
        file = file._replace(data=recording.wav())

    async def run(connection: Connection) -> int:
        talking.check()
        request = await _request(talking, file, recording, connection.max_payload)
        async with output:
            return await _Turn(connection, talking, request, output, beside).run(interrupt)

    return await over_nats(talking.nats_url, "handlers-talk", terminal, run)


async def _request(
    talking: Talking, file: AudioFile, recording: Recording | None, limit: int
) -> VoiceRequest:
    """Return the message to send, under a new id; audio that is too large is brought down to 16 kHz.

    Raises:
        TooLarge: If that does not help.
    """
    request = VoiceRequest(
        request_id=uuid.uuid4().hex,
        user_id=talking.user,
        session_id=talking.session,
        audio=file.data,
        format=file.format,
        sample_rate=recording.rate if recording else 0,
        language=talking.language,
        speaker=talking.voice,
        collection=talking.collection,
        stream=True,
    )
    if not talking.rag:
        request.enable_rag = False
    if request.ByteSize() + _FRAME <= limit:
        return request
    try:
        recording = recording or await asyncio.to_thread(decode, file)
    except FileError as error:
        raise TooLarge(
            f"{file.name} has {size(len(file.data))}, the server takes {size(limit)} a message, and {error.message}"
        ) from error
    rate = min(RATE, recording.rate)
    if recording.seconds * rate * 2 + _FRAME > limit:
        raise TooLarge(
            f"{file.name} is {recording.seconds:.0f} s long, and the server takes {size(limit)} a message: at most "
            f"{(limit - _FRAME) // (2 * rate)} s of speech. Shorten it, speak it with --live, or raise max_payload of "
            "the server"
        )
    request.audio = (await asyncio.to_thread(recording.at_most, RATE)).wav()
    request.format, request.sample_rate = "wav", rate
    return request


class _Turn:
    """One question and what comes back for it."""

    def __init__(
        self,
        connection: Connection,
        talking: Talking,
        request: VoiceRequest,
        output: Output,
        terminal: Terminal,
    ) -> None:
        self._connection = connection
        self._talking = talking
        self._request = request
        self._output = output
        self._terminal = terminal
        self._incoming = Incoming(output)
        self._exchange = Exchange(connection, terminal, SERVICE, "question")
        self._answer: asyncio.Future[VoiceResponse | ErrorResponse] = (
            asyncio.get_running_loop().create_future()
        )
        self._answered = False

    async def run(self, interrupt: asyncio.Event) -> int:
        request_id = self._request.request_id
        stream = subjects.VOICE_RESPONSE_STREAM.build(request_id=request_id)
        await self._connection.subscribe(stream, self._chunk)
        if self._talking.user:
            await self._connection.subscribe(
                subjects.VOICE_RESPONSE.build(request_id=request_id), self._response
            )
        await self._connection.flush()
        code = await self._exchange.until(self._talk(), interrupt, self._cancel)
        return EXIT_INTERRUPTED if code is None else code

    async def _talk(self) -> int:
        began = time.monotonic()
        answer = await (self._durable() if self._talking.user else self._direct())
        self._answered = True
        if self._exchange.cancelling:
            return EXIT_INTERRUPTED
        if isinstance(answer, ErrorResponse):
            self._terminal.error(printable(answer.message), answer.type)
            return EXIT_FAILED
        self._terminal.line(f"{HEARD}{printable(answer.transcription.strip())}")
        show_words(self._terminal, answer)
        if answer.audio and not self._incoming.size:
            self._incoming.whole(answer.audio, answer.audio_format, answer.sample_rate)
        await self._incoming.complete(_IDLE_SECONDS if self._incoming.size else 1.0)
        if self._incoming.lost and answer.audio:
            self._incoming.whole(answer.audio, answer.audio_format, answer.sample_rate)
        total = time.monotonic() - began
        if not self._incoming.size:
            self._terminal.warning("no audio came with the answer")
            return EXIT_FAILED if self._talking.output else 0
        if self._incoming.lost:
            self._terminal.warning(f"{self._incoming.lost} pieces of the speech were lost on the way")
        where = await self._output.finish()
        here = [
            f"here: first audio {self._incoming.first - began:.2f} s",
            f"all {total:.2f} s",
            self._incoming.describe(),
            where,
        ]
        show_timings(self._terminal, answer, here)
        return 0

    async def _direct(self) -> VoiceResponse | ErrorResponse:
        return await self._exchange.request(
            subjects.VOICE_REQUEST.template, wire.encode(self._request), VoiceResponse, self._talking.timeout
        )

    async def _durable(self) -> VoiceResponse | ErrorResponse:
        subject = subjects.VOICE_USER_REQUEST.build(user_id=self._talking.user)
        await self._exchange.store(subject, self._request, self._request.request_id)
        return await self._exchange.within(self._answer, self._talking.timeout)

    async def _cancel(self, working: asyncio.Future[int]) -> None:
        if self._answered and self._incoming.ended.is_set():  # there is nothing to stop but the sound
            return
        request_id = self._request.request_id
        subject = subjects.VOICE_CANCEL.build(request_id=request_id)
        await self._exchange.cancel(
            subject, CancelRequest(request_id=request_id), working, self._incoming.ended
        )

    async def _chunk(self, message: RawMessage) -> None:
        chunk = decode_answer(message, TTSAudioChunk)
        if isinstance(chunk, TTSAudioChunk) and self._incoming.chunk(chunk):
            self._terminal.note(f"(started again, attempt {chunk.attempt})")

    async def _response(self, message: RawMessage) -> None:
        if not self._answer.done():
            self._answer.set_result(decode_answer(message, VoiceResponse))
