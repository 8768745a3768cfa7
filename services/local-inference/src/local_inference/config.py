"""Settings of the service."""

from __future__ import annotations

from typing import Annotated

from handler_base.config import Settings, env
from handler_base.telemetry import TelemetrySettings


class LocalInferenceSettings(Settings, frozen=True, kw_only=True):
    """Everything that can be set, all of it optional."""

    host: Annotated[str, env("HOST", help="address to listen on")] = "127.0.0.1"
    port: Annotated[int, env("PORT", help="port to listen on, 0 for any", ge=0, le=65535)] = 8000
    telemetry: TelemetrySettings = TelemetrySettings()
    max_body_bytes: Annotated[
        int, env("MAX_BODY_BYTES", help="largest request body; more is answered with 413", ge=1024)
    ] = 16 * 1024 * 1024
    max_in_flight: Annotated[
        int, env("MAX_IN_FLIGHT", help="requests served at the same time; more are answered with 503", ge=1)
    ] = 256

    llm_gguf: Annotated[
        str, env("LLM_GGUF", help="GGUF file to run with llama.cpp in place of the quoting stand-in")
    ] = ""
    llm_context_tokens: Annotated[
        int,
        env("LLM_CONTEXT_TOKENS", help="longest prompt: words for the stand-in, tokens for llama.cpp", ge=64),
    ] = 16384
    llm_parallel: Annotated[
        int, env("LLM_PARALLEL", help="llama.cpp: requests at the same time; they share the context", ge=1)
    ] = 2
    llm_threads: Annotated[int, env("LLM_THREADS", help="llama.cpp: threads, 0 for all cores", ge=0)] = 0
    llm_tokens_per_second: Annotated[
        float,
        env("LLM_TOKENS_PER_SECOND", help="pace of the stand-in's stream, 0 for as fast as it can", ge=0),
    ] = 0.0

    embeddings_max_tokens: Annotated[
        int,
        env("EMBEDDINGS_MAX_TOKENS", help="longer texts are cut; the model was trained on 256", ge=8, le=512),
    ] = 256
    embeddings_max_inputs: Annotated[int, env("EMBEDDINGS_MAX_INPUTS", help="texts per request", ge=1)] = 2048
    rerank_max_documents: Annotated[int, env("RERANK_MAX_DOCUMENTS", help="documents per request", ge=1)] = (
        2048
    )

    whisper_max_bytes: Annotated[
        int,
        env(
            "WHISPER_MAX_BYTES", help="largest request with an audio file; more is answered with 413", ge=1024
        ),
    ] = 25 * 1024 * 1024
    whisper_max_seconds: Annotated[
        float, env("WHISPER_MAX_SECONDS", help="longest audio; more is answered with 413", ge=1)
    ] = 600.0
    whisper_parallel: Annotated[
        int, env("WHISPER_PARALLEL", help="files heard at the same time, a process of 170 MB each", ge=1)
    ] = 2
    flite_path: Annotated[str, env("FLITE_PATH", help="the program that speaks")] = "flite"
    tts_max_chars: Annotated[int, env("TTS_MAX_CHARS", help="longest text to say", ge=1)] = 4096
    tts_parallel: Annotated[int, env("TTS_PARALLEL", help="sentences spoken at the same time", ge=1)] = 4
