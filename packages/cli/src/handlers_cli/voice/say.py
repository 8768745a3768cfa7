"""`handlers say`: a text out, its speech to a file or to the loudspeaker as it is made."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handler_base.errors import HandlerError
from handler_base.messaging import wire
from handler_base.messaging.connection import decode_answer
from handler_base.messaging.context import MESSAGE_TYPE
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    TTSAudioChunk,
    TTSFullResponse,
    TTSRequest,
    TTSStatus,
    subjects,
)
from handlers_cli.exchange import Exchange, end, over_nats
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Terminal, printable
from handlers_cli.voice.incoming import Incoming
from handlers_cli.voice.output import output_to, wanted_format
from handlers_cli.voice.voices import SERVICE, list_voices

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage
    from handlers_cli.voice.output import Output

_LAST_CHUNK_SECONDS = 1.0
"""Longest wait for the last chunk once the status says that all is done; they travel on two subjects."""

_ABOUT_VOICES = {"not_found", "invalid_request"}


@dataclass(frozen=True, slots=True)
class Saying:
    """What to say, and how.

    Attributes:
        text: The text.
        nats_url: The server, "" for the settings' one.
        output: A file, `-` for standard output, "" to play it.
        voice: Who speaks, "" for the service's default.
        session: The session it belongs to, "" for one of its own.
        language: BCP 47 tag.
        form: Audio format to ask for, "" for raw PCM or what the name of the file says.
        timeout: Seconds for all of the audio.
    """

    text: str
    nats_url: str = ""
    output: str = ""
    voice: str = ""
    session: str = ""
    language: str = ""
    form: str = ""
    timeout: float = 120.0


async def say(saying: Saying, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Have it said, return the exit code; `interrupt` cancels the work at the far end."""
    beside = terminal.aside() if saying.output == "-" else terminal
    try:
        output = output_to(saying.output, terminal)
    except HandlerError as error:
        terminal.error(error.message)
        return EXIT_USAGE

    async def run(connection: Connection) -> int:
        if saying.session:
            subjects.check_token(saying.session, "--session")
        async with output:
            return await _Saying(connection, saying, output, beside).run(interrupt)

    return await over_nats(saying.nats_url, "handlers-say", terminal, run)


class _Saying:
    """One text and the speech that comes back for it."""

    def __init__(self, connection: Connection, saying: Saying, output: Output, terminal: Terminal) -> None:
        self._connection = connection
        self._saying = saying
        self._output = output
        self._terminal = terminal
        self._incoming = Incoming(output)
        self._exchange = Exchange(connection, terminal, SERVICE, "text")
        self._request = TTSRequest(
            request_id=uuid.uuid4().hex,
            session_id=saying.session or uuid.uuid4().hex,
            text=saying.text,
            speaker=saying.voice,
            language=saying.language,
            stream=True,
            format=saying.form or wanted_format(saying.output),
        )
        self._outcome: asyncio.Future[ErrorResponse | None] = asyncio.get_running_loop().create_future()
        self._stopped = asyncio.Event()
        self._voice = saying.voice
        self._began = 0.0

    async def run(self, interrupt: asyncio.Event) -> int:
        session = self._request.session_id
        await self._connection.subscribe(subjects.TTS_AUDIO.build(session_id=session), self._audio)
        await self._connection.subscribe(subjects.TTS_STATUS.build(session_id=session), self._status)
        await self._connection.flush()
        self._began = time.monotonic()
        code = await self._exchange.until(self._speak(), interrupt, self._cancel)
        return EXIT_INTERRUPTED if code is None else code

    async def _speak(self) -> int:
        naming = asyncio.ensure_future(self._default_voice())
        try:
            subject = subjects.TTS_REQUEST.build(session_id=self._request.session_id)
            await self._exchange.store(subject, self._request, self._request.request_id)
            error = await self._exchange.within(self._outcome, self._saying.timeout)
        finally:
            await end(naming)
        if self._exchange.cancelling:
            return EXIT_INTERRUPTED
        if error is not None:
            await self._tell(error)
            return EXIT_FAILED
        if self._incoming.failure is not None:
            raise self._incoming.failure
        if not self._incoming.size:
            self._terminal.error("no audio came")
            return EXIT_FAILED
        total = time.monotonic() - self._began
        if self._incoming.lost:
            self._terminal.warning(f"{self._incoming.lost} pieces of the speech were lost on the way")
        where = await self._output.finish()
        self._summary(total, where)
        return 0

    async def _default_voice(self) -> None:
        """Find out who speaks when nobody was asked for."""
        if not self._voice:
            self._voice = (await list_voices(self._connection)).default_voice

    async def _tell(self, error: ErrorResponse) -> None:
        self._terminal.error(printable(error.message), error.type)
        if not self._saying.voice or error.type not in _ABOUT_VOICES:
            return
        try:
            known = [voice.name for voice in (await list_voices(self._connection)).voices]
        except HandlerError:
            return
        if known and self._saying.voice not in known and not all(name in error.message for name in known):
            self._terminal.note(f"known voices: {printable(', '.join(known))}")

    def _summary(self, total: float, where: str) -> None:
        parts = [
            printable(self._voice) or "default voice",
            self._incoming.describe(),
            f"first audio {self._incoming.first - self._began:.2f} s",
            f"total {total:.2f} s",
            where,
        ]
        self._terminal.line(self._terminal.dim(" · ".join(parts)))

    async def _cancel(self, working: asyncio.Future[int]) -> None:
        if self._outcome.done():  # all of it is here: there is nothing to stop but the sound
            return
        request_id = self._request.request_id
        subject = subjects.VOICE_CANCEL.build(request_id=request_id)
        await self._exchange.cancel(subject, CancelRequest(request_id=request_id), working, self._stopped)

    async def _audio(self, message: RawMessage) -> None:
        if wire.header(message.headers, MESSAGE_TYPE) == TTSFullResponse.DESCRIPTOR.name:
            full = wire.decode(TTSFullResponse, message.data, wire.content_type(message.headers))
            if full.request_id == self._request.request_id:
                self._incoming.whole(full.audio, full.format, full.sample_rate, full.duration_seconds)
        else:
            chunk = decode_answer(message, TTSAudioChunk)
            if chunk.request_id != self._request.request_id:
                return
            if isinstance(chunk, ErrorResponse):
                self._end(chunk)
                return
            if self._incoming.chunk(chunk):
                self._terminal.note(f"(started again, attempt {chunk.attempt})")
        if self._incoming.ended.is_set():
            self._end(None)

    async def _status(self, message: RawMessage) -> None:
        status = decode_answer(message, TTSStatus)
        if status.request_id != self._request.request_id:
            return
        if isinstance(status, ErrorResponse):
            self._end(status)
        elif status.status == "completed":
            asyncio.get_running_loop().call_later(_LAST_CHUNK_SECONDS, self._end, None)
        elif status.status in {"error", "cancelled", "interrupted"}:
            self._stopped.set()
            error = ErrorResponse(message=status.message or status.status, type=status.status)
            error.MergeFrom(status.error)
            self._end(error)

    def _end(self, error: ErrorResponse | None) -> None:
        if not self._outcome.done():
            self._outcome.set_result(error)
