"""What is published of a session is read again, so that whoever takes it over goes on behind that."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from handler_base.config import load
from handler_base.messaging.context import Context
from handler_base.messaging.streams import ensure_streams
from handler_messages import STTCheckpoint, STTStreamMessage, STTTranscription
from handler_testkit.services import until
from stt_module import takeover
from stt_module.config import STTModuleSettings
from stt_module.events import Checkpoint
from stt_module.sessions import Sessions

if TYPE_CHECKING:
    from conftest import Stack

SUBJECT = "ai.voice.transcription.s1"


def context_of(stack: Stack, *, age: float = 1.0, attempt: int = 2, request_id: str = "r1") -> Context:
    context = Context(
        stack.client.connection,
        subject="ai.voice.session.s1",
        session_id="s1",
        request_id=request_id,
        attempt=attempt,
        durable=True,
    )
    context.published = time.time() - age
    return context


async def store(stack: Stack, context: Context, what: str, **fields: Any) -> None:
    await ensure_streams(stack.client.connection.jetstream, ["AI_VOICE_STREAM"])
    said = STTTranscription(session_id="s1", **fields)
    await stack.client.connection.store(
        SUBJECT, said.SerializeToString(), msg_id=f"{takeover.start_id(context)}.{what}"
    )


async def test_speakers_go_on_behind_their_last_final_transcription(stack: Stack) -> None:
    context = context_of(stack)
    for number, who in enumerate(["ada", "bob", "ada"]):
        at = STTCheckpoint(sequence=10 * number, sample=number, position=1000 * number, sample_rate=16000)
        await store(
            stack, context, f"{who}.{number}",
            sequence=number, is_final=True, speaker_id=who, utterance=number, checkpoint=at,
        )  # fmt: skip
    await store(stack, context, "partial", sequence=7, speaker_id="ada", utterance=3)
    found = await takeover.read(stack.client.connection, context)
    assert (found.sequence, found.first_number, found.ended) == (8, 0, False)
    ada, bob = found.speakers["ada"], found.speakers["bob"]
    assert (ada.number, ada.checkpoint) == (3, Checkpoint(20, 2, 2000, 16000))
    assert (bob.number, bob.checkpoint) == (2, Checkpoint(10, 1, 1000, 16000))
    assert abs(ada.published - time.time()) < 5


async def test_what_another_start_of_the_session_published_is_not_ours(stack: Stack) -> None:
    ours, other = context_of(stack), context_of(stack, request_id="r2")
    await store(stack, other, "x.0", sequence=5, is_final=True, speaker_id="ada", utterance=4)
    await store(stack, other, "end", sequence=6, session_end=True)
    found = await takeover.read(stack.client.connection, ours)
    assert (found.sequence, found.speakers, found.ended) == (7, {}, False)


async def test_what_cannot_be_read_is_passed_over(stack: Stack) -> None:
    context = context_of(stack)
    await store(stack, context, "x.0", sequence=5, is_final=True)
    await stack.client.connection.store(SUBJECT, b"\xff\xff", msg_id="garbage")
    assert (await takeover.read(stack.client.connection, context)).sequence == 6


async def test_a_session_that_was_quiet_for_long_goes_on_above_whatever_it_had(stack: Stack) -> None:
    found = await takeover.read(stack.client.connection, context_of(stack, age=400))
    assert found.first_number == 400
    assert found.sequence == 400 * takeover.PER_SECOND


async def test_a_session_whose_end_is_published_is_not_worked_on_again(stack: Stack) -> None:
    context = context_of(stack)
    await store(stack, context, "end", session_end=True)
    sessions = Sessions(stack.client.connection, load(STTModuleSettings, stack.environ()), None)  # pyright: ignore[reportArgumentType]
    async with asyncio.timeout(5):
        await sessions.run(context, STTStreamMessage(type="start"))


async def test_a_replica_leaves_a_session_that_another_one_announces(stack: Stack) -> None:
    async with stack.stt_module(MAX_ATTEMPTS="3") as service:
        talk = await stack.talk()
        await talk.start()
        await until(lambda: service.in_flight == 1)
        await talk.send(type=takeover.TAKEOVER, sequence=1)  # our own, or an older one
        await asyncio.sleep(0.1)
        assert service.in_flight == 1
        await takeover.announce(stack.client.connection, context_of(stack, attempt=2))
        await until(lambda: service.in_flight == 0)
        info = await stack.client.connection.jetstream.consumer_info(
            "AI_VOICE_SESSIONS", "stt-module-voice-session"
        )
        assert info.num_ack_pending == 1
        assert not talk.said()


async def test_a_takeover_says_which_attempt_it_is(stack: Stack) -> None:
    heard = await stack.client.listen("ai.voice.stream.s1")
    await takeover.announce(stack.client.connection, context_of(stack, attempt=3))
    message = STTStreamMessage.FromString((await heard.next()).data)
    assert (message.session_id, message.type, message.sequence) == ("s1", "takeover", 3)


def test_a_start_is_known_by_more_than_the_session(stack: Stack) -> None:
    one, two = context_of(stack, age=1), context_of(stack, age=2)
    assert takeover.start_id(one) != takeover.start_id(two)
    assert takeover.start_id(one).startswith("s1.r1.")
