"""A conversation: every final transcription is answered aloud, an interrupt stops everything, history holds what was heard.

Each answer has a generation number, higher than all before; an interrupt raises it. Sound is sent only while its
generation is the newest, and carries it, so that a player can drop what was on its way (the idea of cancel scopes in
speech pipelines).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from handler_base import telemetry
from handler_base.audio import duration
from handler_base.conversation.audio_chunks import ChunkWriter
from handler_base.errors import HandlerError, unquoted
from handler_base.messaging import wire
from handler_messages import ErrorResponse, STTInterrupt, TTSAudioChunk, TTSStatus, VoiceResponse
from voice_assistant.playback import LETTERS_PER_SECOND, Playback
from voice_assistant.timing import Timer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from handler_base.conversation.grounding import Grounding
    from handler_base.conversation.pieces import Piece
    from handler_base.conversation.synthesis import Sound
    from voice_assistant.config import ConversationSettings
    from voice_assistant.responder import Question, Responder, Sink

log = logging.getLogger(__name__)

SAVE_TIMEOUT = 3.0
"""Longest wait for the history to be written, in seconds."""


class Heard(NamedTuple):
    """A final transcription.

    Attributes:
        request_id: What its answer is called; the same whenever it is read.
        question: What was said, by whom.
        speech_end: When the last word was said, in the loop's time.
        headers: What came with the transcription: the trace it belongs to.
    """

    request_id: str
    question: Question
    speech_end: float
    headers: Mapping[str, str] | None = None


class Line(Protocol):
    """The way to the other side of a conversation."""

    async def audio(self, chunk: TTSAudioChunk) -> None:
        """Send a piece of speech."""
        ...

    async def status(self, status: TTSStatus) -> None:
        """Say how the speech goes."""
        ...

    async def state(self, state: str) -> None:
        """Tell the listening side that we are `responding`, or `listening` again."""
        ...

    async def record(self, response: VoiceResponse | ErrorResponse) -> None:
        """Keep the result of an answer: it is not given a second time."""
        ...


class _Turn:
    """One answer, from its question until it has been played or cut short."""

    def __init__(self, heard: Heard, generation: int) -> None:
        self.heard = heard
        self.generation = generation
        self.response = VoiceResponse(
            request_id=heard.request_id,
            user_id=heard.question.user_id,
            session_id=heard.question.session_id,
            transcription=heard.question.text,
            language=heard.question.language,
            generation=generation,
        )
        self.timer = Timer(self.response, heard.speech_end)
        self.playback = Playback()
        self.work: asyncio.Task[None] | None = None
        self.interrupted_at: float | None = None
        self.interrupted = asyncio.Event()
        self.over = asyncio.Event()
        self.recorded = False
        self.error: Exception | None = None
        self.form = "pcm"
        self.rate = 0


class Conversation:
    """One session.

    Args:
        session_id: Its id.
        line: The way to the other side.
        responder: What answers.
        grounding: Where the history is.
        settings: How it is followed.
        limit: Most audio in one chunk, in bytes.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        session_id: str,
        line: Line,
        responder: Responder,
        grounding: Grounding,
        settings: ConversationSettings,
        *,
        limit: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._session_id = session_id
        self._line = line
        self._responder = responder
        self._grounding = grounding
        self._settings = settings
        self._limit = limit
        self._wall_clock = wall_clock
        self._generation = 0
        self._turn: _Turn | None = None
        self._leaving = asyncio.Event()

    async def run(self, questions: AsyncIterator[Heard]) -> None:
        """Answer what is asked until there is nothing more, then finish the last answer."""
        async with asyncio.TaskGroup() as turns:
            async for heard in questions:
                self._begin(heard, turns)
            self._leaving.set()

    def interrupt(self, interrupt: STTInterrupt) -> None:
        """Stop everything that is under way for the session, at once."""
        log.debug("interrupted", extra={"session_id": self._session_id, "type": interrupt.type})
        self._advance()
        if self._turn is not None:
            self._halt(self._turn)

    def leave(self) -> None:
        """Wait no longer for the last answer to be played, only for it to be sent."""
        self._leaving.set()

    # -- turns -------------------------------------------------------------------------------------------------

    def _begin(self, heard: Heard, turns: asyncio.TaskGroup) -> None:
        """Answer a question; whoever goes on before hearing an answer has one question, in two parts."""
        before = self._turn
        if before is not None and not before.response.timings.get("first_audio"):
            text = f"{before.heard.question.text} {heard.question.text}"
            history_id = before.heard.question.request_id
            heard = heard._replace(question=heard.question._replace(text=text, request_id=history_id))
        self._advance()
        if before is not None:
            self._halt(before)
        self._turn = _Turn(heard, self._generation)
        turns.create_task(self._run(self._turn, before))

    def _advance(self) -> None:
        self._generation = max(self._generation + 1, int(self._wall_clock() * 1000))

    def _halt(self, turn: _Turn) -> None:
        if turn.over.is_set() or turn.interrupted_at is not None:
            return
        turn.interrupted_at = asyncio.get_running_loop().time()
        turn.interrupted.set()
        if turn.work is not None:
            turn.work.cancel()

    async def _run(self, turn: _Turn, before: _Turn | None) -> None:
        """Take one turn from its question to the end of its playing."""
        try:
            if before is not None:
                await before.over.wait()
            if turn.interrupted_at is None:
                await self._work(turn)
            if turn.interrupted_at is None:
                await self._completed(turn)
                await self._play(turn)
            if turn.interrupted_at is not None:
                await self._cut_short(turn, turn.interrupted_at)
            await self._line.state("listening")
        except HandlerError as error:
            log.warning("an answer could not be sent: %s", unquoted(error), extra=self._about(turn))
        finally:
            turn.over.set()

    async def _work(self, turn: _Turn) -> None:
        """Run the work of a turn in a task of its own, which an interrupt cancels and nothing else."""
        with telemetry.span(
            "voice answer",
            attributes={"handler.request_id": turn.heard.request_id},
            parent=telemetry.extract(turn.heard.headers),
        ) as span:
            async with asyncio.TaskGroup() as tasks:
                turn.work = tasks.create_task(self._answer(turn))
                await asyncio.wait((turn.work,))
                turn.work = None
            span.set("handler.interrupted", turn.interrupted_at is not None)
            if turn.error is not None:
                span.error(turn.error)

    async def _answer(self, turn: _Turn) -> None:
        await self._line.state("responding")
        await self._status(turn, "started")
        turn.timer.mark("speech_end")
        turn.timer.mark("transcript")
        writer = self._writer(turn)

        async def send(sound: Sound, piece: Piece) -> None:
            await self._send(turn, writer, sound, piece)

        try:
            await self._responder.respond(turn.heard.question, turn.response, turn.timer, send)
        except HandlerError as error:
            log.warning("no answer: %s", unquoted(error), extra=self._about(turn))
            await self._apologise(turn, error, send)
        except Exception as error:
            log.exception("unexpected %s", type(error).__name__, extra=self._about(turn))
            await self._apologise(turn, error, send)
        if writer.count and self._current(turn):
            await self._line.audio(writer.last(form=turn.form, sample_rate=turn.rate))

    async def _apologise(self, turn: _Turn, error: Exception, send: Sink) -> None:
        """Say that there is no answer, once, in place of one that was not begun."""
        turn.error = error
        if not self._settings.sorry or turn.response.timings.get("first_audio") or not self._current(turn):
            return
        try:
            await self._responder.say(self._settings.sorry, turn.heard.question, turn.timer, send)
        except HandlerError as again:
            log.warning("nothing can be said: %s", unquoted(again), extra=self._about(turn))

    def _current(self, turn: _Turn) -> bool:
        return turn.generation == self._generation and turn.interrupted_at is None

    async def _send(self, turn: _Turn, writer: ChunkWriter, sound: Sound, piece: Piece) -> None:
        """Send a part of the speech, unless it is stale; hold back what is too far ahead of its playing."""
        loop, playback = asyncio.get_running_loop(), turn.playback
        turn.form, turn.rate = sound.format, sound.sample_rate or turn.rate
        if sound.audio:
            if sound.format == "pcm":
                seconds = duration(sound.audio, sound.sample_rate)
            else:
                seconds = len(piece.text) / LETTERS_PER_SECOND if sound.first else 0.0
            text = piece.text if sound.first else ""
            for chunk in writer.write(
                sound.audio, form=sound.format, sample_rate=sound.sample_rate, text=text
            ):
                if not self._current(turn):
                    return
                await self._line.audio(chunk)
            playback.sent(sound.number, piece.source, seconds, loop.time())
        if sound.last:
            playback.whole()
        await asyncio.sleep(max(0.0, playback.ahead(loop.time()) - self._settings.ahead))

    # -- what becomes of an answer -----------------------------------------------------------------------------

    async def _completed(self, turn: _Turn) -> None:
        """Keep an answer that was sent to its end."""
        turn.timer.mark("total")
        if turn.error is not None:
            failure = wire.error_response(turn.error, turn.heard.request_id)
            await self._line.record(failure)
            await self._status(turn, "error", failure)
            return
        await self._remember(turn, turn.response.response, turn.response.finish_reason == "interrupted")
        turn.recorded = True
        await self._line.record(turn.response)
        await self._status(turn, "completed")

    async def _play(self, turn: _Turn) -> None:
        """Wait until the other side has heard it all, is interrupted, or nobody is there any more."""
        left = turn.playback.ahead(asyncio.get_running_loop().time())
        if left <= 0:
            return
        interrupted = asyncio.ensure_future(turn.interrupted.wait())
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait((interrupted, leaving), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            interrupted.cancel()
            leaving.cancel()

    async def _cut_short(self, turn: _Turn, at: float) -> None:
        """Keep what was heard of an answer, not what was planned."""
        heard = turn.playback.heard(at)
        await self._status(turn, "interrupted")
        await self._remember(turn, heard, interrupted=True)
        if turn.recorded:
            return
        response = VoiceResponse()
        response.CopyFrom(turn.response)
        response.response, response.finish_reason = heard, "interrupted"
        response.timings["total"] = at - turn.heard.speech_end
        await self._line.record(response)

    async def _remember(self, turn: _Turn, answer: str, interrupted: bool) -> None:
        question = turn.heard.question
        problem = await self._grounding.remember(
            question.user_id,
            question.session_id,
            request_id=question.request_id,
            question=question.text,
            answer=answer,
            interrupted=interrupted,
            seconds=SAVE_TIMEOUT,
        )
        if problem:
            turn.response.warnings.append(problem)
            log.warning("%s", problem, extra=self._about(turn))

    # -- messages ----------------------------------------------------------------------------------------------

    def _writer(self, turn: _Turn) -> ChunkWriter:
        template = TTSAudioChunk(
            session_id=self._session_id,
            request_id=turn.heard.request_id,
            attempt=1,
            generation=turn.generation,
        )
        return ChunkWriter(template, self._limit)

    async def _status(self, turn: _Turn, status: str, error: ErrorResponse | None = None) -> None:
        message = TTSStatus(
            session_id=self._session_id,
            request_id=turn.heard.request_id,
            status=status,
            timestamp=self._wall_clock(),
            generation=self._generation if status == "interrupted" else turn.generation,
        )
        if error is not None:
            message.message = error.message
            message.error.CopyFrom(error)
        await self._line.status(message)

    def _about(self, turn: _Turn) -> dict[str, str]:
        return {"session_id": self._session_id, "request_id": turn.heard.request_id}
