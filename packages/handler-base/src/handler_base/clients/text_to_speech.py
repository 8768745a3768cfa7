"""Text to speech: OpenAI's `/v1/audio/speech`, or Coqui's and XTTS' `/api/tts` by setting.

Contracts: https://platform.openai.com/docs/api-reference/audio/createSpeech, and the server of
https://github.com/coqui-ai/TTS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec

from handler_base.clients._contract import base_of
from handler_base.config import Secret, Settings, env

if TYPE_CHECKING:
    from handler_base.http import Endpoint, HttpPool, Response

PATHS = {"openai": "/v1/audio/speech", "coqui": "/api/tts"}

FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/aac": "aac",
    "audio/pcm": "pcm",
    "audio/l16": "pcm",
}
"""Formats by content type; with another content type the format is taken to be the one that was asked for."""


class TTSSettings(Settings, frozen=True, kw_only=True):
    """Where speech comes from. Durations are in seconds."""

    url: Annotated[
        str, env("TTS_URL", help="base URL of text to speech; the path of its API is appended")
    ] = "http://127.0.0.1:8000/tts"
    api: Annotated[
        Literal["openai", "coqui"],
        env("TTS_API", help="openai: /v1/audio/speech; coqui: /api/tts (XTTS too)"),
    ] = "openai"
    model: Annotated[str, env("TTS_MODEL", help="model to ask for (openai)")] = "tts-1"
    speaker: Annotated[
        str, env("TTS_SPEAKER", help="voice when a request names none; openai falls back to alloy")
    ] = ""
    language: Annotated[str, env("TTS_LANGUAGE", help="language when a request names none (coqui)")] = ""
    api_key: Annotated[Secret, env("TTS_API_KEY", help="bearer token for text to speech")] = Secret()
    timeout: Annotated[float, env("TTS_TIMEOUT", help="seconds to the start of the audio", ge=0.001)] = 60.0
    max_audio_bytes: Annotated[
        int, env("TTS_MAX_AUDIO_BYTES", help="largest audio accepted for one text", ge=1024)
    ] = 32 * 1024 * 1024


class Speech(NamedTuple):
    """Spoken text.

    Attributes:
        audio: The audio file.
        format: Its format: `wav`, `mp3`, `ogg`, `opus`, `flac`, `aac` or `pcm`.
    """

    audio: bytes
    format: str


class TextToSpeech:
    """A model that speaks.

    Args:
        pool: Where its connections come from.
        settings: Where it is.

    Attributes:
        endpoint: The endpoint it talks to.
    """

    def __init__(self, pool: HttpPool, settings: TTSSettings) -> None:
        self.settings = settings
        self._path = PATHS[settings.api]
        self.endpoint: Endpoint = pool.endpoint(
            "tts",
            base_of(settings.url, self._path),
            api_key=settings.api_key,
            timeout=settings.timeout,
            setting="TTS_URL",
        )

    async def synthesize(
        self,
        text: str,
        *,
        speaker: str = "",
        language: str = "",
        format: str = "wav",  # noqa: A002
    ) -> Speech:
        """Return `text` as audio.

        Args:
            text: What to say.
            speaker: The voice, in the endpoint's words.
            language: Its language, for endpoints that want to know.
            format: The format wished for; the endpoint may answer with another.

        Raises:
            UpstreamError: If the endpoint fails; `UpstreamProtocol` if it answers something else than audio, or
                more than the limit.
            Overloaded: If no connection becomes free in time.
        """
        speaker = speaker or self.settings.speaker
        if self.settings.api == "coqui":
            params = {
                "text": text,
                "speaker_id": speaker,
                "language_id": language or self.settings.language,
            }
            response = await self.endpoint.request(
                "GET",
                self._path,
                params={name: value for name, value in params.items() if value},
                idempotent=True,
                max_bytes=self.settings.max_audio_bytes,
            )
        else:
            body = {
                "model": self.settings.model,
                "input": text,
                "voice": speaker or "alloy",
                "response_format": format,
            }
            response = await self.endpoint.request(
                "POST",
                self._path,
                content=msgspec.json.encode(body),
                headers={"Content-Type": "application/json"},
                idempotent=True,
                max_bytes=self.settings.max_audio_bytes,
            )
        return self._speech(response, "wav" if self.settings.api == "coqui" else format)

    def _speech(self, response: Response, asked: str) -> Speech:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("audio/") and kind != "application/octet-stream":
            raise self.endpoint.unreadable(f"{kind} instead of audio")
        if not response.content:
            raise self.endpoint.unreadable("no audio at all")
        return Speech(response.content, FORMATS.get(kind, asked))
