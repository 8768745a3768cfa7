"""Speech in, an answer with sources out as speech."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from handler_base.audio import wav, wav_header
from handler_base.messaging import wire
from handler_messages import CancelRequest, ErrorResponse, STTInterrupt, VoiceRequest, VoiceResponse
from handler_testkit.endpoints import answering, in_turn, resetting, stalling
from handler_testkit.voice import (
    ANSWER,
    QUESTION,
    RATE,
    answers,
    chunks_of,
    pcm_of,
    speaks,
    tone,
    transcribes,
)

if TYPE_CHECKING:
    from conftest import Stack


TEXT = "".join(ANSWER)


async def test_a_spoken_question_is_answered_with_text_speech_sources_and_timings(stack: Stack) -> None:
    async with stack.assistant():
        answer = await stack.ask(user_id="ada", session_id="s1", request_id="r1", format="wav")
    assert (answer.transcription, answer.response) == (QUESTION, TEXT)
    assert (answer.request_id, answer.user_id, answer.session_id) == ("r1", "ada", "s1")
    assert [s.title for s in answer.sources] == ["Cats", "Dogs"]
    assert (answer.model, answer.finish_reason) == ("m1", "stop")
    assert stack.said() == ["Cats sleep sixteen hours a day.", "Dogs sleep less than that."]
    assert (answer.audio_format, answer.sample_rate) == ("wav", RATE)
    assert pcm_of(answer.audio) == tone(1, 31 * 80) + tone(2, 26 * 80)
    names = ["speech_end", "transcript", "first_token", "first_clause", "first_audio", "total"]
    assert [answer.timings[name] for name in names] == sorted(answer.timings[name] for name in names)
    assert {"embed", "search", "history", "llm"} <= set(answer.timings)
    assert list(answer.warnings) == []


async def test_the_transcription_reaches_the_model_with_what_was_said_before(stack: Stack) -> None:
    async with stack.assistant():
        await stack.ask(user_id="ada", session_id="s2", request_id="r1")
        stack.stt(transcribes("And dogs?"))
        await stack.ask(user_id="ada", session_id="s2", request_id="r2")
    first, second = stack.prompts()
    assert first[-1] == {"role": "user", "content": QUESTION}
    assert "spoken" in first[0]["content"]
    assert "Cats sleep sixteen hours a day." in first[0]["content"]
    assert [m["content"] for m in second[1:]] == [QUESTION, TEXT, "And dogs?"]


async def test_speech_is_sent_before_the_answer_is_complete(stack: Stack) -> None:
    gate = asyncio.Event()
    stack.llm(answers(gate=gate))
    async with stack.assistant():
        heard = await stack.client.listen("ai.voice.response.stream.r1")
        asking = asyncio.create_task(stack.ask(request_id="r1", stream=True))
        await heard.until(lambda all_: any(chunk.audio for chunk in chunks_of(heard)))
        assert not asking.done()
        gate.set()
        answer = await asking
        await heard.until(lambda all_: chunks_of(heard)[-1].is_last)
    chunks = chunks_of(heard)
    assert [c.chunk_index for c in chunks] == list(range(len(chunks)))
    assert chunks[-1].total_chunks == len(chunks)
    assert {(c.request_id, c.attempt, c.format, c.sample_rate) for c in chunks} == {("r1", 1, "pcm", RATE)}
    offset = 0
    for chunk in chunks:
        assert chunk.sample_offset == offset
        assert chunk.samples * 2 == len(chunk.audio)
        offset += chunk.samples
    assert b"".join(c.audio for c in chunks) == pcm_of(answer.audio)
    assert [c.text for c in chunks if c.text] == stack.said()


async def test_a_durable_request_is_answered_once_on_its_own_subject(stack: Stack) -> None:
    async with stack.assistant():
        heard = await stack.client.listen("ai.voice.response.r5")
        request = VoiceRequest(request_id="r5", audio=wav(tone(1, 100), RATE))
        for _ in range(2):
            await stack.client.send("ai.voice.user.ada.request", request)
        answer = VoiceResponse.FromString((await heard.next()).data)
        other = VoiceRequest(
            request_id="r6", audio=wav(tone(1, 100), RATE), response_subject="somewhere.else"
        )
        elsewhere = await stack.client.listen("somewhere.else")
        await stack.client.send("ai.voice.user.ada.request", other)
        await elsewhere.next()
    assert (answer.user_id, answer.response) == ("ada", TEXT)
    assert len(heard.all) == 1


async def test_json_clients_get_json(stack: Stack) -> None:
    import base64

    async with stack.assistant():
        body = {"audio": base64.b64encode(wav(tone(1, 100), RATE)).decode()}
        reply = await stack.client.connection.request_bytes(
            "voice.request", json.dumps(body).encode(), timeout=10, headers={"Content-Type": wire.JSON}
        )
    answer = json.loads(reply.data)
    assert answer["response"] == TEXT
    assert base64.b64decode(answer["audio"])[:4] == b"RIFF"


async def test_without_a_voice_the_answer_comes_as_text_with_a_warning(stack: Stack) -> None:
    stack.tts(answering({"error": {"message": "no such voice: tom; known: slt, rms"}}, 400))
    async with stack.assistant():
        answer = await stack.ask(speaker="tom")
    assert answer.response == TEXT
    assert answer.audio == b""
    assert any("known: slt, rms" in warning for warning in answer.warnings)
    assert stack.asked("/tts/v1/audio/speech")[0]["voice"] == "tom"


async def test_without_a_knowledge_base_the_answer_comes_with_a_warning(stack: Stack) -> None:
    stack.routes["/embeddings/v1/embeddings"] = answering({}, 500)
    async with stack.assistant():
        answer = await stack.ask()
        assert answer.response == TEXT
        assert any("knowledge base" in warning for warning in answer.warnings)
        assert list((await stack.ask(enable_rag=False)).warnings) == []


async def test_speech_that_does_not_fit_into_a_message_comes_in_chunks(stack: Stack) -> None:
    stack.tts(speaks(seconds_per_letter=2.0))
    async with stack.assistant():
        heard = await stack.client.listen("ai.voice.response.stream.r7")
        answer = await stack.ask(request_id="r7")
        await heard.until(lambda all_: bool(all_) and chunks_of(heard)[-1].is_last)
    assert answer.audio == b""
    assert any("ai.voice.response.stream.r7" in warning for warning in answer.warnings)
    chunks = chunks_of(heard)
    assert sum(chunk.samples for chunk in chunks) == 57 * 2 * RATE
    assert len(chunks) > 10


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"audio": b""}, "no audio"),
        ({"audio": b"hello, is this audio?"}, "no WAV, FLAC"),
        ({"audio": b"hello, is this audio?", "format": "wav"}, "labelled 'wav'"),
        ({"audio": b"\1\0" * 50, "format": "pcm"}, "sample_rate"),
        ({"audio": b"RIFF"}, "no WAV"),
        ({"audio": wav_header(RATE)}, "no samples"),
    ],
)
async def test_what_cannot_be_heard_is_refused_in_words(stack: Stack, fields: dict, says: str) -> None:
    async with stack.assistant():
        answer = await stack.ask_any(**fields)
    assert isinstance(answer, ErrorResponse)
    assert (answer.type, answer.retryable) == ("invalid_request", False)
    assert says in answer.message
    assert stack.endpoint.requests == [r for r in stack.endpoint.requests if r.method == "GET"]


async def test_silence_is_answered_with_an_error_that_says_so(stack: Stack) -> None:
    stack.stt(transcribes("  "))
    async with stack.assistant():
        answer = await stack.ask_any()
    assert isinstance(answer, ErrorResponse)
    assert "no speech" in answer.message


async def test_more_audio_than_allowed_is_too_large(stack: Stack) -> None:
    async with stack.assistant(MAX_AUDIO_SECONDS="1", MAX_AUDIO_BYTES="60000"):
        for fields in ({"audio": wav(bytes(RATE * 4), RATE)}, {"audio": b"fLaC" + bytes(70000)}):
            answer = await stack.ask_any(**fields)
            assert isinstance(answer, ErrorResponse)
            assert answer.type == "too_large"


async def test_an_endpoint_that_cannot_read_the_audio_is_quoted(stack: Stack) -> None:
    stack.stt(answering({"error": {"message": "cannot decode"}}, 400))
    async with stack.assistant():
        answer = await stack.ask_any(audio=b"OggS" + bytes(100))
    assert isinstance(answer, ErrorResponse)
    assert answer.type == "upstream_rejected"
    assert "cannot decode" in answer.message


async def test_a_durable_request_is_tried_again_when_the_model_fails(stack: Stack) -> None:
    stack.llm(in_turn(resetting, answers()))
    async with stack.assistant():
        heard = await stack.client.listen("ai.voice.response.r8")
        await stack.client.send(
            "ai.voice.user.ada.request", VoiceRequest(request_id="r8", audio=wav(tone(1, 100), RATE))
        )
        answer = VoiceResponse.FromString((await heard.next()).data)
    assert answer.response == TEXT


@pytest.mark.parametrize("where", ["stt", "llm", "tts"])
async def test_a_cancel_closes_the_connections_to_the_endpoints(stack: Stack, where: str) -> None:
    getattr(stack, where)(stalling)
    paths = {
        "stt": "/whisper/v1/audio/transcriptions",
        "llm": "/llm/v1/chat/completions",
        "tts": "/tts/v1/audio/speech",
    }
    async with stack.assistant():
        asking = asyncio.create_task(stack.ask_any(request_id="r9"))
        await stack.endpoint.wait(lambda: any(r.path == paths[where] for r in stack.endpoint.requests))
        await stack.client.connection.publish("ai.voice.cancel.r9", CancelRequest(request_id="r9"))
        answer = await asking
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "cancelled"
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects >= 1)


async def test_an_interrupt_of_its_session_stops_a_request_and_history_has_what_was_sent(
    stack: Stack,
) -> None:
    stack.llm(answers(gate=asyncio.Event()))
    async with stack.assistant():
        heard = await stack.client.listen("ai.voice.response.stream.r1")
        asking = asyncio.create_task(
            stack.ask_any(request_id="r1", user_id="ada", session_id="s9", stream=True)
        )
        await heard.until(lambda all_: any(chunk.audio for chunk in chunks_of(heard)))
        await stack.client.connection.publish("ai.voice.interrupt.s9", STTInterrupt(session_id="s9"))
        answer = await asking
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "cancelled"
        await heard.until(lambda all_: chunks_of(heard)[-1].is_last)
        (turn,) = await stack.history("ada", "s9")
    assert (turn.answer, turn.interrupted) == ("Cats sleep sixteen hours a day.", True)


async def test_a_truncated_recording_is_heard_as_far_as_it_goes(stack: Stack) -> None:
    async with stack.assistant():
        answer = await stack.ask(audio=wav(tone(1, RATE), RATE)[:-4000])
    assert any("cut off" in warning for warning in answer.warnings)
    sent = next(r for r in stack.endpoint.requests if r.path.startswith("/whisper/v1"))
    file = sent.body[sent.body.index(b"RIFF") :]
    assert int.from_bytes(file[40:44], "little") == RATE * 2 - 4000


async def test_the_bytes_are_believed_and_not_the_label(stack: Stack) -> None:
    async with stack.assistant():
        await stack.ask(audio=b"fLaC" + bytes(100), format="wav")
        await stack.ask(audio=tone(1, 101) + b"x", format="pcm", sample_rate=44100)
    flac, raw = (r.body for r in stack.endpoint.requests if r.path.startswith("/whisper/v1"))
    assert b'filename="audio.flac"' in flac
    assert wav(tone(1, 101), 44100) in raw
