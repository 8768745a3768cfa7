"""Replicas as processes: one that dies while it speaks is replaced, and nothing is spoken twice."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING

from handler_testkit.services import ServiceProcess
from handler_testkit.speaking import spelling, when

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from conftest import Session, Stack

TEXT = "The first sentence. And here is a second one! Is there a third?"
SENTENCES = ["The first sentence.", "And here is a second one!", "Is there a third?"]


@contextlib.asynccontextmanager
async def replicas(stack: Stack, number: int) -> AsyncGenerator[list[ServiceProcess]]:
    environ = stack.environ(ACK_WAIT="1", MAX_ATTEMPTS="10")
    del environ["HEALTH_PORT"]
    running = [ServiceProcess("tts_module", environ) for _ in range(number)]
    try:
        for replica in running:  # in a thread: the endpoints live in this loop
            await asyncio.to_thread(replica.start)
        yield running
    finally:
        for replica in running:
            await asyncio.to_thread(replica.close)


async def all_settled(stack: Stack) -> None:
    """Wait until nothing is at work and nothing would be delivered again."""
    async with asyncio.timeout(20):
        while True:
            info = await stack.client.connection.jetstream.consumer_info(
                "AI_VOICE_TTS", "tts-module-voice-tts-request"
            )
            if not (info.num_ack_pending or info.num_pending):
                return
            await asyncio.sleep(0.05)


async def half_spoken(stack: Stack) -> Session:
    """Return a session whose request is in its second sentence, which is slow."""
    stack.voice(when({"second": spelling(interval=0.3, size=800)}, spelling()))
    session = await stack.session()
    await session.say("r1", TEXT)
    await session.until(lambda: any(c.text == SENTENCES[1] for c in session.chunks))
    return session


async def test_what_a_killed_replica_has_half_spoken_is_spoken_completely_by_another(stack: Stack) -> None:
    async with replicas(stack, 1) as [first]:
        session = await half_spoken(stack)
        async with replicas(stack, 1):
            killed = time.monotonic()
            await asyncio.to_thread(first.kill)
            stack.voice(spelling())
            assert (await session.ended("r1")).status == "completed"
            assert time.monotonic() - killed < 10
    assert session.told == [("r1", "started"), ("r1", "started"), ("r1", "completed")]
    session.check([c for c in session.chunks if c.attempt == 2], SENTENCES)
    assert not any(c.is_last for c in session.chunks if c.attempt == 1)


async def test_a_replica_that_stops_hands_over_what_it_speaks(stack: Stack) -> None:
    async with replicas(stack, 1) as [first]:
        session = await half_spoken(stack)
        async with replicas(stack, 1):
            first.signal(signal.SIGTERM)
            stack.voice(spelling())
            assert await asyncio.to_thread(first.wait) == 0
            assert (await session.ended("r1")).status == "completed"
    session.check([c for c in session.chunks if c.attempt == 2], SENTENCES)


async def test_many_sessions_are_each_spoken_completely_though_a_replica_is_killed(stack: Stack) -> None:
    stack.voice(spelling(interval=0.01))
    async with replicas(stack, 2) as [first, _second]:
        sessions = [await stack.session(f"s{n}") for n in range(20)]
        for session in sessions:
            for number in range(3):
                await session.say(f"r{number}", TEXT)
        await sessions[0].ended("r0")
        await asyncio.to_thread(first.kill)
        for session in sessions:
            for number in range(3):
                assert (await session.ended(f"r{number}", 60)).status == "completed"
        await all_settled(stack)
    for session in sessions:
        for number in range(3):
            chunks = [c for c in session.chunks if c.request_id == f"r{number}"]
            last = [c for c in chunks if c.attempt == max(c.attempt for c in chunks)]
            session.check(last, SENTENCES)
            assert [s for r, s in session.told if r == f"r{number}"].count("completed") == 1
