"""Speech to text: OpenAI's `/v1/audio/transcriptions`.

Contract: https://platform.openai.com/docs/api-reference/audio/createTranscription. Whisper on Ray Serve, vLLM,
faster-whisper-server and others speak it.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated

import msgspec

from handler_base.clients._contract import base_of
from handler_base.config import Secret, Settings, env

if TYPE_CHECKING:
    from handler_base.http import Endpoint, HttpPool

PATH = "/v1/audio/transcriptions"

CONTENT_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "mp3": "audio/mpeg",
    "mp4": "audio/mp4",
    "m4a": "audio/mp4",
    "webm": "audio/webm",
}
"""What an endpoint of this contract takes."""


class STTSettings(Settings, frozen=True, kw_only=True):
    """Where transcriptions come from. Durations are in seconds."""

    url: Annotated[
        str, env("WHISPER_URL", "STT_URL", help="base URL; /v1/audio/transcriptions is appended")
    ] = "http://127.0.0.1:8000/whisper"
    model: Annotated[str, env("WHISPER_MODEL", help="model to ask for")] = "whisper-1"
    language: Annotated[
        str, env("WHISPER_LANGUAGE", help="language when a request names none; empty: the model finds out")
    ] = ""
    prompt: Annotated[str, env("WHISPER_PROMPT", help="words that help the model: names, terms")] = ""
    api_key: Annotated[Secret, env("WHISPER_API_KEY", help="bearer token for transcriptions")] = Secret()
    timeout: Annotated[float, env("WHISPER_TIMEOUT", help="seconds to a transcription", ge=0.001)] = 60.0


class Transcription(msgspec.Struct):
    """What was said.

    Attributes:
        text: The words; "" when there were none.
        language: Its language as the endpoint tells, or None.
        duration: Length of the audio in seconds as the endpoint tells, or None.
    """

    text: str
    language: str | None = None
    duration: float | None = None


class SpeechToText:
    """A model that writes down what is said.

    Args:
        pool: Where its connections come from.
        settings: Where it is.

    Attributes:
        endpoint: The endpoint it talks to.
    """

    def __init__(self, pool: HttpPool, settings: STTSettings) -> None:
        self.settings = settings
        self.endpoint: Endpoint = pool.endpoint(
            "stt",
            base_of(settings.url, PATH),
            api_key=settings.api_key,
            timeout=settings.timeout,
            setting="WHISPER_URL",
        )

    async def transcribe(self, audio: bytes, *, format: str = "wav", language: str = "") -> Transcription:  # noqa: A002
        """Return what is said in `audio`.

        Args:
            audio: A whole file.
            format: Its format, one of `CONTENT_TYPES`.
            language: BCP 47 tag; the part before the hyphen is sent. "" for the setting's.

        Raises:
            UpstreamError: If the endpoint fails; `UpstreamRejected` if it cannot read the audio.
            Overloaded: If no connection becomes free in time.
        """
        fields = {
            "model": self.settings.model,
            "response_format": "json",
            "language": (language or self.settings.language).partition("-")[0].lower(),
            "prompt": self.settings.prompt,
        }
        content, kind = multipart(
            {name: value for name, value in fields.items() if value},
            ("file", f"audio.{format}", CONTENT_TYPES.get(format, "application/octet-stream"), audio),
        )
        response = await self.endpoint.request(
            "POST",
            PATH,
            content=content,
            headers={"Content-Type": kind, "Accept": "application/json"},
            idempotent=True,
        )
        found = self.endpoint.decode(response.content, Transcription)
        found.text = " ".join(found.text.split())
        return found


def multipart(fields: dict[str, str], file: tuple[str, str, str, bytes]) -> tuple[bytes, str]:
    """Return a form with one file, and its content type; RFC 7578.

    Args:
        fields: Values by name.
        file: Field, file name, content type and content.
    """
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    name, filename, kind, content = file
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    body = b"".join(("".join(parts).encode(), content, f"\r\n--{boundary}--\r\n".encode()))
    return body, f"multipart/form-data; boundary={boundary}"
