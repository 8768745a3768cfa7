"""What is said in a session, written down and published in order.

The endpoint is asked while it is not yet certain that somebody has finished, so that the text is there when it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING, NamedTuple

from handler_base import telemetry
from handler_base.audio import wav
from handler_base.errors import HandlerError, unquoted
from handler_base.messaging import wire
from handler_messages import ErrorResponse, STTCheckpoint, STTTranscription
from handler_messages.subjects import VOICE_TRANSCRIPTION
from stt_module.takeover import start_id

if TYPE_CHECKING:
    from handler_base.clients.speech_to_text import SpeechToText
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.context import Context
    from stt_module.config import WritingSettings
    from stt_module.events import Utterance
    from stt_module.takeover import Published

log = logging.getLogger(__name__)

STORE_TRIES = 12
"""How often a transcription is offered to its stream before the session is handed back."""

LAST_WORD = 1.0
"""How long a transcription that is on its way gets when the session is told to stop, in seconds."""


class Written(NamedTuple):
    """What the endpoint made of an utterance."""

    text: str
    language: str
    error: ErrorResponse | None = None


class Writer:
    """Writes down one session.

    Args:
        context: The session.
        connection: Where transcriptions are stored.
        stt: Who understands speech.
        settings: How it is asked.
        published: What is published of the session already.
        tasks: Where the work runs.
    """

    def __init__(
        self,
        context: Context,
        connection: Connection,
        *,
        stt: SpeechToText,
        settings: WritingSettings,
        published: Published,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._context = context
        self._connection = connection
        self._stt = stt
        self._settings = settings
        self._tasks = tasks
        self._subject = VOICE_TRANSCRIPTION.build(session_id=context.session_id)
        self._start = start_id(context)
        self._sequence = published.sequence
        self._slots = asyncio.Semaphore(settings.at_once)
        self._publishing = asyncio.Lock()
        self._ahead: dict[str, tuple[Utterance, asyncio.Task[Written]]] = {}
        self._partial: dict[str, asyncio.Task[None]] = {}
        self._finished: asyncio.Queue[tuple[Utterance, asyncio.Task[Written]]] = asyncio.Queue()
        self._waiting = 0
        self._changed = asyncio.Event()
        self._publisher = tasks.create_task(self._publish_in_order())

    # -- what is heard -----------------------------------------------------------------------------------------

    def spoken(self, utterance: Utterance) -> None:
        """Write down what is said so far, unless the endpoint has not finished with what was said before."""
        before = self._partial.get(utterance.speaker)
        if before is None or before.done():
            self._partial[utterance.speaker] = self._tasks.create_task(self._publish_partial(utterance))

    def paused(self, utterance: Utterance) -> None:
        """Ask the endpoint already."""
        self.resumed(utterance.speaker)
        self._stop_partial(utterance.speaker)
        self._ahead[utterance.speaker] = utterance, self._tasks.create_task(self._write(utterance))

    def resumed(self, speaker: str) -> None:
        """Forget what was asked for too early."""
        _, task = self._ahead.pop(speaker, (None, None))
        if task is not None:
            task.cancel()

    def finished(self, utterance: Utterance) -> None:
        """Publish an utterance when those before it are."""
        self._stop_partial(utterance.speaker)
        ahead, task = self._ahead.pop(utterance.speaker, (None, None))
        if task is not None and (ahead is None or ahead.key != utterance.key):
            task.cancel()
            task = None
        if task is None:
            task = self._tasks.create_task(self._write(utterance))
        telemetry.count("stt.utterances", ahead=ahead is not None)
        self._waiting += 1
        self._finished.put_nowait((utterance, task))

    async def room(self) -> None:
        """Wait until no more utterances wait than may."""
        await self._until(self._settings.waiting - 1)

    async def close(self, error: ErrorResponse | None = None) -> None:
        """Publish what waits, then that nothing follows.

        Args:
            error: What was wrong with the session.
        """
        await self._until(0)
        for speaker in list(self._ahead):
            self.resumed(speaker)
        for speaker in list(self._partial):
            self._stop_partial(speaker)
        self._publisher.cancel()
        last = STTTranscription(session_end=True)
        if error is not None:
            last.error.CopyFrom(error)
        await self._store(last, "end")

    async def _until(self, waiting: int) -> None:
        while self._waiting > waiting:
            self._changed.clear()
            await self._changed.wait()

    def _stop_partial(self, speaker: str) -> None:
        task = self._partial.pop(speaker, None)
        if task is not None:
            task.cancel()

    # -- the endpoint ------------------------------------------------------------------------------------------

    async def _write(self, utterance: Utterance) -> Written:
        """Return what the endpoint makes of an utterance, or why it makes nothing of it."""
        settings = self._settings
        tries = 0
        while True:
            tries += 1
            try:
                async with self._slots:
                    return await self._transcribe(utterance)
            except HandlerError as error:
                log.warning("try %d to transcribe failed: %s", tries, unquoted(error), extra=self._about)
                if not error.retryable or tries >= settings.tries:
                    telemetry.count("stt.failures", error=error.type)
                    return Written(
                        "", utterance.language, wire.error_response(error, self._context.request_id)
                    )
                asked = getattr(error, "retry_after", None) or 0.0
                pause = min(settings.retry_delay_max, settings.retry_delay * 2 ** (tries - 1))
            await asyncio.sleep(max(min(asked, settings.retry_delay_max), pause * random.uniform(0.75, 1.25)))

    async def _transcribe(self, utterance: Utterance) -> Written:
        found = await self._stt.transcribe(wav(utterance.pcm, utterance.rate), language=utterance.language)
        return Written(found.text, found.language or utterance.language)

    # -- publishing --------------------------------------------------------------------------------------------

    async def _publish_in_order(self) -> None:
        while True:
            utterance, task = await self._finished.get()
            written = await task
            if written.text or written.error is not None:
                said = self._transcription(utterance, written)
                said.is_final = True
                assert utterance.checkpoint is not None
                at = utterance.checkpoint
                said.checkpoint.CopyFrom(
                    STTCheckpoint(
                        sequence=at.sequence, sample=at.sample, position=at.position, sample_rate=at.rate
                    )
                )
                said.speech_end = utterance.heard
                await self._store(said, f"{utterance.speaker.encode().hex()}.{utterance.number}")
                telemetry.record("stt.latency", max(0.0, time.time() - utterance.heard))
            self._waiting -= 1
            self._changed.set()

    async def _publish_partial(self, utterance: Utterance) -> None:
        try:
            written = await self._transcribe(utterance)
        except HandlerError as error:
            log.info("no transcription while somebody speaks: %s", unquoted(error), extra=self._about)
            return
        # What is stored right now must not be overtaken.
        if not written.text or self._publishing.locked():
            return
        said = self._transcription(utterance, written)
        self._number(said)
        try:
            await self._context.publish(self._subject, said)
        except HandlerError as error:
            log.info("a partial transcription is lost: %s", unquoted(error), extra=self._about)

    async def _store(self, said: STTTranscription, what: str) -> None:
        """Store a transcription, and see it through when the session is told to stop meanwhile.

        Raises:
            MessagingError: If its stream does not take it.
        """
        async with self._publishing:
            self._number(said)
            kind = self._context.kind
            headers = {} if kind == wire.PROTOBUF else {wire.HEADER: kind}
            if telemetry.enabled():
                telemetry.inject(headers)
            storing = asyncio.ensure_future(
                self._connection.store(
                    self._subject,
                    wire.encode(said, kind),
                    msg_id=f"{self._start}.{what}",
                    headers=headers,
                    tries=STORE_TRIES,
                )
            )
            try:
                await asyncio.shield(storing)
            except asyncio.CancelledError:
                # Whoever takes over reads what is stored: let it be.
                with contextlib.suppress(HandlerError, TimeoutError):
                    async with asyncio.timeout(LAST_WORD):
                        await storing
                raise

    def _transcription(self, utterance: Utterance, written: Written) -> STTTranscription:
        return STTTranscription(
            text=written.text,
            language=written.language,
            speaker_id=utterance.speaker,
            start_ms=utterance.start_ms,
            end_ms=utterance.end_ms,
            utterance=utterance.number,
            error=written.error,
        )

    def _number(self, said: STTTranscription) -> None:
        said.session_id = self._context.session_id
        said.sequence = self._sequence
        said.timestamp = time.time()
        self._sequence += 1

    @property
    def _about(self) -> dict[str, str]:
        return {"request_id": self._context.request_id}
