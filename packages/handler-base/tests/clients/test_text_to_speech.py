"""The text to speech client: both contracts, formats, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_base.clients.text_to_speech import Speech, TextToSpeech, TTSSettings
from handler_base.errors import UpstreamProtocol, UpstreamUnavailable
from handler_testkit.endpoints import Exchange, HttpEndpoint, answering, in_turn
from handler_testkit.models import inference, silence

if TYPE_CHECKING:
    from handler_base.http import HttpPool


def audio(content: bytes, content_type: str):
    async def script(exchange: Exchange) -> None:
        await exchange.answer(content, 200, {"content-type": content_type} if content_type else {})

    return script


async def test_text_becomes_audio(pool: HttpPool) -> None:
    async with HttpEndpoint(inference()) as server:
        tts = TextToSpeech(pool, TTSSettings(url=f"{server.url}/tts", model="voice-1"))
        assert await tts.synthesize("hello") == Speech(silence(0.05), "wav")
        await tts.synthesize("hello", speaker="slt", format="mp3")
        first, second = (request.json() for request in server.requests)
        assert first == {"model": "voice-1", "input": "hello", "voice": "alloy", "response_format": "wav"}
        assert (second["voice"], second["response_format"]) == ("slt", "mp3")


async def test_coqui_is_asked_by_query(pool: HttpPool) -> None:
    async with HttpEndpoint(audio(b"RIFF", "audio/wav")) as server:
        tts = TextToSpeech(pool, TTSSettings(url=server.url, api="coqui", language="en"))
        assert await tts.synthesize("Is this 100 % & more?", speaker="p1") == Speech(b"RIFF", "wav")
        await tts.synthesize("hej", language="sv")
        assert (server.requests[0].method, server.requests[0].path) == ("GET", "/api/tts")
        assert server.requests[0].query == {
            "text": "Is this 100 % & more?",
            "speaker_id": "p1",
            "language_id": "en",
        }
        assert server.requests[1].query == {"text": "hej", "language_id": "sv"}


@pytest.mark.parametrize(
    ("content_type", "format_"),
    [
        ("audio/mpeg", "mp3"), ("audio/x-wav; rate=16000", "wav"), ("AUDIO/OGG", "ogg"), ("audio/strange", "flac"),
        ("application/octet-stream", "flac"), ("", "flac"),
    ],
)  # fmt: skip
async def test_the_format_is_what_the_endpoint_says_else_what_was_asked_for(
    pool: HttpPool, content_type: str, format_: str
) -> None:
    async with HttpEndpoint(audio(b"x", content_type)) as server:
        speech = await TextToSpeech(pool, TTSSettings(url=server.url)).synthesize("a", format="flac")
        assert speech.format == format_


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (answering({"detail": "queued"}), "application/json instead of audio"),
        (audio(b"<html>", "text/html; charset=utf-8"), "text/html instead of audio"),
        (audio(b"", "audio/wav"), "no audio at all"),
        (audio(b"x" * 5000, "audio/wav"), "answered more than 4096 bytes"),
    ],
)
async def test_what_is_not_audio_or_too_much_of_it_is_an_error(pool: HttpPool, script, says: str) -> None:
    async with HttpEndpoint(script) as server:
        with pytest.raises(UpstreamProtocol, match=says):
            await TextToSpeech(pool, TTSSettings(url=server.url, max_audio_bytes=4096)).synthesize("a")


async def test_a_voice_that_fails_for_a_moment_is_asked_again(pool: HttpPool) -> None:
    async with HttpEndpoint(
        in_turn(answering({}, 503), audio(b"x", "audio/wav"), answering({}, 500))
    ) as server:
        tts = TextToSpeech(pool, TTSSettings(url=server.url))
        assert (await tts.synthesize("a")).audio == b"x"
        with pytest.raises(UpstreamUnavailable, match="tried 3 times"):
            await tts.synthesize("a")
