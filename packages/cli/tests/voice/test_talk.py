"""`handlers talk` against the real server and a scripted voice-assistant."""

from __future__ import annotations

import asyncio
import io
import wave

import pytest

from handler_base.audio import wav
from handler_messages import CancelRequest, ErrorResponse, VoiceRequest, VoiceResponse
from handler_testkit.nats import nats_server
from handler_testkit.services import until
from handlers_cli.voice.talk import Talking, talk

USER = "ai.voice.user.ada.request"
PLAIN = "voice.request"


def speech(seconds: float, value: int = 1) -> bytes:
    return value.to_bytes(2, "little") * int(16000 * seconds)


def frames(path) -> bytes:
    with wave.open(str(path)) as reader:
        return reader.readframes(reader.getnframes())


def response(request: VoiceRequest, **fields: object) -> VoiceResponse:
    answer = VoiceResponse(
        request_id=request.request_id, transcription="How high is the tower?", response="120 metres.", **fields
    )  # fmt: skip
    answer.sources.add(title="Guide", uri="docs/guide.md", score=0.875)
    return answer


@pytest.fixture
def run(bus, terminal, question, tmp_path):
    async def run(path: str = "", **options: object) -> int:
        interrupt = options.pop("interrupt", None) or asyncio.Event()
        options.setdefault("output", str(tmp_path / "answer.wav"))
        options.setdefault("nats_url", bus.url)
        async with asyncio.timeout(30):
            return await talk(Talking(path or str(question), **options), terminal, interrupt)

    return run


@pytest.fixture
def assistant(bus):
    """Answer every question with pieces of speech, then the response."""

    async def assistant(*pieces: bytes, subject: str = PLAIN, **fields: object):
        async def script(request: VoiceRequest) -> VoiceResponse | None:
            stream = f"ai.voice.response.stream.{request.request_id}"
            await bus.chunks(stream, request.request_id, *pieces)
            answer = response(request, **fields)
            if subject == PLAIN:
                return answer
            await bus.publish(f"ai.voice.response.{request.request_id}", answer)
            return None

        return await bus.serve(subject, VoiceRequest, script)

    return assistant


async def test_what_was_heard_the_answer_its_sources_and_timings_are_shown(
    run, assistant, terminal, tmp_path
) -> None:
    timings = {
        "total": 1.9,
        "first_audio": 0.61,
        "transcript": 0.31,
        "first_token": 0.42,
        "rerank": 0.02,
        "speech_end": 0.0,
    }
    await assistant(
        speech(0.2), speech(0.1, 2), timings=timings, warnings=["the reranker is down"], model="m"
    )
    assert await run() == 0
    heard, answer, _, sources, source, _, times, here = terminal.said.splitlines()
    assert heard == "Heard:  How high is the tower?"
    assert answer == "Answer: 120 metres."
    assert sources == "Sources"
    assert source.split() == ["[1]", "Guide", "0.88", "docs/guide.md"]
    assert times == (
        "transcript 0.31 s · first token 0.42 s · first audio 0.61 s · total 1.90 s · steps: rerank 0.02 s · m"
    )
    assert here.startswith("here: first audio 0.")
    assert here.endswith(f" s · 0.3 s of speech · {tmp_path / 'answer.wav'}")
    assert "the reranker is down" in terminal.noted
    assert frames(tmp_path / "answer.wav") == speech(0.2) + speech(0.1, 2)


async def test_the_file_goes_out_as_it_is_with_the_options(run, assistant, question) -> None:
    requests = await assistant(speech(0.1))
    await run()
    await run(session="s", voice="slt", language="de", collection="c", rag=False)
    plain, full = requests
    assert plain.audio == question.read_bytes()
    assert (plain.format, plain.sample_rate, plain.stream) == ("wav", 16000, True)
    assert not plain.HasField("enable_rag")
    assert (full.session_id, full.speaker, full.language, full.collection) == ("s", "slt", "de", "c")
    assert full.HasField("enable_rag")
    assert not full.enable_rag


async def test_a_users_question_goes_through_the_stream(run, assistant, bus, terminal, tmp_path) -> None:
    requests = await assistant(speech(0.1), subject=USER)
    assert await run(user="ada") == 0
    assert requests[0].user_id == "ada"
    assert "Answer: 120 metres." in terminal.said
    assert "no voice-assistant runs now; the question is stored and waits" in terminal.noted
    info = await bus.client.connection.jetstream.stream_info("AI_VOICE_REQUESTS")
    assert info.state.messages == 1


async def test_the_answer_is_played_while_it_comes(run, bus, terminal, programs) -> None:
    programs.add("paplay")

    async def script(request: VoiceRequest) -> VoiceResponse:
        stream = f"ai.voice.response.stream.{request.request_id}"
        await bus.chunks(stream, request.request_id, speech(0.1))
        await until(lambda: programs.played == speech(0.1))
        return response(request)

    await bus.serve(PLAIN, VoiceRequest, script)
    assert await run(output="") == 0
    assert programs.calls == ["paplay --raw --format=s16le --channels=1 --rate=16000"]
    assert "played by paplay" in terminal.said


