"""`handlers talk --live`: a recording spoken into a conversation as a person would, and what is answered there."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING

from handler_base.errors import HandlerError, MessagingError
from handler_base.messaging.connection import decode_answer
from handler_base.messaging.context import MESSAGE_TYPE
from handler_base.messaging.wire import header
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    STTStreamMessage,
    STTTranscription,
    TTSAudioChunk,
    TTSStatus,
    VoiceResponse,
    subjects,
)
from handlers_cli.exchange import Exchange, end, over_nats
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Terminal, printable
from handlers_cli.voice.answer import HEARD, show_timings, show_words
from handlers_cli.voice.captions import Captions
from handlers_cli.voice.files import decode, open_audio
from handlers_cli.voice.incoming import Incoming
from handlers_cli.voice.microphone import Microphone
from handlers_cli.voice.output import output_to

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage
    from handlers_cli.voice.output import Output
    from handlers_cli.voice.recording import Recording
    from handlers_cli.voice.talk import Talking

SERVICES = ("stt-module", "voice-assistant")

_IDLE_SECONDS = 3.0
"""Longest wait for the next piece of the answer's audio once its text is here."""

_LINGER_SECONDS = 2.0
"""How long we listen for another answer when the first came before all was said."""


async def live(talking: Talking, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Talk, show and play the answer, return the exit code; `interrupt` cancels the session."""
    beside = terminal.aside() if talking.output == "-" else terminal
    try:
        recording = decode(open_audio(talking.path))
        output = output_to(talking.output, terminal)
    except HandlerError as error:
        terminal.error(error.message)
        return EXIT_USAGE
    if recording.warning:
        terminal.warning(f"{talking.path}: {recording.warning}")
    captions = Captions(beside, HEARD)

    async def run(connection: Connection) -> int:
        talking.check()
        async with output:
            conversation = _Conversation(
                connection, talking, recording, output=output, captions=captions, terminal=beside
            )
            return await conversation.run(interrupt)

    return await over_nats(talking.nats_url, "handlers-talk", terminal, run, stop=captions.clear)


_OVERTAKING_SECONDS = 1.0
"""How much later than its answer a transcription may come."""


class _Conversation:
    """One session in which the recording is spoken, and somebody answers."""

    def __init__(
        self,
        connection: Connection,
        talking: Talking,
        recording: Recording,
        *,
        output: Output,
        captions: Captions,
        terminal: Terminal,
    ) -> None:
        self._connection = connection
        self._talking = talking
        self._recording = recording
        self._output = output
        self._captions = captions
        self._terminal = terminal
        self._session = talking.session or uuid.uuid4().hex
        self._incoming = Incoming(output)
        self._microphone = Microphone(connection, self._session, recording.rate, realtime=True)
        self._news = asyncio.Event()
        self._said = asyncio.Event()
        self._ended = asyncio.Event()
        self._unanswered = 0
        self._answer: VoiceResponse | None = None
        self._answered_at = self._said_at = 0.0
        self._failure: ErrorResponse | None = None

    async def run(self, interrupt: asyncio.Event) -> int:
        session = self._session
        for subject, callback in (
            (subjects.VOICE_TRANSCRIPTION.build(session_id=session), self._transcription),
            (subjects.TTS_AUDIO.build(session_id=session), self._audio),
            (subjects.TTS_STATUS.build(session_id=session), self._status),
            (subjects.VOICE_RESPONSE.wildcard, self._response),
        ):
            await self._connection.subscribe(subject, callback)
        await self._connection.flush()
        exchange = Exchange(
            self._connection, self._terminal, SERVICES[0], "session", stop=self._captions.clear
        )

        async def cancel(working: asyncio.Future[int]) -> None:
            subject = subjects.VOICE_CANCEL.build(request_id=session)
            await exchange.cancel(subject, CancelRequest(session_id=session), working, self._ended)

        code = await exchange.until(self._converse(exchange), interrupt, cancel)
        return EXIT_INTERRUPTED if code is None else code

    async def _converse(self, exchange: Exchange) -> int:
        subject = subjects.VOICE_SESSION.build(session_id=self._session)
        await exchange.store(subject, self._start(), uuid.uuid4().hex)
        await Exchange(self._connection, self._terminal, SERVICES[1], "session").tell_absence()
        speaking = asyncio.ensure_future(self._speak())
        listening = asyncio.ensure_future(self._turn_over())
        try:
            await asyncio.wait((speaking, listening), return_when=asyncio.FIRST_COMPLETED)
            for task in (speaking, listening):
                if task.done():
                    task.result()
        finally:
            await end(speaking, listening)
        if not self._ended.is_set():
            await self._microphone.end()
        return await self._conclude()

    def _start(self) -> STTStreamMessage:
        talking = self._talking
        start = STTStreamMessage(
            session_id=self._session,
            type="start",
            sample_rate=self._microphone.rate,
            language=talking.language,
            user_id=talking.user,
            speaker=talking.voice,
            collection=talking.collection,
        )
        if not talking.rag:
            start.enable_rag = False
        return start

    async def _speak(self) -> None:
        await self._microphone.speak(self._recording)
        self._said_at = time.monotonic()
        self._said.set()
        await self._microphone.silence()

    async def _turn_over(self) -> None:
        """Return when all was said and answered, the session ended, or something failed."""
        await self._either(self._said)
        while not self._over():
            await self._until_answered()
            if self._over():
                return
            await self._incoming.complete(_IDLE_SECONDS if self._incoming.size else 1.0)
            if self._answered_at < self._said_at:
                await self._linger()
            if not self._unanswered:
                return

    async def _until_answered(self) -> None:
        try:
            async with asyncio.timeout(self._talking.timeout):
                while not self._over() and (self._answer is None or self._unanswered):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            what = "no answer" if self._captions.finals else "nothing was recognised, and no answer came"
            raise MessagingError(f"{what} within {self._talking.timeout:g} s") from None

    async def _either(self, event: asyncio.Event) -> None:
        """Wait for `event`, or for an early end."""
        waiting = [asyncio.ensure_future(each.wait()) for each in (event, self._ended)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*waiting)

    async def _linger(self) -> None:
        """Wait a moment for another utterance."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self._unanswered and not self._over():
                    self._news.clear()
                    await self._news.wait()

    def _over(self) -> bool:
        return self._ended.is_set() or self._failure is not None

    async def _conclude(self) -> int:
        self._captions.clear()
        if self._failure is not None:
            self._terminal.error(printable(self._failure.message), self._failure.type)
            return EXIT_FAILED
        if self._answer is None:
            self._terminal.error("the session ended without an answer")
            return EXIT_FAILED
        if not self._incoming.size:
            self._terminal.warning("no audio came with the answer")
            return EXIT_FAILED if self._talking.output else 0
        where = await self._output.finish()
        show_timings(self._terminal, self._answer, [self._incoming.describe(), where])
        return 0

    async def _transcription(self, message: RawMessage) -> None:
        said = decode_answer(message, STTTranscription)
        if isinstance(said, ErrorResponse):
            self._fail(said)
            return
        if self._captions.take(said) and not self._overtaken(said.text.strip()):
            self._unanswered += 1
        if said.session_end:
            self._microphone.closed = True
            self._ended.set()
        self._news.set()

    def _overtaken(self, text: str) -> bool:
        """Whether the answer to `text` came first: they travel on two subjects."""
        if self._answer is None or time.monotonic() - self._answered_at > _OVERTAKING_SECONDS:
            return False
        return text in self._answer.transcription

    async def _audio(self, message: RawMessage) -> None:
        if header(message.headers, MESSAGE_TYPE) in {None, TTSAudioChunk.DESCRIPTOR.name}:
            chunk = decode_answer(message, TTSAudioChunk)
            if isinstance(chunk, TTSAudioChunk):
                self._incoming.chunk(chunk)

    async def _status(self, message: RawMessage) -> None:
        status = decode_answer(message, TTSStatus)
        if isinstance(status, ErrorResponse):
            self._fail(status)
        elif status.generation > self._incoming.generation:
            self._incoming.renew(status.generation)
        elif status.status == "error":
            self._terminal.warning(printable(status.error.message or status.message or "speech failed"))

    async def _response(self, message: RawMessage) -> None:
        response = decode_answer(message, VoiceResponse)
        if isinstance(response, ErrorResponse):
            if self._session in response.request_id:
                self._fail(response)
            return
        if response.session_id != self._session:
            return
        self._captions.clear()
        show_words(self._terminal, response)
        cut = response.finish_reason == "interrupted"
        self._unanswered = max(0, self._unanswered - 1) if cut else 0
        if not cut:
            self._answer, self._answered_at = response, time.monotonic()
            if response.audio and not self._incoming.size:
                self._incoming.whole(response.audio, response.audio_format, response.sample_rate)
        self._news.set()

    def _fail(self, error: ErrorResponse) -> None:
        self._failure = self._failure or error
        self._microphone.closed = True
        self._ended.set()
