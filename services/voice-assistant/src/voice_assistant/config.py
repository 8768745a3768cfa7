"""Settings of voice-assistant."""

from __future__ import annotations

from typing import Annotated

from handler_base.clients.embeddings import EmbeddingsSettings
from handler_base.clients.llm import LLMSettings
from handler_base.clients.reranker import RerankerSettings
from handler_base.clients.speech_to_text import STTSettings
from handler_base.clients.text_to_speech import TTSSettings
from handler_base.clients.vectors import VectorSettings
from handler_base.config import Settings, env
from handler_base.conversation.history import HistorySettings
from handler_base.conversation.pieces import SpeechSettings
from handler_base.conversation.prompt import PromptSettings
from handler_base.conversation.retrieval import RetrievalSettings
from handler_base.conversation.synthesis import SynthesisSettings
from handler_base.http import HttpSettings
from handler_base.messaging.settings import WorkSettings
from handler_base.service import ServiceSettings

SPOKEN = (
    "You are a helpful voice assistant: what you write is spoken. Answer in one to three short sentences of plain "
    "words, the answer itself first. No lists, no headings, no code."
)
"""First words to the model; long sentences are late, and markup cannot be heard."""


class TalkSettings(Settings, frozen=True, kw_only=True):
    """How people are listened to and answered."""

    max_audio_bytes: Annotated[int, env("MAX_AUDIO_BYTES", help="largest audio of one request", ge=1024)] = (
        32 * 1024 * 1024
    )
    max_audio_seconds: Annotated[
        float, env("MAX_AUDIO_SECONDS", help="longest audio of one request, where its header tells", ge=1)
    ] = 600.0
    premium_model: Annotated[str, env("PREMIUM_LLM_MODEL", help="model for premium users")] = ""
    premium_max_tokens: Annotated[
        int, env("PREMIUM_LLM_MAX_TOKENS", help="longest answer for premium users; 0: as for others", ge=0)
    ] = 0
    premium_top_k: Annotated[
        int, env("PREMIUM_TOP_K", help="passages for premium users; 0: as for others", ge=0)
    ] = 0


class ConversationSettings(Settings, frozen=True, kw_only=True):
    """How a session is followed. Durations are in seconds."""

    enabled: Annotated[
        bool, env("ENABLE_ASSISTANT", help="answer in sessions that do not say whether they want answers")
    ] = True
    ahead: Annotated[
        float,
        env("SPEECH_AHEAD", help="seconds that published speech may be ahead of its playing", ge=0.5),
    ] = 10.0
    idle: Annotated[
        float,
        env("SESSION_IDLE_SECONDS", help="a session without a transcription for so long has ended", ge=1),
    ] = 900.0
    longest: Annotated[float, env("MAX_SESSION_SECONDS", help="longest session", ge=60, le=24 * 3600)] = (
        4 * 3600.0
    )
    fresh: Annotated[
        float, env("ANSWER_WITHIN", help="a question older than this is not answered after a restart", ge=0)
    ] = 30.0
    sorry: Annotated[
        str, env("ERROR_PHRASE", help="said when there is no answer; empty: nothing is said")
    ] = "Sorry, I cannot answer that right now."


class VoiceSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything voice-assistant is told."""

    # Sessions last long and are many; who talks does not wait long for another replica.
    work: WorkSettings = WorkSettings(ack_wait=5.0, durable_in_flight=64)
    talk: TalkSettings = TalkSettings()
    conversation: ConversationSettings = ConversationSettings()
    stt: STTSettings = STTSettings()
    llm: LLMSettings = LLMSettings()
    tts: TTSSettings = TTSSettings()
    speech: SpeechSettings = SpeechSettings()
    synthesis: SynthesisSettings = SynthesisSettings()
    retrieval: RetrievalSettings = RetrievalSettings(top_k=3)
    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    vectors: VectorSettings = VectorSettings()
    reranker: RerankerSettings = RerankerSettings()
    prompt: PromptSettings = PromptSettings(system_prompt=SPOKEN)
    history: HistorySettings = HistorySettings()
    http: HttpSettings = HttpSettings()