async def test_audio_in_the_response_is_taken_when_none_came_before(
    run, bus, terminal, tmp_path, monkeypatch
) -> None:
    async def script(request: VoiceRequest) -> VoiceResponse:
        return response(request, audio=wav(speech(0.3), 16000), audio_format="wav", sample_rate=16000)

    await bus.serve(PLAIN, VoiceRequest, script)
    assert await run() == 0
    assert frames(tmp_path / "answer.wav") == speech(0.3)


async def test_an_answer_without_audio_is_shown_and_the_missing_file_is_an_error(
    run, bus, terminal, tmp_path
) -> None:
    async def script(request: VoiceRequest) -> VoiceResponse:
        return response(request, warnings=["text to speech is down"])

    await bus.serve(PLAIN, VoiceRequest, script)
    assert await run() == 1
    assert "Answer: 120 metres." in terminal.said
    assert "text to speech is down" in terminal.noted
    assert "no audio came with the answer" in terminal.noted
    assert not (tmp_path / "answer.wav").exists()


async def test_standard_output_takes_the_audio_and_nothing_else(run, assistant, terminal) -> None:
    await assistant(speech(0.1))
    assert await run(output="-") == 0
    with wave.open(io.BytesIO(terminal.binary)) as reader:
        assert reader.getnframes() == 1600
    assert terminal.said == ""
    assert "Answer: 120 metres." in terminal.noted


@pytest.mark.parametrize("user", ["", "ada"])
async def test_an_error_of_the_service_is_said_with_its_type(run, bus, terminal, user: str) -> None:
    async def script(request: VoiceRequest) -> ErrorResponse | None:
        error = ErrorResponse(error=True, message="nothing was said", type="invalid_request")
        if not user:
            return error
        await bus.publish(f"ai.voice.response.{request.request_id}", error)
        return None

    await bus.serve(USER if user else PLAIN, VoiceRequest, script)
    assert await run(user=user) == 1
    assert "nothing was said (invalid_request)" in terminal.noted


async def test_ctrl_c_cancels_at_the_far_end(run, bus, terminal) -> None:
    interrupt = asyncio.Event()
    cancels = await bus.client.listen("ai.voice.cancel.*")

    async def script(request: VoiceRequest) -> ErrorResponse:
        interrupt.set()
        message = await cancels.next()
        assert CancelRequest.FromString(message.data).request_id == request.request_id
        return ErrorResponse(error=True, message="cancelled", type="cancelled")

    await bus.serve(PLAIN, VoiceRequest, script)
    assert await run(interrupt=interrupt) == 130
    assert terminal.noted == "cancelled\n"


async def test_nobody_listening_is_said_at_once(run, terminal) -> None:
    assert await run() == 3
    assert "nobody listens on voice.request" in terminal.noted
    assert "voice-assistant" in terminal.noted


@pytest.mark.parametrize(("option", "value"), [("user", "a b"), ("session", "a.b")])
async def test_ids_that_cannot_be_in_a_subject_are_refused(run, terminal, option: str, value: str) -> None:
    assert await run(**{option: value}) == 2
    assert f"--{option}" in terminal.noted


async def test_a_truncated_file_is_repaired_and_told(run, assistant, terminal, question) -> None:
    question.write_bytes(question.read_bytes()[: 44 + 16001])
    requests = await assistant(speech(0.1))
    assert await run() == 0
    with wave.open(io.BytesIO(requests[0].audio)) as reader:
        assert reader.getnframes() == 8000
    assert "it ends after 0.5 s of the 1.0 s" in terminal.noted


@pytest.fixture
async def narrow(terminal, monkeypatch):
    """A server that takes 100 kB a message: three seconds of speech at 16 kHz."""
    with nats_server(config="max_payload: 100000\n") as server:
        yield server


async def test_audio_that_is_too_large_is_brought_down_to_16_khz(narrow, bus, run, tmp_path) -> None:
    path = tmp_path / "studio.wav"
    path.write_bytes(wav(bytes(4 * 48000), 48000, channels=2))
    bus = type(bus)(narrow.url)
    async with bus.client:

        async def script(request: VoiceRequest) -> VoiceResponse:
            return response(request, audio=speech(0.1), audio_format="pcm", sample_rate=16000)

        requests = await bus.serve(PLAIN, VoiceRequest, script)
        assert await run(str(path), nats_url=narrow.url) == 0
    with wave.open(io.BytesIO(requests[0].audio)) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getnframes()) == (16000, 1, 16000)
    assert requests[0].sample_rate == 16000


async def test_audio_that_is_too_long_is_told_with_what_to_do(narrow, run, terminal, tmp_path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(wav(bytes(2 * 16000 * 10), 16000))
    assert await run(str(path), nats_url=narrow.url) == 1
    assert "is 10 s long, and the server takes 100.0 kB a message: at most 3 s of speech" in terminal.noted
    assert "--live" in terminal.noted
    assert "(too_large)" in terminal.noted


async def test_without_its_stream_a_users_question_is_refused(nats, run, terminal) -> None:
    with nats_server() as empty:
        assert await run(user="ada", nats_url=empty.url) == 3
    assert f"no stream for {USER}" in terminal.noted


async def test_a_stream_alone_is_enough_for_a_users_question_to_wait(run, terminal, monkeypatch) -> None:
    monkeypatch.setattr("handlers_cli.exchange.MARGIN_SECONDS", 0.0)
    assert await run(user="ada", timeout=0.1) == 1
    assert "the question stays in its stream" in terminal.noted
