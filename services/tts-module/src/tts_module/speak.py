"""A text in, speech out: the steps from top to bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from handler_base.audio import sniff
from handler_base.conversation.synthesis import Manner
from handler_base.errors import InvalidRequest, TooLarge
from tts_module.audio import AudioStream, WholeAudio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from handler_base.conversation.synthesis import Synthesis
    from handler_base.messaging.context import Context
    from handler_messages import ErrorResponse, TTSRequest
    from tts_module.audio import Output
    from tts_module.config import TTSModuleSettings
    from tts_module.status import Statuses
    from tts_module.turns import Turns
    from tts_module.voices import Voice, Voices

FORMATS = ("pcm", "wav", "mp3", "ogg", "opus", "aac", "flac")
"""What may be asked for; the endpoint need not have all of them."""

ONE_FILE = frozenset({"flac"})
"""Formats whose files cannot be played one after the other as one: such a text is spoken in one piece."""

NOTHING = "there is nothing in it that can be spoken"
"""What the status of a text says that has only signs."""


class Plan(NamedTuple):
    """What is to be said, and how.

    Attributes:
        pieces: The text in parts as they are spoken, which are captions too.
        manner: How the endpoint is asked.
        voice: The voice whose sample goes along, or None.
    """

    pieces: Sequence[str]
    manner: Manner
    voice: Voice | None


class Speaker:
    """Serves `ai.voice.tts.request.{session_id}`."""

    def __init__(
        self,
        settings: TTSModuleSettings,
        *,
        synthesis: Synthesis,
        voices: Voices,
        turns: Turns,
        statuses: Statuses,
    ) -> None:
        self._settings = settings
        self._synthesis = synthesis
        self._voices = voices
        self._turns = turns
        self._statuses = statuses

    async def speak(self, context: Context, request: TTSRequest) -> None:
        """Speak one text.

        Raises:
            InvalidRequest, TooLarge, NotFound: If it cannot be spoken as it is asked for.
            UpstreamError, Overloaded: If the endpoint fails.
            MessagingError: If audio or the last status could not be sent.
        """
        if await self._statuses.ended(context):
            return
        # Nothing is waited for before the turn: requests queue in the order in which they came.
        plan = self._plan(request)
        output = self._output(context, request, plan)
        async with self._turns.of(context.session_id):
            await self._statuses.started(context)
            manner = plan.manner
            if plan.voice is not None:
                manner = manner._replace(speaker_wav=await self._voices.sample(plan.voice))
            await self._synthesis.run(_each(plan.pieces), manner, output.take)
            context.conclude()  # whoever hears the last chunk hears of no cancel after it
            await output.finish()
            said = f"{output.seconds:.2f} s of speech" if output.seconds else ""
            await self._statuses.completed(context, said if plan.pieces else NOTHING)

    async def failed(self, context: Context, error: ErrorResponse) -> None:
        """Tell who listens that a request ended early."""
        await self._statuses.failed(context, error)

    def _plan(self, request: TTSRequest) -> Plan:
        limits = self._settings.speak
        if not request.text.strip():
            raise InvalidRequest("there is no text to speak")
        if len(request.text) > limits.max_text_chars:
            raise TooLarge(
                f"the text has {len(request.text)} characters; {limits.max_text_chars} are accepted"
            )
        if len(request.speaker_wav) > limits.max_sample_bytes:
            raise TooLarge(
                f"speaker_wav has {len(request.speaker_wav)} bytes; {limits.max_sample_bytes} are accepted"
            )
        if request.speaker_wav and not sniff(request.speaker_wav):
            raise InvalidRequest("speaker_wav is no audio file; send a WAV file")
        format_ = _format(request)
        voice = None if request.speaker_wav else self._voices.find(request.speaker)
        speaker = request.speaker.strip() if voice is None else voice.speaker
        language = request.language or (voice.language if voice is not None else "")
        # Imported with the first text: start-up is a budget.
        from handler_base.conversation.speech import cut

        # Captions are what is spoken as well: the source of a piece may hold what is not, code for instance.
        pieces = [piece.text for piece in cut(request.text, self._settings.speech, language=language)]
        if format_ in ONE_FILE and pieces:
            pieces = [" ".join(pieces)]
        # WAV is made here, of the samples of all pieces.
        asked = "pcm" if format_ == "wav" else format_
        return Plan(pieces, Manner(speaker, language, request.speaker_wav, asked), voice)

    def _output(self, context: Context, request: TTSRequest, plan: Plan) -> Output:
        format_ = _format(request)
        stream = AudioStream(context, plan.pieces, format_, self._settings.speak)
        return stream if request.stream else WholeAudio(context, stream, format_)


def _format(request: TTSRequest) -> str:
    asked = request.format.strip().lower() or ("pcm" if request.stream else "wav")
    if asked not in FORMATS:
        raise InvalidRequest(f"format {request.format[:32]!r} is not one of {', '.join(FORMATS)}")
    return asked


async def _each(pieces: Sequence[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece
