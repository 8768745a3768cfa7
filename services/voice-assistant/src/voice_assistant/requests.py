"""One spoken question and its spoken answer: speech in, words, passages, an answer, speech out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from handler_base.audio import wav
from handler_base.conversation.audio_chunks import ChunkWriter, room
from handler_base.errors import InvalidRequest
from handler_base.messaging import wire
from handler_messages import TTSAudioChunk, VoiceResponse, subjects
from voice_assistant.hearing import hear
from voice_assistant.responder import Question
from voice_assistant.timing import Timer

if TYPE_CHECKING:
    from handler_base.clients.speech_to_text import SpeechToText
    from handler_base.conversation.grounding import Grounding
    from handler_base.conversation.pieces import Piece
    from handler_base.conversation.synthesis import Sound
    from handler_base.messaging.context import Context
    from handler_messages import VoiceRequest
    from voice_assistant.config import VoiceSettings
    from voice_assistant.responder import Responder

SAVE_TIMEOUT = 3.0
"""Longest wait for the history to be written, in seconds."""

ENVELOPE_BYTES = 8192
"""Room kept in a response for headers and for what is not measured."""


class Requests:
    """Serves `ai.voice.user.{user_id}.request` and `voice.request`."""

    def __init__(
        self, settings: VoiceSettings, *, stt: SpeechToText, responder: Responder, grounding: Grounding
    ) -> None:
        self._settings = settings
        self._stt = stt
        self._responder = responder
        self._grounding = grounding

    async def answer(self, context: Context, request: VoiceRequest) -> VoiceResponse:
        """Answer one spoken question.

        Raises:
            InvalidRequest, TooLarge: If there is nothing to hear, no speech in it, or too much of it.
            UpstreamError: If the speech cannot be transcribed or the model does not answer; everything else
                degrades with a warning.
        """
        recording = hear(request, self._settings.talk)
        response = VoiceResponse(
            request_id=context.request_id, user_id=request.user_id, session_id=request.session_id
        )
        response.warnings.extend(recording.warnings)
        # Speech ended when the request was sent; what it waited in its stream is part of the person's wait.
        timer = Timer(response, context.received - context.queue_wait)
        timer.mark("speech_end")
        async with _Voice(context, response, stream=request.stream) as voice:
            heard = await self._stt.transcribe(
                recording.audio, format=recording.format, language=request.language
            )
            timer.mark("transcript")
            if not heard.text:
                raise InvalidRequest("no speech was recognised in the audio")
            response.transcription = heard.text
            response.language = heard.language or request.language
            question = Question(
                heard.text,
                request.user_id,
                request.session_id,
                request.enable_rag if request.HasField("enable_rag") else None,
                request.collection,
                request.premium,
                request.language,
                request.speaker,
                context.request_id,
            )
            try:
                await self._responder.respond(question, response, timer, voice.take)
            except asyncio.CancelledError:
                await self._remember_spoken(context, question, voice)
                raise
            await self._remember(question, response)
            await voice.attach(response)
        timer.mark("total")
        return response

    async def _remember(self, question: Question, response: VoiceResponse) -> None:
        problem = await self._grounding.remember(
            question.user_id,
            question.session_id,
            request_id=response.request_id,
            question=question.text,
            answer=response.response,
            interrupted=response.finish_reason == "interrupted",
            seconds=SAVE_TIMEOUT,
        )
        if problem:
            response.warnings.append(problem)

    async def _remember_spoken(self, context: Context, question: Question, voice: _Voice) -> None:
        """Keep what was sent of a cancelled answer; a request that is handed back starts anew."""
        reason = context.stop_reason
        if reason is None or reason.retryable or not voice.spoken:
            return
        await self._remember(
            question,
            VoiceResponse(request_id=context.request_id, response=voice.spoken, finish_reason="interrupted"),
        )


class _Voice:
    """The sound of one answer: sent in chunks as it is made when that is wanted, and kept as a whole.

    However the work ends, a last chunk follows the first: whoever plays them can stop. None does when the request is
    delivered again: the next attempt begins at chunk 0.
    """

    def __init__(self, context: Context, response: VoiceResponse, *, stream: bool) -> None:
        self._context = context
        self._subject = subjects.VOICE_RESPONSE_STREAM.build(request_id=context.request_id)
        template = TTSAudioChunk(
            session_id=response.session_id, request_id=context.request_id, attempt=context.attempt
        )
        self._limit = room(context.max_payload, as_text=context.kind == wire.JSON)
        self._writer = ChunkWriter(template, self._limit)
        self._stream = stream
        self._audio: list[bytes] = []
        self._format = "pcm"
        self._rate = 0
        self._spoken: list[str] = []

    @property
    def spoken(self) -> str:
        """What has been sent so far, in words; nothing when the sound is not sent as it is made."""
        return "".join(self._spoken) if self._stream else ""

    async def take(self, sound: Sound, piece: Piece) -> None:
        """Take a part of the speech."""
        self._format = sound.format
        self._rate = sound.sample_rate or self._rate
        if not sound.audio:
            return
        self._audio.append(sound.audio)
        if sound.first:
            self._spoken.append(piece.source)
        if self._stream:
            await self._send(sound.audio, piece.text if sound.first else "")

    async def attach(self, response: VoiceResponse) -> None:
        """Put the whole sound into the response; what does not fit into one message is sent in chunks."""
        if not self._audio:
            return
        audio = b"".join(self._audio)
        response.sample_rate = self._rate
        response.audio_format = "wav" if self._format == "pcm" else self._format
        whole = wav(audio, self._rate) if self._format == "pcm" else audio
        size = len(whole) * (4 / 3 if self._context.kind == wire.JSON else 1)
        if size <= self._context.max_payload - ENVELOPE_BYTES - response.ByteSize():
            response.audio = whole
            return
        response.warnings.append(
            f"the speech of {len(whole)} bytes does not fit into one message; it is in chunks on {self._subject}"
        )
        if not self._stream:
            self._stream = True
            await self._send(audio, "")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._stream or (error is not None and (not self._writer.count or self._comes_again(error))):
            return
        await self._context.publish(
            self._subject, self._writer.last(form=self._format, sample_rate=self._rate)
        )

    def _comes_again(self, error: BaseException) -> bool:
        if isinstance(error, asyncio.CancelledError):
            reason = self._context.stop_reason
            return reason is None or (self._context.durable and reason.retryable)
        return self._context.will_retry(error)

    async def _send(self, audio: bytes, text: str) -> None:
        for chunk in self._writer.write(audio, form=self._format, sample_rate=self._rate, text=text):
            await self._context.publish(self._subject, chunk)
