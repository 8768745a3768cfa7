"""The speech-to-text client: the form it sends, and the answers it gets."""

from __future__ import annotations

import email.parser
import email.policy
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.audio import wav
from handler_base.clients.speech_to_text import SpeechToText, STTSettings, multipart
from handler_base.config import Secret
from handler_base.errors import UpstreamProtocol, UpstreamRejected, UpstreamTimeout
from handler_testkit.endpoints import HttpEndpoint, answering, in_turn, stalling

if TYPE_CHECKING:
    from handler_base.http import HttpPool
    from handler_testkit.endpoints import Request

AUDIO = wav(bytes(3200), 16000)


def form(request: Request) -> dict[str, Any]:
    """Read a form as Python's own library does."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    return {
        str(name): (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        if part.get_filename()
        else part.get_content().strip()
        for name, part in parts.items()
    }


async def test_audio_goes_out_as_a_file_and_comes_back_as_text(pool: HttpPool) -> None:
    answer = {"text": " Hello\n there. ", "language": "english", "duration": 0.1, "usage": {"seconds": 1}}
    async with HttpEndpoint(answering(answer)) as server:
        settings = STTSettings(
            url=f"{server.url}/whisper", model="m", prompt="NATS", api_key=Secret("key"), language="en"
        )
        stt = SpeechToText(pool, settings)
        said = await stt.transcribe(AUDIO)
        assert (said.text, said.language, said.duration) == ("Hello there.", "english", 0.1)
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/whisper/v1/audio/transcriptions")
        assert request.headers["authorization"] == "Bearer key"
        assert form(request) == {
            "model": "m",
            "response_format": "json",
            "language": "en",
            "prompt": "NATS",
            "file": ("audio.wav", "audio/wav", AUDIO),
        }


@pytest.mark.parametrize(
    ("asked", "default", "sent"), [("de-CH", "en", "de"), ("", "en", "en"), ("", "", None), ("EN", "", "en")]
)
async def test_a_language_goes_without_its_region(
    pool: HttpPool, asked: str, default: str, sent: str | None
) -> None:
    async with HttpEndpoint(answering({"text": ""})) as server:
        stt = SpeechToText(pool, STTSettings(url=server.url, language=default))
        said = await stt.transcribe(AUDIO, language=asked)
        assert said.text == ""
        assert form(server.requests[0]).get("language") == sent


@pytest.mark.parametrize(
    ("name", "kind"), [("mp3", "audio/mpeg"), ("webm", "audio/webm"), ("xyz", "application/octet-stream")]
)
async def test_the_file_says_what_it_is(pool: HttpPool, name: str, kind: str) -> None:
    async with HttpEndpoint(answering({"text": "x"})) as server:
        await SpeechToText(pool, STTSettings(url=server.url)).transcribe(b"abc", format=name)
        assert form(server.requests[0])["file"] == (f"audio.{name}", kind, b"abc")


async def test_a_transcription_that_failed_is_tried_again(pool: HttpPool) -> None:
    async with HttpEndpoint(in_turn(answering({}, 503), answering({"text": "x"}))) as server:
        assert (await SpeechToText(pool, STTSettings(url=server.url)).transcribe(AUDIO)).text == "x"
        assert len(server.requests) == 2


async def test_audio_that_cannot_be_read_is_rejected(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({"error": {"message": "bad audio"}}, 400)) as server:
        with pytest.raises(UpstreamRejected, match="bad audio"):
            await SpeechToText(pool, STTSettings(url=server.url)).transcribe(b"")


@pytest.mark.parametrize("answer", [{}, {"text": 3}, [], "text"])
async def test_what_is_no_transcription_is_an_error(pool: HttpPool, answer: object) -> None:
    async with HttpEndpoint(answering(answer)) as server:
        with pytest.raises(UpstreamProtocol):
            await SpeechToText(pool, STTSettings(url=server.url)).transcribe(AUDIO)


async def test_an_endpoint_that_takes_too_long_is_left(pool: HttpPool) -> None:
    async with HttpEndpoint(stalling) as server:
        stt = SpeechToText(pool, STTSettings(url=server.url, timeout=0.05))
        with pytest.raises(UpstreamTimeout):
            await stt.transcribe(AUDIO)


def test_two_forms_have_boundaries_of_their_own() -> None:
    one, two = (multipart({"a": "1"}, ("file", "f", "audio/wav", b"x"))[1] for _ in range(2))
    assert one != two
