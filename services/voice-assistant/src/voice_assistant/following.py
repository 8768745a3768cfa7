"""A session on the bus: its transcriptions as questions, and the way back for its answers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import TYPE_CHECKING

from handler_base.conversation.audio_chunks import room
from handler_base.errors import HandlerError, MessagingError, ShuttingDown, unquoted
from handler_base.messaging import wire
from handler_base.messaging.replay import Replay
from handler_base.messaging.worker import encode_answer
from handler_messages import ErrorResponse, STTStreamMessage, STTTranscription, subjects
from handler_messages.subjects import MAX_TOKEN_BYTES
from voice_assistant.conversation import Conversation, Heard
from voice_assistant.responder import Question

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from handler_base.conversation.grounding import Grounding
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.context import Context
    from handler_base.messaging.replay import Replayed
    from handler_messages import TTSAudioChunk, TTSStatus, VoiceResponse
    from voice_assistant.config import ConversationSettings
    from voice_assistant.responder import Responder

log = logging.getLogger(__name__)


async def follow(
    context: Context,
    start: STTStreamMessage,
    connection: Connection,
    *,
    responder: Responder,
    grounding: Grounding,
    settings: ConversationSettings,
) -> None:
    """Answer what is said in a session until it ends.

    Args:
        context: The work on the session.
        start: What began it.
        connection: The bus.
        responder: What answers.
        grounding: Where the history is.
        settings: How sessions are followed.

    Raises:
        ShuttingDown: When the service stops: another replica goes on.
    """
    conversation = Conversation(
        context.session_id,
        _BusLine(connection, context),
        responder,
        grounding,
        settings,
        limit=room(context.max_payload, as_text=context.kind == wire.JSON),
    )
    context.on_interrupt = conversation.interrupt
    row = subjects.VOICE_TRANSCRIPTION
    subject = row.build(session_id=context.session_id)
    async with Replay(connection, row.stream, subject, since=context.published) as replay:
        questions = _Questions(connection, replay, context, start, settings.idle)
        earlier = await questions.earlier(settings.fresh)

        def stop() -> None:
            questions.stop()
            conversation.leave()

        context.on_stop = stop
        await conversation.run(questions.all(earlier))
    if questions.stopped:
        raise ShuttingDown("the service stops; another replica goes on with the session")


class _Questions:
    """The final transcriptions of a session.

    Attributes:
        stopped: Whether there may be more that somebody else has to read.
    """

    def __init__(
        self, connection: Connection, replay: Replay, context: Context, start: STTStreamMessage, idle: float
    ) -> None:
        self._connection = connection
        self._replay = replay
        self._context = context
        self._start = start
        self._idle = idle
        self._ended = False
        self._reading: asyncio.Task[Replayed] | None = None
        self.stopped = False

    def stop(self) -> None:
        """Read no more."""
        self.stopped = True
        if self._reading is not None:
            self._reading.cancel()

    async def earlier(self, fresh: float) -> Heard | None:
        """Return what was asked before we came and has no answer, as one question; None without any.

        Args:
            fresh: Seconds after which nobody waits for an answer any more.
        """
        found: Heard | None = None
        for message in await self._replay.history():
            heard = self._heard(message)
            if heard is None or time.time() - message.published > fresh:
                continue
            if await self._answered(heard):
                found = None
            elif found is None:
                found = heard
            else:
                text = f"{found.question.text} {heard.question.text}"
                found = heard._replace(question=heard.question._replace(text=text))
        return found

    async def all(self, earlier: Heard | None) -> AsyncGenerator[Heard]:
        """Yield what is asked, from what was open on, until the session ends."""
        if earlier is not None:
            yield earlier
        while not (self._ended or self.stopped):
            message = await self._next()
            if message is None:
                return
            heard = self._heard(message)
            if heard is not None:
                yield heard

    async def _next(self) -> Replayed | None:
        """Return the next transcription; None when the session is idle or we stop."""
        self._reading = asyncio.create_task(self._replay.next(self._idle))
        try:
            return await self._reading
        except TimeoutError:
            log.info("the session is idle", extra={"session_id": self._context.session_id})
            return None
        except asyncio.CancelledError:
            if self.stopped:
                return None
            raise
        finally:
            self._reading.cancel()

    def _heard(self, message: Replayed) -> Heard | None:
        try:
            found = wire.decode(STTTranscription, message.raw.data, wire.content_type(message.raw.headers))
        except HandlerError as error:
            log.warning("unreadable transcription: %s", unquoted(error))
            return None
        self._ended = self._ended or found.session_end
        text = found.text.strip()
        if not found.is_final or not text:
            return None
        start = self._start
        now, wall = asyncio.get_running_loop().time(), time.time()
        request_id = self._request_id(message)
        question = Question(
            text,
            start.user_id,
            self._context.session_id,
            start.enable_rag if start.HasField("enable_rag") else None,
            start.collection,
            start.premium,
            found.language or start.language,
            start.speaker,
            request_id,
        )
        waited = max(0.0, wall - (found.speech_end or message.published))
        return Heard(request_id, question, now - waited, message.raw.headers)

    def _request_id(self, message: Replayed) -> str:
        """Return a name for the answer that is the same whoever reads the transcription, and no other's."""
        request_id = f"{self._context.session_id}-{int(message.published * 1000)}"
        if len(request_id.encode()) > MAX_TOKEN_BYTES:
            return hashlib.sha256(request_id.encode()).hexdigest()
        return request_id

    async def _answered(self, heard: Heard) -> bool:
        subject = subjects.VOICE_RESPONSE.build(request_id=heard.request_id)
        return await self._connection.last_stored(subjects.VOICE_RESPONSE.stream, subject) is not None


class _BusLine:
    """A conversation's way to NATS, in the format of the session's start."""

    def __init__(self, connection: Connection, context: Context) -> None:
        ids = {"session_id": context.session_id}
        self._connection = connection
        self._context = context
        self._audio = subjects.TTS_AUDIO.build(**ids)
        self._status = subjects.TTS_STATUS.build(**ids)
        self._stream = subjects.VOICE_STREAM.build(**ids)

    async def audio(self, chunk: TTSAudioChunk) -> None:
        """Send a piece of speech."""
        await self._context.publish(self._audio, chunk, named=True)

    async def status(self, status: TTSStatus) -> None:
        """Say how the speech goes."""
        await self._context.publish(self._status, status)

    async def state(self, state: str) -> None:
        """Tell the listening side that we are `responding`, or `listening` again."""
        message = STTStreamMessage(session_id=self._context.session_id, type="state", state=state)
        await self._connection.publish(self._stream, message)

    async def record(self, response: VoiceResponse | ErrorResponse) -> None:
        """Keep the result of an answer: it is not given a second time.

        Raises:
            MessagingError: If it could not be stored.
        """
        subject = subjects.VOICE_RESPONSE.build(request_id=response.request_id)
        payload, headers = encode_answer(response, self._context.kind)
        try:
            await self._connection.store(
                subject, payload, msg_id=f"voice-assistant.{response.request_id}", headers=headers
            )
        except MessagingError as error:
            log.error("a result was not kept: %s", error, extra={"request_id": response.request_id})
