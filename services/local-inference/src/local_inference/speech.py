"""`POST /v1/audio/speech` and Coqui's `/api/tts`: a text in, audio out, sentence by sentence.

WAV and PCM are sent as they are made: the first sentence is heard while the second is still to be said. The length of
a WAV is not known then, and its header says so with 0xFFFFFFFF, as OpenAI's does. The compressed formats are sent
whole, since their headers have what is known at the end.

Source: https://platform.openai.com/docs/api-reference/audio/createSpeech, https://github.com/coqui-ai/TTS (server)
"""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.responses import Response

from handler_base.audio import wav, wav_header
from local_inference.streaming import Stream
from local_inference.utterances import utterances
from local_inference.voice import RATE, VOICES, Flite, Voice, voice_named
from local_inference.wire import (
    TTS_MODEL,
    ApiError,
    SpeechRequest,
    check_language,
    check_model,
    json_response,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request

PCM_RATE = 24_000
"""What OpenAI's clients take PCM to be, which has no header that would tell."""

_SILENCE = bytes(RATE // 5 * 2)
_ENCODED = {"flac": ("FLAC", "PCM_16", "audio/flac"), "opus": ("OGG", "OPUS", "audio/ogg"), "mp3": ("MP3", "MPEG_LAYER_III", "audio/mpeg")}  # fmt: skip
_RATES = {
    "wav": range(8_000, 48_001),
    "pcm": range(8_000, 48_001),
    "flac": range(8_000, 48_001),
    "opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    "mp3": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
}


class Speech:
    """The routes of speech.

    Args:
        flite: Who speaks.
        max_chars: Longest text.
    """

    def __init__(self, flite: Flite, *, max_chars: int) -> None:
        self._flite = flite
        self._max_chars = max_chars

    async def speak(self, request: SpeechRequest) -> Response:
        """Answer in OpenAI's way.

        Raises:
            ApiError: If the request cannot be served.
        """
        check_model(request.model, TTS_MODEL, "tts-1", "tts-1-hd", "gpt-4o-mini-tts")
        voice = voice_named(request.voice or "")
        speed = 1.0 if request.speed is None else request.speed
        if not 0.25 <= speed <= 4:
            raise ApiError(400, "speed must be from 0.25 to 4", param="speed")
        shape = request.response_format or "mp3"
        rate = request.sample_rate or (PCM_RATE if shape == "pcm" else RATE)
        if rate not in _RATES[shape]:
            raise ApiError(400, f"{shape} cannot have a sample_rate of {rate}", param="sample_rate")
        spoken = await self._begun(self._said(request.input, "input", voice, speed, rate))
        if shape == "wav":
            return Stream(_after(wav_header(rate), spoken), media_type="audio/wav")
        if shape == "pcm":
            return Stream(spoken, media_type=f"audio/pcm;rate={rate};channels=1")
        pcm = b"".join([piece async for piece in spoken])
        audio = await asyncio.to_thread(_encoded, pcm, rate, shape)
        return Response(audio, media_type=_ENCODED[shape][2])

    async def coqui(self, request: Request, body: bytes) -> Response:
        """Answer in Coqui's way: a whole WAV.

        Raises:
            ApiError: If the request cannot be served.
        """
        form = parse_qs(body.decode(errors="replace"), max_num_fields=100) if body else {}
        asked = {name: values[-1] for name, values in form.items()} | dict(request.query_params)
        check_language(asked.get("language_id", ""), "language_id")
        voice = voice_named(asked.get("speaker_id", ""))
        spoken = self._said(asked.get("text", ""), "text", voice, 1.0, RATE)
        pcm = b"".join([piece async for piece in spoken])
        return Response(wav(pcm, RATE), media_type="audio/wav")

    async def _said(
        self, text: str, param: str, voice: Voice, speed: float, rate: int
    ) -> AsyncGenerator[bytes]:
        if not text.strip():
            raise ApiError(400, f"{param} must hold some text", param=param)
        if len(text) > self._max_chars:
            message = f"{param} has {len(text)} characters, more than {self._max_chars}"
            raise ApiError(400, message, code="string_above_max_length", param=param)
        if self._flite.missing:
            raise ApiError(503, self._flite.missing, code="engine_missing")
        convert = _converter(rate)
        # Emoji alone are a text, too: it says nothing.
        for sentence in utterances(text) or [""]:
            pcm = await self._flite.say(sentence, voice, speed=speed) if sentence else _SILENCE
            yield await asyncio.to_thread(convert, pcm)

    async def _begun(self, spoken: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Say the first sentence now, so that what goes wrong is told by the status of the answer."""
        return _after(await anext(spoken), spoken)


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


def _converter(rate: int) -> Callable[[bytes], bytes]:
    """Return what brings one sentence to a rate; between sentences there is silence, so each stands alone."""
    if rate == RATE:
        return bytes

    def convert(pcm: bytes) -> bytes:
        import numpy as np

        from local_inference.resample import resample

        samples = resample(np.frombuffer(pcm, "<i2").astype(np.float32), RATE, rate)
        return np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()

    return convert


def _encoded(pcm: bytes, rate: int, shape: str) -> bytes:
    import numpy as np
    import soundfile

    container, coding, _ = _ENCODED[shape]
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), rate, format=container, subtype=coding)
    return file.getvalue()


async def voices(_request: Request) -> Response:
    """`GET /v1/audio/voices`."""
    listed: list[dict[str, Any]] = [voice._asdict() for voice in VOICES.values()]
    return json_response({"voices": listed})
