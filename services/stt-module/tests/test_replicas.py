"""Two replicas as processes, 20 sessions at once: every word is written down, in order, whatever dies midway."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from typing import TYPE_CHECKING

import pytest

from handler_testkit.services import ServiceProcess, until
from handler_testkit.talking import answers, scaled, silence

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from conftest import Stack

    from handler_messages import STTTranscription
    from handler_testkit.talking import Audio, Talk

SESSIONS = 20
SENTENCES = (
    "This is the first sentence of all.",
    "And then the second one follows.",
    "Nobody knows what comes third.",
    "The fourth one is nearly the last.",
    "Here the story ends at last.",
)
STEP = 100


def peak(session: int, sentence: int) -> int:
    return 6000 + STEP * (session * len(SENTENCES) + sentence)


def recognise(audio: Audio) -> str:
    """Name the session and the sentence of which this audio is, by its loudest sample."""
    number = (audio.peak - 6000) / STEP
    if number != int(number):
        return f"part of something: {audio.peak}"
    session, sentence = divmod(int(number), len(SENTENCES))
    return f"session {session}, sentence {sentence}, {audio.seconds:.1f} s"


@contextlib.asynccontextmanager
async def two_replicas(stack: Stack) -> AsyncGenerator[list[ServiceProcess]]:
    environ = stack.environ(ACK_WAIT="1")
    del environ["HEALTH_PORT"]
    replicas = [ServiceProcess("stt_module", environ) for _ in range(2)]
    try:
        for replica in replicas:  # in a thread: the endpoint lives in this loop
            await asyncio.to_thread(replica.start)
        yield replicas
    finally:
        for replica in replicas:
            await asyncio.to_thread(replica.close)


async def tell(talk: Talk, session: int, speak: Callable[..., bytes], pace: float) -> None:
    await talk.start()
    for number, sentence in enumerate(SENTENCES):
        speech = scaled(speak(sentence), peak(session, number))
        await talk.say(speech + silence(0.8), ms=40, pace=pace)
    await talk.end()


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_20_sessions_are_complete_and_in_order_though_a_replica_is(
    stack: Stack, speak: Callable[..., bytes], how: str
) -> None:
    stack.transcribe = answers(recognise, delay=0.1)
    for sentence in SENTENCES:
        speak(sentence)
    async with two_replicas(stack) as replicas:
        talks = [await stack.talk(f"s{number}") for number in range(SESSIONS)]
        telling = [
            asyncio.create_task(tell(talk, number, speak, pace=0.4)) for number, talk in enumerate(talks)
        ]
        await asyncio.gather(*(talk.written(1) for talk in talks))
        # Every session has begun; most are in the middle of a sentence.
        if how == "killed":
            await asyncio.to_thread(replicas[0].kill)
        else:
            replicas[0].signal(signal.SIGTERM)
            assert await asyncio.to_thread(replicas[0].wait) == 0
        await asyncio.gather(*telling)
        for talk in talks:
            await talk.closed(60)
        logs = [replica.log() for replica in replicas]
    assert "Traceback" not in "".join(logs)
    # Both had sessions, and those of the first went on at the second.
    assert 0 < logs[1].count("taken over") < SESSIONS
    for session, talk in enumerate(talks):
        check(session, talk.said())


async def test_a_replica_that_was_only_out_of_reach_leaves_its_sessions_to_the_other(
    stack: Stack, speak: Callable[..., bytes]
) -> None:
    stack.transcribe = answers(recognise, delay=0.1)
    async with two_replicas(stack) as replicas:
        talks = [await stack.talk(f"s{number}") for number in range(6)]
        telling = [asyncio.create_task(tell(talk, number, speak, 0.6)) for number, talk in enumerate(talks)]
        await asyncio.gather(*(talk.written(1) for talk in talks))
        replicas[0].signal(signal.SIGSTOP)
        async with asyncio.timeout(20):
            while "taken over" not in replicas[1].log():
                await asyncio.sleep(0.02)
        replicas[0].signal(signal.SIGCONT)
        await asyncio.gather(*telling)
        for talk in talks:
            await talk.closed(60)
        logs = [replica.log() for replica in replicas]
    assert "another replica is at work on this session" in logs[0]
    for session, talk in enumerate(talks):
        check(session, talk.said())


async def test_nats_may_be_away_for_longer_than_a_replica_may_be_silent(
    stack: Stack, speak: Callable[..., bytes]
) -> None:
    """What is in memory is lost; what is said afterwards is written down once, by whoever has the session then."""
    stack.transcribe = answers(recognise, delay=0.1)
    async with two_replicas(stack) as replicas:
        talks = [await stack.talk(f"s{number}") for number in range(6)]
        for session, talk in enumerate(talks):
            await talk.start()
            await talk.say(scaled(speak(SENTENCES[0]), peak(session, 0)) + silence(0.8))
            await talk.written(1)
        await asyncio.to_thread(stack.nats.stop)
        await asyncio.sleep(2.5)  # more than twice ACK_WAIT
        await asyncio.to_thread(stack.nats.start)
        for replica in replicas:
            async with asyncio.timeout(20):
                while not (await asyncio.to_thread(replica.probe, "/readyz")).get("ready"):
                    await asyncio.sleep(0.02)
        await until(lambda: stack.client.connection.connected)
        # Who is at work on what settles while nothing is said.
        await asyncio.gather(*(talk.say(silence(3), pace=1) for talk in talks))
        for session, talk in enumerate(talks):
            await talk.say(scaled(speak(SENTENCES[1]), peak(session, 1)) + silence(0.8))
            await talk.end()
        for talk in talks:
            await talk.closed(60)
    for session, talk in enumerate(talks):
        texts = [one.text.rsplit(", ", 1)[0] for one in talk.finals()]
        assert texts == [f"session {session}, sentence {number}" for number in (0, 1)]
        assert sum(one.session_end for one in talk.said()) == 1


def check(session: int, said: list[STTTranscription]) -> None:
    finals = [one for one in said if one.is_final]
    assert [one.text.rsplit(", ", 1)[0] for one in finals] == [
        f"session {session}, sentence {number}" for number in range(len(SENTENCES))
    ]
    assert [one.utterance for one in finals] == list(range(len(SENTENCES)))
    assert [one.sequence for one in said] == sorted({one.sequence for one in said})
    assert [one.session_end for one in said] == [False] * (len(said) - 1) + [True]
    for before, after in itertools.pairwise(finals):
        assert before.end_ms < after.start_ms
        assert before.checkpoint.position < after.checkpoint.position
