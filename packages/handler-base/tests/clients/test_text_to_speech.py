"""The text to speech client: both contracts, formats, limits."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

import pytest

from handler_base.audio import wav, wav_header
from handler_base.clients.text_to_speech import Speech, TextToSpeech, TTSSettings, Voice
from handler_base.errors import (
    InvalidRequest,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from handler_testkit.endpoints import Exchange, HttpEndpoint, answering, in_turn, routed
from handler_testkit.models import inference, silence
from handler_testkit.speaking import RATE, breaking_midway, samples_of, spelling, stalling_midway, wav_sample

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


# -- streamed ----------------------------------------------------------------------------------------------------

PCM = struct.pack("<200h", *range(200))


def in_parts(content: bytes, content_type: str, size: int):
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": content_type} if content_type else {})
        for start in range(0, len(content), size):
            await exchange.send(content[start : start + size])
        await exchange.end()

    return script


async def heard(tts: TextToSpeech, text: str = "a", **how) -> tuple[bytes, str, int]:
    """Return the audio, its format and its rate."""
    audio = b""
    async with tts.stream(text, **how) as speech:
        async for piece in speech:
            assert piece
            audio += piece
        return audio, speech.format, speech.sample_rate


@pytest.mark.parametrize("size", [1, 3, 50, 5000])
async def test_a_stream_of_wav_becomes_samples_however_it_is_cut(pool: HttpPool, size: int) -> None:
    async with HttpEndpoint(in_parts(wav(PCM, 22_050), "audio/wav", size)) as server:
        assert await heard(TextToSpeech(pool, TTSSettings(url=server.url))) == (PCM, "pcm", 22_050)
        assert server.requests[0].json()["response_format"] == "wav"


async def test_the_first_samples_come_before_the_last_are_made(pool: HttpPool) -> None:
    async with HttpEndpoint(stalling_midway) as server:
        async with TextToSpeech(pool, TTSSettings(url=server.url)).stream("a") as speech:
            first = await anext(aiter(speech))
            assert (len(first), speech.sample_rate) == (RATE, RATE)
        await server.wait(lambda: server.disconnects == 1)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF])
async def test_a_wav_that_does_not_know_its_length_is_read_to_its_end(pool: HttpPool, length: int) -> None:
    async with HttpEndpoint(audio(wav_header(8000, 1, length) + PCM, "audio/wav")) as server:
        assert await heard(TextToSpeech(pool, TTSSettings(url=server.url))) == (PCM, "pcm", 8000)


async def test_of_two_channels_the_first_is_taken(pool: HttpPool) -> None:
    both = b"".join(struct.pack("<hh", n, -n) for n in range(200))
    async with HttpEndpoint(in_parts(wav(both, 8000, 2), "audio/wav", 7)) as server:
        assert await heard(TextToSpeech(pool, TTSSettings(url=server.url))) == (PCM, "pcm", 8000)
        server.script = in_parts(both, "audio/L16; rate=44100; channels=2", 7)
        assert await heard(TextToSpeech(pool, TTSSettings(url=server.url))) == (PCM, "pcm", 44_100)


@pytest.mark.parametrize(
    ("content_type", "rate"),
    [("audio/pcm", 24_000), ("audio/pcm;rate=16000", 16_000), ("", 24_000), ("audio/l16; RATE=8000", 8000),
     ("audio/pcm; rate=fast", 24_000), ("audio/pcm; rate=0", 24_000)],
)  # fmt: skip
async def test_raw_samples_have_the_rate_that_is_said_else_the_settings(
    pool: HttpPool, content_type: str, rate: int
) -> None:
    async with HttpEndpoint(in_parts(PCM, content_type, 33)) as server:
        tts = TextToSpeech(pool, TTSSettings(url=server.url, stream_format="pcm"))
        assert await heard(tts) == (PCM, "pcm", rate)
        assert server.requests[0].json()["response_format"] == "pcm"


async def test_what_comes_is_told_by_its_first_bytes_rather_than_by_its_name(pool: HttpPool) -> None:
    async with HttpEndpoint(in_parts(wav(PCM, 8000), "audio/mpeg", 5)) as server:
        tts = TextToSpeech(pool, TTSSettings(url=server.url))
        assert await heard(tts, format="mp3") == (PCM, "pcm", 8000)
        server.script = in_parts(b"OggS" + PCM, "audio/wav", 5)
        assert await heard(tts) == (b"OggS" + PCM, "ogg", 0)


async def test_samples_that_look_like_mpeg_are_samples_where_samples_are_due(pool: HttpPool) -> None:
    samples = b"\xff\xfb" + PCM
    async with HttpEndpoint(audio(samples, "audio/pcm")) as server:
        assert await heard(TextToSpeech(pool, TTSSettings(url=server.url))) == (samples, "pcm", 24_000)
        server.script = audio(samples, "audio/mpeg")
        assert (await heard(TextToSpeech(pool, TTSSettings(url=server.url))))[1] == "mp3"


async def test_compressed_speech_passes_through(pool: HttpPool) -> None:
    async with HttpEndpoint(in_parts(b"ID3" + b"x" * 100, "audio/mpeg", 40)) as server:
        tts = TextToSpeech(pool, TTSSettings(url=server.url))
        assert await heard(tts, format="mp3") == (b"ID3" + b"x" * 100, "mp3", 0)
        assert server.requests[0].json()["response_format"] == "mp3"


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        (answering({"detail": "queued"}), UpstreamProtocol, "application/json instead of audio"),
        (audio(b"", "audio/wav"), UpstreamProtocol, "no audio at all"),
        (audio(wav(b"", 8000), "audio/wav"), UpstreamProtocol, "no audio at all"),
        (audio(b"RIFF", "audio/wav"), UpstreamProtocol, "no audio at all"),
        (audio(b"x" * 50, "audio/wav"), UpstreamProtocol, "WAV that cannot be read: it does not begin like"),
        (audio(wav(bytes(5000), 8000), "audio/wav"), UpstreamProtocol, "more than 4096 bytes of audio"),
        (breaking_midway, UpstreamUnavailable, "tts"),
        (stalling_midway, UpstreamTimeout, "tts"),
        (answering({}, 400), UpstreamRejected, "tts"),
    ],
)
async def test_a_stream_that_is_not_what_it_should_be_is_an_error(
    pool: HttpPool, script, error: type[Exception], says: str
) -> None:
    async with HttpEndpoint(script) as server:
        settings = TTSSettings(
            url=server.url, max_audio_bytes=4096 if "4096" in says else 1 << 20, idle_timeout=0.2
        )
        with pytest.raises(error, match=says):
            await heard(TextToSpeech(pool, settings))


async def test_a_stream_that_did_not_start_is_tried_again_and_one_that_did_is_not(pool: HttpPool) -> None:
    async with HttpEndpoint(in_turn(answering({}, 503), spelling(), breaking_midway, spelling())) as server:
        tts = TextToSpeech(pool, TTSSettings(url=server.url))
        assert await heard(tts, "abc") == (samples_of("abc").tobytes(), "pcm", RATE)
        with pytest.raises(UpstreamUnavailable):
            await heard(tts)
        assert len(server.requests) == 3


async def test_a_sample_to_clone_goes_along_where_it_is_taken(pool: HttpPool) -> None:
    sample = wav_sample()
    async with HttpEndpoint(spelling()) as server:
        with pytest.raises(InvalidRequest, match="TTS_CLONING=true"):
            TextToSpeech(pool, TTSSettings(url=server.url)).stream("a", speaker_wav=sample)
        tts = TextToSpeech(pool, TTSSettings(url=server.url, cloning=True))
        await heard(tts, speaker_wav=sample, language="de")
        body = server.requests[0].json()
        assert (base64.b64decode(body["speaker_wav"]), body["language"]) == (sample, "de")
        server.script = audio(wav(PCM, 8000), "audio/wav")
        coqui = TextToSpeech(pool, TTSSettings(url=server.url, api="coqui", cloning=True))
        assert await heard(coqui, "Hej!", speaker_wav=sample, language="sv", format="mp3") == (
            PCM,
            "pcm",
            8000,
        )
        request = server.requests[1]
        assert (request.method, request.path) == ("POST", "/api/tts")
        assert request.headers["content-type"].startswith("multipart/form-data")
        assert sample in request.body
        assert b"Hej!" in request.body


async def test_voices_are_those_that_the_endpoint_lists(pool: HttpPool) -> None:
    path = "/tts/v1/audio/voices"
    listing = {"voices": ["nova", {"id": "af", "name": "Heart", "language": "en", "gender": "f"}], "more": 1}
    routes = {path: answering(listing)}
    async with HttpEndpoint(routed(routes)) as server:
        tts = TextToSpeech(pool, TTSSettings(url=f"{server.url}/tts"))
        assert await tts.voices() == [Voice("nova"), Voice("af", "Heart", "en")]
        for status in (400, 404, 405, 501):
            routes[path] = answering({}, status)
            assert await tts.voices() is None
        for script, error in (
            (answering({}, 503), UpstreamUnavailable),
            (answering({}, 401), UpstreamRejected),
            (answering({"voices": 7}), UpstreamProtocol),
        ):
            routes[path] = script
            with pytest.raises(error):
                await tts.voices()
