"""Text to speech: OpenAI's `/v1/audio/speech`, or Coqui's and XTTS' `/api/tts` by setting.

    async with tts.stream("Good morning.") as speech:
        async for pcm in speech:
            play(pcm, speech.sample_rate)

Contracts: https://platform.openai.com/docs/api-reference/audio/createSpeech, and the server of
https://github.com/coqui-ai/TTS.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self

import msgspec

from handler_base.audio import AudioError, PcmReader, mono, sniff
from handler_base.clients._contract import base_of
from handler_base.clients.speech_to_text import multipart
from handler_base.config import Secret, Settings, env
from handler_base.errors import InvalidRequest, UpstreamRejected, UpstreamUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from handler_base.http import Endpoint, HttpPool, Response, StreamedResponse

VOICES_PATH = "/v1/audio/voices"
"""Where endpoints that list their voices do so; it is no part of OpenAI's contract."""

PATHS = {"openai": "/v1/audio/speech", "coqui": "/api/tts"}

HEAD_BYTES = 12
"""How much of an answer is seen before it is decided what it is."""

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
    idle_timeout: Annotated[
        float, env("TTS_IDLE_TIMEOUT", help="seconds between two pieces of streamed audio", ge=0.001)
    ] = 30.0
    stream_format: Annotated[
        Literal["wav", "pcm"],
        env(
            "TTS_STREAM_FORMAT", help="what streamed speech is asked for as: wav says its rate, pcm does not"
        ),
    ] = "wav"
    pcm_rate: Annotated[
        int, env("TTS_PCM_RATE", help="samples per second of pcm that does not say it (OpenAI: 24000)", ge=1)
    ] = 24_000
    cloning: Annotated[
        bool, env("TTS_CLONING", help="whether the endpoint takes a speaker_wav to clone a voice from")
    ] = False
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


class Voice(msgspec.Struct, frozen=True):
    """A voice that an endpoint has.

    Attributes:
        id: What to ask for.
        name: What people call it; "" for the same.
        language: BCP 47 tag, or "".
    """

    id: str
    name: str = ""
    language: str = ""


class _Voices(msgspec.Struct):
    voices: list[Voice | str]


class _Call(NamedTuple):
    method: str
    content: bytes
    headers: Mapping[str, str] | None
    params: Mapping[str, str] | None


