"""An endpoint that fails: tried again from the first chunk on, and told about when it is no use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from handler_messages import TTSFullResponse
from handler_testkit.endpoints import answering, in_turn, resetting, stalling
from handler_testkit.nats import nats_server
from handler_testkit.services import Client
from handler_testkit.speaking import breaking_midway, spelling, stalling_midway, when

if TYPE_CHECKING:
    from conftest import Stack

    from handler_testkit.endpoints import Script

TEXT = "The first sentence. And here is a second one! Is there a third?"
SENTENCES = ["The first sentence.", "And here is a second one!", "Is there a third?"]


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(breaking_midway, id="breaks midway"),
        pytest.param(stalling_midway, id="stalls midway"),
        pytest.param(resetting, id="resets"),
        pytest.param(stalling, id="does not answer"),
        pytest.param(answering({}, 503), id="503"),
    ],
)
async def test_a_sentence_that_fails_is_spoken_by_the_next_attempt_from_the_first_chunk_on(
    stack: Stack, failure: Script
) -> None:
    stack.voice(when({"second": in_turn(failure, spelling())}, spelling()))
    async with stack.tts_module(TTS_IDLE_TIMEOUT="0.3", TTS_TIMEOUT="0.5"):
        session = await stack.session()
        await session.say("r1", TEXT)
        assert (await session.ended("r1")).status == "completed"
    assert session.told == [("r1", "started"), ("r1", "started"), ("r1", "completed")]
    session.check([c for c in session.chunks if c.attempt == 2], SENTENCES)
    first = [c for c in session.chunks if c.attempt == 1]
    assert not any(c.is_last for c in first)
    assert [c.chunk_index for c in first] == list(range(len(first)))


async def test_an_endpoint_that_stays_away_is_told_after_the_last_attempt(stack: Stack) -> None:
    stack.voice(answering({"error": "no GPU"}, 503))
    async with stack.tts_module():
        session, dead = await stack.session(), await stack.client.listen("ai.dlq.tts-module")
        await session.say("r1", TEXT)
        status = await session.ended("r1")
        letter = await dead.next()
    assert (status.status, status.error.type, status.error.retryable) == (
        "error",
        "upstream_unavailable",
        True,
    )
    assert [s for _, s in session.told] == ["started"] * 3 + ["error"]
    assert (letter.headers or {})["Dead-Letter-Attempts"] == "3"
    assert session.chunks == []


async def test_a_text_that_the_endpoint_refuses_is_not_tried_again(stack: Stack) -> None:
    stack.voice(answering({"error": {"message": "voice nova is not loaded"}}, 400))
    async with stack.tts_module():
        session = await stack.session()
        await session.say("r1", "Hello.")
        status = await session.ended("r1")
    assert (status.error.type, len(stack.asked)) == ("upstream_rejected", 1)
    assert "voice nova is not loaded" in status.message


async def test_a_request_that_waited_behind_a_failed_one_is_spoken(stack: Stack) -> None:
    stack.voice(when({"refused": answering({}, 400)}, spelling()))
    async with stack.tts_module():
        session = await stack.session()
        await session.say("r1", "This is refused.")
        await session.say("r2", "This is not.")
        assert (await session.ended("r2")).status == "completed"


@pytest.mark.parametrize("kind", ["", "application/json"])
@pytest.mark.parametrize("stream", [True, False])
async def test_audio_that_does_not_fit_into_a_message_comes_in_several(
    stack: Stack, kind: str, stream: bool
) -> None:
    with nats_server(config="max_payload: 8192") as small:
        stack.nats = small
        async with Client(small.url) as stack.client, stack.tts_module(TTS_CHUNK_MS="10000"):
            session = await stack.session()
            payload = b'{"request_id": "r1", "text": "%b", "stream": %b}' % (
                TEXT.encode(),
                b"true" if stream else b"false",
            )
            headers = {"Content-Type": kind}
            if not kind:
                await session.say("r1", TEXT, stream=stream)
            else:
                await stack.client.connection.store(
                    "ai.voice.tts.request.s1", payload, msg_id="1", headers=headers
                )
            assert (await session.ended("r1")).status == "completed"
    session.check(session.chunks, SENTENCES)
    assert {c.format for c in session.chunks} == {"pcm" if stream else "wav"}
    sizes = [len(m.data) for m in session.heard.all if ".audio." in m.subject]
    assert 5000 < max(sizes) <= 8192


async def test_a_small_text_is_whole_even_where_messages_are_small(stack: Stack) -> None:
    with nats_server(config="max_payload: 8192") as small:
        stack.nats = small
        async with Client(small.url) as stack.client, stack.tts_module():
            session = await stack.session()
            await session.say("r1", "Hi.", stream=False)
            await session.ended("r1")
    assert [type(m) for m in session.all[1:2]] == [TTSFullResponse]


async def test_a_caption_that_takes_the_room_of_the_audio_is_left_out(stack: Stack) -> None:
    text = "ä" * 230 + "."
    with nats_server(config="max_payload: 3072") as small:
        stack.nats = small
        async with Client(small.url) as stack.client, stack.tts_module():
            session = await stack.session()
            chunks = await session.spoken("r1", text)
    assert chunks[-1].is_last
    assert not any(c.text for c in chunks)


async def test_a_restart_of_nats_midway_ends_the_speech_and_not_the_service(stack: Stack) -> None:
    """The stream is in memory and gone with it; what was at work says so to its end, and new requests are served."""
    stack.voice(when({"second": spelling(interval=0.1, size=1000)}, spelling()))
    async with stack.tts_module():
        session = await stack.session()
        await session.say("r1", TEXT)
        await session.until(lambda: any(c.text == SENTENCES[1] for c in session.chunks))
        await asyncio.to_thread(stack.nats.restart)
        assert (await session.ended("r1", 30)).status == "completed"
        assert [c.is_last for c in session.chunks][-1]
        session.check(await session.spoken("r2", TEXT), SENTENCES)
