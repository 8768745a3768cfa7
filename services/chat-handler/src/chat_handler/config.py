"""Settings of chat-handler."""

from __future__ import annotations

from typing import Annotated

from handler_base.clients.embeddings import EmbeddingsSettings
from handler_base.clients.llm import LLMSettings
from handler_base.clients.reranker import RerankerSettings
from handler_base.clients.text_to_speech import TTSSettings
from handler_base.clients.vectors import VectorSettings
from handler_base.config import Settings, env
from handler_base.conversation.history import HistorySettings
from handler_base.conversation.prompt import PromptSettings
from handler_base.conversation.retrieval import RetrievalSettings
from handler_base.http import HttpSettings
from handler_base.service import ServiceSettings


class AnswerSettings(Settings, frozen=True, kw_only=True):
    """How questions are answered when they do not say it themselves."""

    streaming: Annotated[bool, env("ENABLE_STREAMING", help="publish the answer as it is made")] = True
    speech: Annotated[bool, env("ENABLE_TTS", help="speak the answer into ChatResponse.audio")] = False
    max_question_chars: Annotated[
        int, env("MAX_QUESTION_CHARS", help="longest question accepted, in characters", ge=1)
    ] = 32_000
    max_system_prompt_chars: Annotated[
        int, env("MAX_SYSTEM_PROMPT_CHARS", help="longest system_prompt accepted, in characters", ge=0)
    ] = 8_000
    premium_model: Annotated[str, env("PREMIUM_LLM_MODEL", help="model for premium users")] = ""
    premium_max_tokens: Annotated[
        int, env("PREMIUM_LLM_MAX_TOKENS", help="longest answer for premium users; 0: as for others", ge=0)
    ] = 0
    premium_top_k: Annotated[
        int, env("PREMIUM_TOP_K", help="passages for premium users; 0: as for others", ge=0)
    ] = 0


class ChatSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything chat-handler is told."""

    answer: AnswerSettings = AnswerSettings()
    llm: LLMSettings = LLMSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    vectors: VectorSettings = VectorSettings()
    reranker: RerankerSettings = RerankerSettings()
    tts: TTSSettings = TTSSettings()
    prompt: PromptSettings = PromptSettings()
    history: HistorySettings = HistorySettings()
    http: HttpSettings = HttpSettings()