class SpeechStream:
    """Speech as it is made, to enter with `async with` and to iterate over; leaving it stops the model.

    Attributes:
        format: `pcm` (16 bit, little endian, one channel), or the compressed format that the endpoint insists on.
        sample_rate: Samples per second, known with the first piece; 0 for compressed formats.
    """

    def __init__(self, tts: TextToSpeech, response: StreamedResponse, asked: str) -> None:
        self._tts = tts
        self._response = response
        self._reader: PcmReader | None = None
        self._channels = 1
        self._started = False
        self._length = 0
        self._odd: bytes = b""
        self.format = asked
        self.sample_rate = 0

    async def __aenter__(self) -> Self:
        """Send the text and wait until the endpoint starts to answer.

        Raises:
            UpstreamError: If it does not, or answers something else than audio.
            Overloaded: If no connection becomes free in time.
        """
        await self._response.__aenter__()
        try:
            self._tts.check(self._response.headers)
        except BaseException as error:
            await self._response.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._response.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece: whole samples, or bytes of a compressed format.

        Raises:
            UpstreamError: If the audio breaks off, stalls, cannot be read, or there is none or too much.
        """
        while True:
            data = await self._response.read()
            if not data:
                if not self._length:
                    raise self._tts.endpoint.unreadable("no audio at all")
                raise StopAsyncIteration
            piece = self._take(data)
            self._length += len(piece)
            if self._length > self._tts.settings.max_audio_bytes:
                raise self._tts.endpoint.unreadable(
                    f"more than {self._tts.settings.max_audio_bytes} bytes of audio"
                )
            if piece:
                return piece

    def _take(self, data: bytes) -> bytes:
        if not self._started:
            data = self._odd + data
            if len(data) < HEAD_BYTES:
                self._odd = data
                return b""
            self._odd = b""
            self._start(data)
        if self._reader is not None:
            try:
                piece = self._reader.feed(data)
            except AudioError as error:
                raise self._tts.endpoint.unreadable(f"WAV that cannot be read: {error}") from error
            self.sample_rate = self._reader.rate
            return piece
        if self.format != "pcm":
            return data
        data = self._odd + data
        whole = len(data) - len(data) % (2 * self._channels)
        self._odd = data[whole:]
        return mono(data[:whole], self._channels)

    def _start(self, data: bytes) -> None:
        """See by the first bytes, then by the content type, what comes."""
        self._started = True
        kind, _, parameters = self._response.headers.get("content-type", "").partition(";")
        told = FORMATS.get(kind.strip().lower(), self.format)
        found = sniff(data)
        if not found or (found == "mp3" and told == "pcm"):  # samples may look like a frame of MPEG audio
            found = told
        if found == "wav":
            self._reader = PcmReader()
            self.format = "pcm"
            return
        self.format = found
        if found == "pcm":
            named = dict(part.strip().lower().split("=", 1) for part in parameters.split(";") if "=" in part)
            self.sample_rate = _number(named.get("rate", ""), self._tts.settings.pcm_rate)
            self._channels = _number(named.get("channels", ""), 1)


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
            idle_timeout=settings.idle_timeout,
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
        call = self._call(text, speaker, language, format, b"")
        response = await self.endpoint.request(
            call.method,
            self._path,
            content=call.content,
            headers=call.headers,
            params=call.params,
            idempotent=True,
            max_bytes=self.settings.max_audio_bytes,
        )
        return self._speech(response, "wav" if self.settings.api == "coqui" else format)

    def stream(
        self,
        text: str,
        *,
        speaker: str = "",
        language: str = "",
        speaker_wav: bytes = b"",
        format: str = "pcm",  # noqa: A002
    ) -> SpeechStream:
        """Return `text` as audio that comes as it is made.

        Args:
            text: What to say.
            speaker: The voice, in the endpoint's words.
            language: Its language, for endpoints that want to know.
            speaker_wav: A sample of the voice to clone.
            format: `pcm`, or a compressed format; the endpoint may answer with another.

        Raises:
            InvalidRequest: If there is a sample and the endpoint cannot clone.
        """
        asked = self.settings.stream_format if format in {"pcm", "wav"} else format
        call = self._call(text, speaker, language, asked, speaker_wav)
        response = self.endpoint.stream(
            call.method,
            self._path,
            content=call.content,
            headers=call.headers,
            params=call.params,
            repeat="unstarted",
            idle_timeout=self.settings.idle_timeout,
        )
        return SpeechStream(self, response, "wav" if self.settings.api == "coqui" else asked)

    async def voices(self) -> list[Voice] | None:
        """Return the voices that the endpoint lists; None when it lists none.

        Raises:
            UpstreamError: If it cannot be asked.
        """
        try:
            response = await self.endpoint.request("GET", VOICES_PATH, idempotent=True)
        except (UpstreamRejected, UpstreamUnavailable) as error:
            if error.status in {400, 404, 405, 501}:
                return None
            raise
        listed = self.endpoint.decode(response.content, _Voices).voices
        return [Voice(voice) if isinstance(voice, str) else voice for voice in listed]

    def _call(self, text: str, speaker: str, language: str, asked: str, speaker_wav: bytes) -> _Call:
        if speaker_wav and not self.settings.cloning:
            raise InvalidRequest(
                "this text to speech endpoint clones no voices: leave speaker_wav out, or set TTS_CLONING=true"
            )
        speaker = speaker or self.settings.speaker
        language = language or self.settings.language
        if self.settings.api == "coqui":
            fields = {"text": text, "speaker_id": speaker, "language_id": language}
            fields = {name: value for name, value in fields.items() if value}
            if not speaker_wav:
                return _Call("GET", b"", None, fields)
            content, kind = multipart(fields, ("speaker_wav", "speaker.wav", "audio/wav", speaker_wav))
            return _Call("POST", content, {"Content-Type": kind}, None)
        body = {
            "model": self.settings.model,
            "input": text,
            "voice": speaker or "alloy",
            "response_format": asked,
        }
        if speaker_wav:
            body["speaker_wav"] = base64.b64encode(speaker_wav).decode()
        if language and self.settings.cloning:
            body["language"] = language
        return _Call("POST", msgspec.json.encode(body), {"Content-Type": "application/json"}, None)

    def _speech(self, response: Response, asked: str) -> Speech:
        kind = self.check(response.headers)
        if not response.content:
            raise self.endpoint.unreadable("no audio at all")
        return Speech(response.content, FORMATS.get(kind, asked))

    def check(self, headers: Mapping[str, str]) -> str:
        """Return the content type of an answer.

        Raises:
            UpstreamProtocol: If it is none of audio.
        """
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("audio/") and kind != "application/octet-stream":
            raise self.endpoint.unreadable(f"{kind} instead of audio")
        return kind


def _number(text: str, default: int) -> int:
    return int(text) if text.isdecimal() and 0 < int(text) <= 768_000 else default
