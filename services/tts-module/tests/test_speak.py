"""Text to speech over NATS: in order, exact to the sample, in the formats asked for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.audio import PcmReader, read_wav_header
from handler_messages import TTSAudioChunk, TTSFullResponse, TTSRequest, TTSStatus
from handler_testkit.speaking import RATE, samples_of, spelling, stalling_midway, wav_sample, when

if TYPE_CHECKING:
    from conftest import Stack

    from handler_testkit.endpoints import Exchange

TEXT = "The first sentence. And here is a second one! Is there a third?"
SENTENCES = ["The first sentence.", "And here is a second one!", "Is there a third?"]


async def test_a_text_is_spoken_in_order_and_exact_to_the_sample(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        chunks = await session.spoken("r1", TEXT)
    session.check(chunks, SENTENCES)
    assert {(c.format, c.sample_rate, c.attempt, c.session_id) for c in chunks} == {("pcm", RATE, 1, "s1")}
    assert max(c.samples for c in chunks) == RATE * 200 // 1000
    assert session.told == [("r1", "started"), ("r1", "completed")]
    assert isinstance(session.all[0], TTSStatus)
    assert session.statuses[-1].message == f"{len(''.join(SENTENCES)) * 200 / RATE:.2f} s of speech"


async def test_a_slow_first_piece_holds_back_what_is_ready_before(stack: Stack) -> None:
    stack.voice(when({"first": spelling(interval=0.1)}, spelling()))
    async with stack.tts_module(TTS_PARALLEL="3"):
        session = await stack.session()
        chunks = await session.spoken("r1", TEXT)
        assert [body["input"] for body in stack.asked] == SENTENCES
    session.check(chunks, SENTENCES)


async def test_the_first_chunk_goes_out_before_the_audio_is_complete(stack: Stack) -> None:
    stack.voice(stalling_midway)
    async with stack.tts_module():
        session = await stack.session()
        await session.say("r1", "This never ends.")
        await session.until(lambda: session.chunks)
        first = session.chunks[0]
    assert (first.chunk_index, first.text, first.is_last) == (0, "This never ends.", False)


@pytest.mark.parametrize("milliseconds", [0, 40, 500])
async def test_the_size_of_chunks_is_a_setting(stack: Stack, milliseconds: int) -> None:
    stack.voice(spelling(size=320, interval=0.001))
    async with stack.tts_module(TTS_FIRST_CHUNK_MS=str(milliseconds), TTS_CHUNK_MS="100"):
        session = await stack.session()
        chunks = await session.spoken("r1", "A sentence that is long enough for it.")
    session.check(chunks, ["A sentence that is long enough for it."])
    full = RATE // 10
    if milliseconds == 0:
        assert chunks[0].samples < full // 4
    else:
        assert min(full, milliseconds * RATE // 1000) <= chunks[0].samples <= full
    assert {c.samples for c in chunks[1:-1]} == {full}


async def test_a_wav_stream_plays_when_its_chunks_are_joined(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        chunks = await session.spoken("r1", TEXT, format="wav")
    session.check(chunks, SENTENCES)
    assert {c.format for c in chunks} == {"wav"}
    reader = PcmReader()
    pcm = reader.feed(b"".join(c.audio for c in chunks))
    assert (reader.rate, pcm) == (RATE, samples_of("".join(SENTENCES)).tobytes())


@pytest.mark.parametrize(("asked", "got"), [("", "wav"), ("WAV", "wav"), ("pcm", "pcm")])
async def test_without_stream_there_is_one_answer(stack: Stack, asked: str, got: str) -> None:
    async with stack.tts_module():
        session = await stack.session()
        await session.say("r1", TEXT, stream=False, format=asked)
        await session.ended("r1")
        [answer] = [m for m in session.all if isinstance(m, TTSFullResponse)]
    expected = samples_of("".join(SENTENCES)).tobytes()
    assert (answer.request_id, answer.session_id, answer.format, answer.sample_rate) == (
        "r1",
        "s1",
        got,
        RATE,
    )
    assert answer.duration_seconds == len(expected) / 2 / RATE
    if got == "wav":
        header = read_wav_header(answer.audio)
        assert header is not None
        assert header.size == len(expected)
    assert answer.audio[-len(expected) :] == expected
    assert not session.chunks


async def mp3(exchange: Exchange) -> None:
    """Answer with what looks like MP3, whatever was asked for."""
    await exchange.head(200, {"content-type": "audio/mpeg"})
    await exchange.send(b"ID3" + exchange.request.json()["input"].encode())
    await exchange.send(b"!" * 5000)
    await exchange.end()


async def test_compressed_audio_passes_through(stack: Stack) -> None:
    stack.voice(mp3)
    async with stack.tts_module():
        session = await stack.session()
        chunks = await session.spoken("r1", "One. Two.", format="mp3")
        await session.say("r2", "One. Two.", format="mp3", stream=False)
        await session.ended("r2")
        [answer] = [m for m in session.all if isinstance(m, TTSFullResponse)]
    expected = b"ID3One." + b"!" * 5000 + b"ID3Two." + b"!" * 5000
    assert b"".join(c.audio for c in chunks) == answer.audio == expected
    assert {(c.format, c.sample_rate, c.samples, c.sample_offset) for c in chunks} == {("mp3", 0, 0, 0)}
    assert [c.text for c in chunks if c.text] == ["One.", "Two."]
    assert (answer.format, answer.duration_seconds) == ("mp3", 0)
    assert {body["response_format"] for body in stack.asked} == {"mp3"}


async def test_an_endpoint_that_has_only_another_format_is_taken_at_its_word(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        chunks = await session.spoken("r1", "One.", format="mp3")
        assert {c.format for c in chunks} == {"pcm"}
        await session.say("r2", "One.", format="mp3", stream=False)
        await session.ended("r2")
        [answer] = [m for m in session.all if isinstance(m, TTSFullResponse)]
        assert answer.format == "wav"
        stack.voice(mp3)
        chunks = await session.spoken("r3", "One.")
        assert {c.format for c in chunks} == {"mp3"}


async def test_a_format_whose_files_cannot_be_joined_is_spoken_in_one_piece(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        await session.spoken("r1", TEXT, format="flac")
        assert [body["input"] for body in stack.asked] == [TEXT]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_voice_that_changes_its_rate_within_a_text_is_an_error(stack: Stack, stream: bool) -> None:
    stack.voice(when({"second": spelling(rate=8000)}, spelling()))
    async with stack.tts_module():
        session = await stack.session()
        await session.say("r1", TEXT, stream=stream)
        status = await session.ended("r1")
    assert (status.status, status.error.type) == ("error", "upstream_protocol")
    assert "changed from pcm with 16000 Hz to pcm with 8000 Hz" in status.message


async def test_requests_of_one_session_come_one_after_the_other_and_sessions_side_by_side(
    stack: Stack,
) -> None:
    release = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await release.wait()
        await spelling()(exchange)

    stack.voice(when({"Wait": held}, spelling()))
    async with stack.tts_module():
        slow, fast = await stack.session("slow"), await stack.session("fast")
        await slow.say("a", "Wait for it.")
        await slow.say("b", "Then this.")
        await slow.say("c", "And this.")
        await fast.spoken("d", "Nothing to wait for.")
        assert slow.told == [("a", "started")]
        release.set()
        await slow.ended("c")
    assert slow.told == [(r, s) for r in "abc" for s in ("started", "completed")]
    assert [c.request_id for c in slow.chunks if c.is_last] == ["a", "b", "c"]


async def test_only_so_many_sessions_are_spoken_for_at_once(stack: Stack) -> None:
    stack.voice(when({"Stay": stalling_midway}, spelling()))
    async with stack.tts_module(TTS_SESSIONS="1"):
        first, second = await stack.session("s1"), await stack.session("s2")
        await first.say("a", "Stay.")
        await first.until(lambda: first.chunks)
        await second.say("b", "Go.")
        await stack.client.connection.publish_bytes("ai.voice.cancel.a", b"")
        await second.ended("b")
    statuses = [s.request_id for s in sorted(first.statuses + second.statuses, key=lambda s: s.timestamp)]
    assert statuses[-1] == "b"


async def test_a_text_of_signs_alone_is_complete_at_once(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        [chunk] = await session.spoken("r1", "🎉 … ***")
        assert (chunk.is_last, chunk.audio, chunk.total_chunks, chunk.format) == (True, b"", 1, "pcm")
        assert session.statuses[-1].message == "there is nothing in it that can be spoken"
        await session.say("r2", "🎉", stream=False)
        assert (await session.ended("r2")).status == "completed"
        assert stack.asked == []


@pytest.mark.parametrize(
    ("fields", "type_", "says"),
    [
        ({"text": "  "}, "invalid_request", "there is no text to speak"),
        ({"text": "x" * 101}, "too_large", "101 characters; 100 are accepted"),
        ({"format": "midi"}, "invalid_request", "format 'midi' is not one of pcm, wav"),
        ({"speaker_wav": wav_sample(1000)}, "too_large", "speaker_wav has 2044 bytes; 2000 are accepted"),
        ({"speaker_wav": b"no audio"}, "invalid_request", "speaker_wav is no audio file"),
        ({"speaker_wav": wav_sample(10)}, "invalid_request", "clones no voices"),
        ({"session_id": "other"}, "forbidden", "contradicts 's1' in the subject"),
        ({"request_id": "a.b"}, "invalid_request", "request_id"),
    ],
)
async def test_what_cannot_be_spoken_is_refused_with_a_reason(
    stack: Stack, fields: dict[str, Any], type_: str, says: str
) -> None:
    async with stack.tts_module(MAX_TEXT_CHARS="100", MAX_SPEAKER_WAV_BYTES="2000"):
        session, other = await stack.session(), await stack.session("other")
        request_id = fields.pop("request_id", "r1")
        await session.say(request_id, fields.pop("text", "Hello."), **fields)
        await session.until(lambda: session.statuses and session.statuses[-1].status == "error")
        status = session.statuses[-1]
        assert other.all == []
    assert (status.error.type, status.error.retryable, status.session_id) == (type_, False, "s1")
    assert says in status.message
    assert status.message == status.error.message


@pytest.mark.parametrize("headers", [{}, {"Content_Type": "text/html"}, {"Content_Type": "application/json"}])
async def test_what_cannot_be_read_is_told_too(stack: Stack, headers: dict[str, str]) -> None:
    async with stack.tts_module():
        session = await stack.session()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        await stack.client.connection.store("ai.voice.tts.request.s1", b"\xff\xff{", msg_id="x", headers=sent)
        await session.until(lambda: session.statuses)
        [status] = session.statuses
    assert (status.status, status.session_id) == ("error", "s1")
    assert status.request_id.startswith("AI_VOICE_TTS-")


async def test_a_client_that_speaks_json_is_answered_in_json(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        await stack.client.connection.store(
            "ai.voice.tts.request.s1",
            json.dumps({"request_id": "r1", "text": TEXT, "stream": True}).encode(),
            msg_id="1",
            headers={"Content-Type": "application/json"},
        )
        await session.ended("r1")
        assert {(m.headers or {})["Content-Type"] for m in session.heard.all} == {"application/json"}
        assert json.loads(session.heard.all[-1].data)["status"] == "completed"
    session.check(session.chunks, SENTENCES)


async def test_speech_can_be_read_from_the_stream_afterwards(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        await session.spoken("r1", "Hello.")
        js = stack.client.connection.jetstream
        stored = await js.get_last_msg("AI_VOICE_TTS", "ai.voice.tts.audio.s1")
        assert TTSAudioChunk.FromString(stored.data).is_last
        stored = await js.get_last_msg("AI_VOICE_TTS", "ai.voice.tts.status.s1")
        assert TTSStatus.FromString(stored.data).status == "completed"


async def test_the_same_request_id_twice_is_spoken_twice(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        await session.spoken("r1", "Hello.")
        await session.say("r1", "Hello.")
        await session.until(lambda: len(session.statuses) == 4)
        assert len([c for c in session.chunks if c.is_last]) == 2


async def test_a_request_without_an_id_gets_one(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        await stack.client.send("ai.voice.tts.request.s1", TTSRequest(text="Hello.", stream=True))
        await session.until(lambda: len(session.statuses) == 2)
        assert {m.request_id for m in session.all} == {session.statuses[0].request_id} != {""}
        assert session.pcm_of(session.chunks) == samples_of("Hello.")


async def test_a_session_that_cannot_be_one_is_a_dead_letter_and_harms_nobody(stack: Stack) -> None:
    async with stack.tts_module():
        dead, session = await stack.client.listen("ai.dlq.tts-module"), await stack.session()
        await stack.client.send("ai.voice.tts.request." + "x" * 200, TTSRequest(text="Hello."))
        assert ((await dead.next()).headers or {})["Dead-Letter-Type"] == "invalid_request"
        assert await session.spoken("r1", "Hello.")
