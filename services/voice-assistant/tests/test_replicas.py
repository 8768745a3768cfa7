"""Replicas of voice-assistant as processes: one dies, the other goes on with what it did."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from handler_base.audio import wav
from handler_messages import TTSAudioChunk, VoiceRequest, VoiceResponse
from handler_testkit.services import ServiceProcess
from handler_testkit.voice import ANSWER, QUESTION, RATE, answers, tone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Session, Stack

TEXT = "".join(ANSWER)


@pytest.fixture
def replicas(stack: Stack) -> Iterator[list[ServiceProcess]]:
    environ = {**stack.environ(), "ACK_WAIT": "1"}
    del environ["HEALTH_PORT"]
    made = [ServiceProcess("voice_assistant", environ) for _ in range(2)]
    yield made
    for process in made:
        process.close()


async def test_a_conversation_goes_on_when_its_replica_is_killed_in_the_middle_of_an_answer(
    stack: Stack, session: Session, replicas: list[ServiceProcess]
) -> None:
    first, second = replicas
    stack.llm(answers(gate=asyncio.Event()))
    await asyncio.to_thread(first.start)
    await session.open(user_id="ada")
    await session.say(QUESTION)
    await session.until_audio()
    await asyncio.to_thread(second.start)
    stack.llm(answers())
    await asyncio.to_thread(first.kill)
    await session.stream.until(lambda _: session.states[-1] == "listening", 15)
    await session.say("And dogs?")
    await session.until_status("completed", 2)
    turns = await stack.history("ada", session.id)
    assert [(t.question, t.answer, t.interrupted) for t in turns] == [
        (QUESTION, TEXT, False),
        ("And dogs?", TEXT, False),
    ]
    assert [r.response for r in session.results] == [TEXT, TEXT]
    generations = [chunk.generation for chunk in session.chunks]
    assert generations == sorted(generations)
    whole = [c for c in session.chunks if c.generation == session.results[0].generation]
    assert [c.chunk_index for c in whole] == list(range(len(whole)))
    assert whole[-1].is_last


async def test_a_request_is_answered_once_when_its_replica_is_killed_in_the_middle_of_it(
    stack: Stack, replicas: list[ServiceProcess]
) -> None:
    first, second = replicas
    stack.llm(answers(gate=asyncio.Event()))
    await asyncio.to_thread(first.start)
    answered = await stack.client.listen("ai.voice.response.r1")
    spoken = await stack.client.listen("ai.voice.response.stream.r1")
    request = VoiceRequest(request_id="r1", audio=wav(tone(1, 100), RATE), stream=True)
    await stack.client.send("ai.voice.user.ada.request", request)
    await spoken.next()
    await asyncio.to_thread(second.start)
    stack.llm(answers())
    await asyncio.to_thread(first.kill)
    answer = VoiceResponse.FromString((await answered.next(20)).data)
    assert answer.response == TEXT
    chunks = [TTSAudioChunk.FromString(m.data) for m in spoken.all]
    again = [chunk for chunk in chunks if chunk.attempt == 2]
    assert [chunk.chunk_index for chunk in again] == list(range(len(again)))
    assert again[-1].is_last
    assert len(answered.all) == 1
