"""`handlers transcribe`: a recording in, what was said in it out, utterance by utterance."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from handler_base.errors import HandlerError, MessagingError
from handler_base.messaging import wire
from handler_base.messaging.connection import decode_answer
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    STTStreamMessage,
    STTTranscription,
    subjects,
)
from handlers_cli.exchange import Exchange, over_nats
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Terminal, printable
from handlers_cli.voice.captions import Captions
from handlers_cli.voice.files import decode, open_audio
from handlers_cli.voice.microphone import Microphone

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage
    from handlers_cli.voice.recording import Recording

SERVICE = "stt-module"


@dataclass(frozen=True, slots=True)
class Transcribing:
    """What to write down, and how.

    Attributes:
        path: The file, `-` for standard input.
        nats_url: The server, "" for the settings' one.
        language: BCP 47 tag of what is spoken, "" lets the model find out.
        as_json: One JSON object in place of text.
        realtime: Send it as fast as it was spoken.
        timeout: Seconds without news after which we give up, once all is sent.
    """

    path: str
    nats_url: str = ""
    language: str = ""
    as_json: bool = False
    realtime: bool = False
    timeout: float = 120.0


async def transcribe(what: Transcribing, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Have it written down, return the exit code; `interrupt` cancels the work at the far end."""
    try:
        recording = decode(open_audio(what.path))
    except HandlerError as error:
        terminal.error(error.message)
        return EXIT_USAGE
    if recording.warning:
        terminal.warning(f"{what.path}: {recording.warning}")
    captions = Captions(terminal)

    async def run(connection: Connection) -> int:
        return await _Dictation(connection, what, recording, captions, terminal).run(interrupt)

    return await over_nats(what.nats_url, "handlers-transcribe", terminal, run, stop=captions.clear)


class _Dictation:
    """One session that nobody answers in."""

    def __init__(
        self,
        connection: Connection,
        what: Transcribing,
        recording: Recording,
        captions: Captions,
        terminal: Terminal,
    ) -> None:
        self._connection = connection
        self._what = what
        self._recording = recording
        self._captions = captions
        self._terminal = terminal
        self._session = uuid.uuid4().hex
        self._exchange = Exchange(connection, terminal, SERVICE, "recording", stop=captions.clear)
        self._microphone = Microphone(connection, self._session, recording.rate, realtime=what.realtime)
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._failed: ErrorResponse | None = None

    async def run(self, interrupt: asyncio.Event) -> int:
        subject = subjects.VOICE_TRANSCRIPTION.build(session_id=self._session)
        await self._connection.subscribe(subject, self._transcription)
        await self._connection.flush()
        code = await self._exchange.until(self._dictate(), interrupt, self._cancel)
        return EXIT_INTERRUPTED if code is None else code

    async def _dictate(self) -> int:
        start = STTStreamMessage(
            session_id=self._session,
            type="start",
            sample_rate=self._microphone.rate,
            language=self._what.language,
            enable_assistant=False,
        )
        subject = subjects.VOICE_SESSION.build(session_id=self._session)
        await self._exchange.store(subject, start, f"{self._session}-start")
        await self._microphone.speak(self._recording)
        if not self._ended.is_set():
            await self._microphone.end()
        await self._the_end()
        if self._failed is not None:
            self._terminal.error(printable(self._failed.message), self._failed.type)
        if self._what.as_json:
            self._print_json()
        if not self._captions.finals:
            self._terminal.error(f"nothing was recognised in {self._recording.seconds:.1f} s of audio")
        return 0 if self._captions.finals and self._failed is None else EXIT_FAILED

    async def _the_end(self) -> None:
        """Wait for the end of the session, as long as there are news of it."""
        while not self._ended.is_set():
            self._news.clear()
            try:
                async with asyncio.timeout(self._what.timeout):
                    await self._news.wait()
            except TimeoutError:
                raise MessagingError(
                    f"nothing was heard of {SERVICE} for {self._what.timeout:g} s; the transcription is not complete"
                ) from None

    async def _cancel(self, working: asyncio.Future[int]) -> None:
        subject = subjects.VOICE_CANCEL.build(request_id=self._session)
        await self._exchange.cancel(subject, CancelRequest(session_id=self._session), working, self._ended)

    async def _transcription(self, message: RawMessage) -> None:
        said = decode_answer(message, STTTranscription)
        self._news.set()
        if isinstance(said, ErrorResponse):
            self._failed = said
            self._microphone.closed = True
            self._ended.set()
            return
        self._microphone.heard(said.end_ms / 1000)
        self._captions.take(said, quiet=self._what.as_json)
        if said.session_end:
            self._captions.clear()
            if said.HasField("error") and not said.is_final:
                self._failed = said.error
            self._microphone.closed = True
            self._ended.set()

    def _print_json(self) -> None:
        finals = self._captions.finals
        each = [msgspec.Raw(wire.encode(said, wire.JSON)) for said in finals]
        text = " ".join(said.text.strip() for said in finals)
        self._terminal.line(msgspec.json.encode({"text": text, "transcriptions": each}).decode())
