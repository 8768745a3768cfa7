"""Settings of voice-assistant."""

from __future__ import annotations

from handler_base.clients.embeddings import EmbeddingsSettings
from handler_base.clients.llm import LLMSettings
from handler_base.clients.reranker import RerankerSettings
from handler_base.clients.speech_to_text import STTSettings
from handler_base.clients.text_to_speech import TTSSettings
from handler_base.clients.vectors import VectorSettings
from handler_base.http import HttpSettings
from handler_base.service import ServiceSettings


class VoiceSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything voice-assistant is told."""

    stt: STTSettings = STTSettings()
    llm: LLMSettings = LLMSettings()
    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    reranker: RerankerSettings = RerankerSettings()
    vectors: VectorSettings = VectorSettings()
    tts: TTSSettings = TTSSettings()
    http: HttpSettings = HttpSettings()
