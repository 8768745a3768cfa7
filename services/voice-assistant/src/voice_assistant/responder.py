"""From a question to the sound of its answer: passages, prompt, tokens, pieces, speech; all of it as it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from handler_base import telemetry
from handler_base.conversation.prompt import build_prompt
from handler_base.conversation.synthesis import Manner, Synthesis
from handler_base.errors import Overloaded, UpstreamError, cause_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from handler_base.clients.llm import LLM, ChatMessage, Completion
    from handler_base.clients.text_to_speech import TextToSpeech
    from handler_base.conversation.grounding import Grounding
    from handler_base.conversation.pieces import Piece
    from handler_base.conversation.speech import SpeechCutter
    from handler_base.conversation.synthesis import Sound
    from handler_messages import VoiceResponse
    from voice_assistant.config import VoiceSettings
    from voice_assistant.timing import Timer

    Sink = Callable[[Sound, Piece], Awaitable[None]]
    """Takes the sound of the answer with the piece of text that it belongs to."""


class Question(NamedTuple):
    """What somebody asked.

    Attributes:
        text: In words.
        user_id: Who.
        session_id: In which conversation.
        rag: Whether to look into the knowledge base; None for the default.
        collection: Which one; "" for the default.
        premium: Whether the person has premium.
        language: BCP 47 tag, or "".
        speaker: The voice to answer with; "" for the default.
        request_id: What the turn is called in the conversation.
    """

    text: str
    user_id: str = ""
    session_id: str = ""
    rag: bool | None = None
    collection: str = ""
    premium: bool = False
    language: str = ""
    speaker: str = ""
    request_id: str = ""


class Responder:
    """Answers questions aloud.

    Args:
        settings: How.
        llm: What answers.
        grounding: What the answer stands on.
        tts: What speaks.
    """

    def __init__(self, settings: VoiceSettings, *, llm: LLM, grounding: Grounding, tts: TextToSpeech) -> None:
        self._settings = settings
        self._llm = llm
        self._grounding = grounding
        self._synthesis = Synthesis(tts, settings.synthesis)

    async def respond(self, question: Question, response: VoiceResponse, timer: Timer, sink: Sink) -> None:
        """Answer into `response`, piece by piece; the sound of it goes to `sink` as it is made.

        Speech that cannot be had costs the sound, and a warning says so. What was answered so far stands in
        `response` whatever happens.

        Raises:
            UpstreamError: If the model does not answer.
        """
        messages = await self._prompt(question, response)
        pieces = _Pieces(timer)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(question, messages, response, timer, pieces))
                tasks.create_task(self._speak(question, response, pieces, timer, sink))
        except BaseExceptionGroup as group:
            raise cause_of(group) from group

    async def say(self, text: str, question: Question, timer: Timer, sink: Sink) -> None:
        """Say `text` in the voice of an answer.

        Raises:
            HandlerError: If it cannot be spoken.
        """
        pieces = _Pieces(timer)
        cutter = self._cutter(question)
        pieces.add([*cutter.feed(text), *cutter.close()])
        pieces.end()
        await self._synthesise(question, pieces, timer, sink)

    def _cutter(self, question: Question) -> SpeechCutter:
        # Imported with the first answer: start-up is a budget.
        from handler_base.conversation.speech import SpeechCutter

        return SpeechCutter(self._settings.speech, language=question.language)

    async def _prompt(self, question: Question, response: VoiceResponse) -> list[ChatMessage]:
        settings = self._settings
        grounds = await self._grounding.find(
            question.text,
            user_id=question.user_id,
            session_id=question.session_id,
            request_id=question.request_id,
            rag=settings.retrieval.enable_rag if question.rag is None else question.rag,
            collection=question.collection,
            top_k=settings.talk.premium_top_k if question.premium else 0,
        )
        prompt = build_prompt(
            settings.prompt,
            question.text,
            passages=grounds.passages,
            turns=grounds.turns,
            language=question.language,
        )
        grounds.cite(response, prompt.used)
        return prompt.messages

    async def _write(
        self,
        question: Question,
        messages: list[ChatMessage],
        response: VoiceResponse,
        timer: Timer,
        pieces: _Pieces,
    ) -> None:
        """Let the model answer, and cut its answer into pieces that can be spoken."""
        options = self._settings.talk
        cutter = self._cutter(question)
        started = asyncio.get_running_loop().time()
        completion = self._llm.stream(
            messages,
            model=options.premium_model if question.premium else "",
            max_tokens=(options.premium_max_tokens if question.premium else 0) or None,
        )
        try:
            async with completion:
                async for token in completion:
                    timer.mark("first_token")
                    pieces.add(cutter.feed(token))
            pieces.add(cutter.close())
        finally:
            pieces.end()
            _take(completion, response)
        response.timings["llm"] = asyncio.get_running_loop().time() - started
        if telemetry.enabled():
            telemetry.record("handler.llm.duration", response.timings["llm"])
            telemetry.count("handler.tokens", completion.prompt_tokens, kind="prompt")
            telemetry.count("handler.tokens", completion.completion_tokens, kind="completion")

    async def _speak(
        self, question: Question, response: VoiceResponse, pieces: _Pieces, timer: Timer, sink: Sink
    ) -> None:
        try:
            await self._synthesise(question, pieces, timer, sink)
        except (UpstreamError, Overloaded) as error:
            response.warnings.append(f"the answer is not spoken to its end: {error}")

    async def _synthesise(self, question: Question, pieces: _Pieces, timer: Timer, sink: Sink) -> None:
        async def give(sound: Sound) -> None:
            if sound.audio:
                timer.mark("first_audio")
            await sink(sound, pieces.all[sound.number])

        await self._synthesis.run(pieces, Manner(question.speaker, question.language), give)


class _Pieces:
    """The pieces of an answer as they come; an async iterable of what is spoken."""

    def __init__(self, timer: Timer) -> None:
        self.all: list[Piece] = []
        self._timer = timer
        self._waiting: asyncio.Queue[Piece | None] = asyncio.Queue()

    def add(self, pieces: list[Piece]) -> None:
        if pieces:
            self._timer.mark("first_clause")
        for piece in pieces:
            self.all.append(piece)
            self._waiting.put_nowait(piece)

    def end(self) -> None:
        self._waiting.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await self._waiting.get()) is not None:
            yield piece.text


def _take(completion: Completion, response: VoiceResponse) -> None:
    """Put into a response what the model has answered so far."""
    response.response = completion.text
    response.model = completion.model
    response.finish_reason = completion.finish_reason
    if completion.warning:
        response.warnings.append(completion.warning)
