"""A question in, an answer with sources out: the steps of the chat, top to bottom."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from chat_handler.stream import ChunkStream
from handler_base import telemetry
from handler_base.conversation.prompt import build_prompt
from handler_base.errors import InvalidRequest, Overloaded, TooLarge, UpstreamError
from handler_base.messaging import wire
from handler_messages import ChatRequest, ChatResponse

if TYPE_CHECKING:
    from chat_handler.config import ChatSettings
    from handler_base.clients.llm import LLM, ChatMessage, Completion
    from handler_base.clients.text_to_speech import TextToSpeech
    from handler_base.conversation.grounding import Grounding, Grounds
    from handler_base.messaging.context import Context

log = logging.getLogger(__name__)

SAVE_TIMEOUT = 3.0
"""Longest wait for the history to be written, in seconds."""

RESERVE = 0.5
"""What speech and history leave of a deadline, in seconds, so that the answer itself is not lost with them."""

ENVELOPE_BYTES = 8192
"""Room kept in a NATS message for headers and for what is not measured."""


class Answerer:
    """Serves `ai.chat.request` and `ai.chat.user.{user_id}.message`."""

    def __init__(self, settings: ChatSettings, *, llm: LLM, grounding: Grounding, tts: TextToSpeech) -> None:
        self._settings = settings
        self._llm = llm
        self._grounding = grounding
        self._tts = tts

    async def chat(self, context: Context, request: ChatRequest) -> ChatResponse:
        """Answer one question.

        Raises:
            InvalidRequest, TooLarge: If there is no text, or too much of it.
            UpstreamError: If the model cannot be had; everything else degrades with a warning.
        """
        question = self._question(request)
        response = ChatResponse(
            request_id=context.request_id, user_id=request.user_id, session_id=request.session_id
        )
        if context.queue_wait:
            response.timings["queue_wait"] = context.queue_wait
        streaming = _chosen(request, "enable_streaming", self._settings.answer.streaming)
        async with ChunkStream(context, enabled=streaming) as stream:
            grounds = await self._ground(context, request, question)
            prompt = build_prompt(
                self._settings.prompt,
                question,
                system_prompt=request.system_prompt,
                passages=grounds.passages,
                turns=grounds.turns,
                nickname=request.nickname,
                language=request.language,
            )
            grounds.cite(response, prompt.used)
            await self._complete(context, request, response, prompt.messages, stream if streaming else None)
        await self._remember(request, question, response, min(SAVE_TIMEOUT, _left(context)))
        if _chosen(request, "enable_tts", self._settings.answer.speech):
            await self._speak(context, request, response)
        response.timings["total"] = _since(context)
        return response

    def _question(self, request: ChatRequest) -> str:
        question = (request.query or request.message).strip()
        if not question:
            raise InvalidRequest("there is no text: set query or message")
        limit = self._settings.answer.max_question_chars
        if len(question) > limit:
            raise TooLarge(f"the question has {len(question)} characters; {limit} are accepted")
        limit = self._settings.answer.max_system_prompt_chars
        if len(request.system_prompt) > limit:
            raise TooLarge(
                f"the system prompt has {len(request.system_prompt)} characters; {limit} are accepted"
            )
        if request.top_k < 0:
            raise InvalidRequest(f"top_k is {request.top_k}; it is a number of passages, 0 for the default")
        return question

    async def _ground(self, context: Context, request: ChatRequest, question: str) -> Grounds:
        """Load the history and find passages, side by side."""
        return await self._grounding.find(
            question,
            user_id=request.user_id,
            session_id=request.session_id,
            request_id=context.request_id,
            rag=_chosen(request, "enable_rag", self._settings.retrieval.enable_rag),
            collection=request.collection,
            top_k=request.top_k or (self._settings.answer.premium_top_k if request.premium else 0),
            rerank=_chosen(request, "enable_reranker", self._settings.retrieval.enable_reranker),
        )

    async def _complete(
        self,
        context: Context,
        request: ChatRequest,
        response: ChatResponse,
        messages: list[ChatMessage],
        stream: ChunkStream | None,
    ) -> None:
        """Let the model answer; pieces go out as they come."""
        options = self._settings.answer
        model = options.premium_model if request.premium else ""
        max_tokens = (options.premium_max_tokens if request.premium else 0) or None
        loop = asyncio.get_running_loop()
        started = loop.time()
        if stream is None:
            completion = await self._llm.complete(messages, model=model, max_tokens=max_tokens)
        else:
            completion = self._llm.stream(messages, model=model, max_tokens=max_tokens)
            try:
                async with completion:
                    async for piece in completion:
                        if "first_token" not in response.timings:
                            response.timings["first_token"] = _since(context)
                            telemetry.record("handler.first_token", response.timings["first_token"])
                        await stream.send(piece)
            except asyncio.CancelledError:
                await self._remember_partial(context, request, completion)
                raise
        response.timings["llm"] = loop.time() - started
        response.response = completion.text
        response.model = completion.model
        response.finish_reason = completion.finish_reason
        response.prompt_tokens = completion.prompt_tokens
        response.completion_tokens = completion.completion_tokens
        if telemetry.enabled():
            telemetry.record("handler.llm.duration", response.timings["llm"])
            telemetry.count("handler.tokens", completion.prompt_tokens, kind="prompt")
            telemetry.count("handler.tokens", completion.completion_tokens, kind="completion")
        if completion.warning:
            response.warnings.append(completion.warning)

    async def _remember(
        self, request: ChatRequest, question: str, response: ChatResponse, seconds: float
    ) -> None:
        problem = await self._grounding.remember(
            request.user_id,
            request.session_id,
            request_id=response.request_id,
            question=question,
            answer=response.response,
            interrupted=response.finish_reason == "interrupted",
            seconds=seconds,
        )
        if problem:
            response.warnings.append(problem)

    async def _remember_partial(self, context: Context, request: ChatRequest, completion: Completion) -> None:
        """Keep what the person has seen of a cancelled answer; a handed-back request starts anew."""
        reason = context.stop_reason
        if reason is None or reason.retryable or not completion.text:
            return
        spoken = ChatResponse(
            request_id=context.request_id, response=completion.text, finish_reason="interrupted"
        )
        await self._remember(request, self._question(request), spoken, SAVE_TIMEOUT)
        for warning in spoken.warnings:
            log.warning("%s", warning, extra={"request_id": context.request_id})

    async def _speak(self, context: Context, request: ChatRequest, response: ChatResponse) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(_left(context)):
                speech = await self._tts.synthesize(
                    response.response, speaker=request.speaker, language=request.language
                )
        except (UpstreamError, Overloaded, TimeoutError) as error:
            response.warnings.append(f"the answer is not spoken: {str(error) or 'no time is left for it'}")
            return
        finally:
            response.timings["speech"] = loop.time() - started
        # base64 in JSON takes four bytes for three.
        size = len(speech.audio) * (4 / 3 if context.kind == wire.JSON else 1)
        room = context.max_payload - ENVELOPE_BYTES - response.ByteSize()
        if size > room:
            response.warnings.append(
                f"the answer is not spoken: {len(speech.audio)} bytes of audio do not fit into a NATS message"
            )
            return
        response.audio = speech.audio
        response.audio_format = speech.format


def _chosen(request: ChatRequest, field: str, default: bool) -> bool:
    return bool(getattr(request, field)) if request.HasField(field) else default  # pyright: ignore[reportArgumentType]


def _left(context: Context) -> float:
    return max(0.0, context.remaining - RESERVE)


def _since(context: Context) -> float:
    return asyncio.get_running_loop().time() - context.received
