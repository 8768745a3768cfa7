"""A cancel, an interrupt and a deadline stop the voice at once; nothing of the request comes after its last status."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import pytest

from handler_messages import CancelRequest, STTInterrupt, TTSRequest
from handler_testkit.speaking import spelling, stalling_midway, when

if TYPE_CHECKING:
    from conftest import Session, Stack

    from handler_testkit.endpoints import Exchange

CANCELS = 200


async def speaking(stack: Stack, request_id: str = "r1") -> Session:
    """Return a session in which somebody speaks without an end."""
    stack.voice(when({"endless": stalling_midway}, spelling()))
    session = await stack.session()
    await session.say(request_id, "This is endless.")
    await session.until(lambda: session.chunks)
    return session


@pytest.mark.parametrize("subject", ["ai.voice.cancel.r1", "ai.chat.cancel.r1", "ai.voice.cancel.x"])
async def test_a_cancel_stops_the_voice_and_the_status_says_so(stack: Stack, subject: str) -> None:
    async with stack.tts_module():
        session = await speaking(stack)
        by_session = CancelRequest(session_id="s1", request_id="x", reason="changed my mind")
        await stack.client.connection.publish(
            subject, by_session if subject.endswith("x") else CancelRequest(reason="changed my mind")
        )
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == 1)
        status = await session.ended("r1")
        assert (status.status, status.error.type) == ("cancelled", "cancelled")
        assert status.message == "cancelled: changed my mind"
        assert not any(c.is_last for c in session.chunks)
        assert await session.spoken("r2", "The next one works.")
    assert [s for r, s in session.told if r == "r1"] == ["started", "cancelled"]


async def test_a_cancel_reaches_a_request_that_waits_for_its_turn(stack: Stack) -> None:
    async with stack.tts_module():
        session = await speaking(stack)
        await session.say("r2", "Never spoken.")
        await session.say("r3", "Spoken in the end.")
        await stack.client.connection.request_bytes("ai.voice.cancel.r2", b"", timeout=5)
        assert (await session.ended("r2")).status == "cancelled"
        await stack.client.connection.publish_bytes("ai.voice.cancel.r1", b"")
        await session.ended("r3")
    assert [body["input"] for body in stack.asked] == ["This is endless.", "Spoken in the end."]


async def test_a_cancel_that_overtakes_its_request_stops_it_before_it_starts(stack: Stack) -> None:
    async with stack.tts_module():
        session = await stack.session()
        await stack.client.connection.request_bytes("ai.voice.cancel.r1", b"", timeout=5)
        await stack.client.connection.publish_bytes("ai.voice.cancel.r1", b"")
        await session.say("r1", "Too late.")
        assert (await session.ended("r1")).status == "cancelled"
        assert (session.told, stack.asked) == ([("r1", "cancelled")], [])


@pytest.mark.parametrize("how", ["protobuf", "JSON", "unreadable"])
async def test_an_interrupt_silences_a_session_and_what_was_asked_for_before(stack: Stack, how: str) -> None:
    payload, headers = {
        "protobuf": (STTInterrupt(type="barge_in", timestamp=time.time()).SerializeToString(), {}),
        "JSON": (b'{"type": "barge_in"}', {"Content-Type": "application/json"}),
        "unreadable": (b"\xff", {"Content-Type": "text/html"}),
    }[how]
    async with stack.tts_module():
        session = await speaking(stack)
        other = await stack.session("s2")
        await session.say("r2", "Waits for its turn.")
        await other.say("o1", "This is endless too.")
        await other.until(lambda: other.chunks)
        await stack.client.connection.publish_bytes("ai.voice.interrupt.s1", payload, headers)
        assert (await session.ended("r1")).status == "interrupted"
        assert (await session.ended("r2")).status == "interrupted"
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == 1)
        assert sorted(session.told) == [("r1", "interrupted"), ("r1", "started"), ("r2", "interrupted")]
        assert other.told == [("o1", "started")]
        assert await session.spoken("r3", "What comes after it is spoken.")


async def test_an_interrupt_drops_what_still_waits_in_the_stream(stack: Stack) -> None:
    async with stack.tts_module(DURABLE_IN_FLIGHT="1"):
        session = await speaking(stack)
        await session.say("r2", "In the stream.")
        await stack.client.connection.publish("ai.voice.interrupt.s1", STTInterrupt())
        assert (await session.ended("r2")).status == "interrupted"
    assert [body["input"] for body in stack.asked] == ["This is endless."]


async def test_a_deadline_ends_with_an_error(stack: Stack) -> None:
    async with stack.tts_module():
        stack.voice(stalling_midway)
        session = await stack.session()
        request = TTSRequest(request_id="r1", text="This is endless.", stream=True)
        await stack.client.send("ai.voice.tts.request.s1", request, Request_Timeout_Ms="700")
        status = await session.ended("r1")
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == 1)
    assert (status.status, status.error.type) == ("error", "deadline_exceeded")


async def test_a_stop_hands_the_request_back_without_a_word(stack: Stack) -> None:
    async with stack.tts_module(SHUTDOWN_GRACE="0.1"):
        session = await speaking(stack)
    assert session.told == [("r1", "started")]
    stack.voice(spelling())
    async with stack.tts_module():
        await session.ended("r1")
    session.check([c for c in session.chunks if c.attempt == 2], ["This is endless."])


async def test_200_cancels_at_random_moments_leave_nothing_behind(stack: Stack) -> None:
    """No chunk after the last status, each call upstream ended, and the pool as it was."""
    at_work = 0

    async def counted(exchange: Exchange) -> None:
        nonlocal at_work
        at_work += 1
        try:
            await spelling(interval=0.006, size=1200)(exchange)
        finally:
            at_work -= 1

    stack.voice(counted)
    randomly = random.Random(7)
    async with stack.tts_module(HTTP_MAX_CONNECTIONS="8", TTS_SESSIONS="8", TTS_FIRST_CHUNK_MS="0"):
        sessions = [await stack.session(f"s{n}") for n in range(8)]

        async def cancel_many(session: Session) -> None:
            for number in range(CANCELS // len(sessions)):
                request_id = f"{session.id}-{number}"
                await session.say(request_id, "Some words. Some more words. And the last ones.")
                await asyncio.sleep(randomly.uniform(0, 0.15))
                interrupt = number % 5 == 0
                subject = f"ai.voice.interrupt.{session.id}" if interrupt else f"ai.voice.cancel.{request_id}"
                await stack.client.connection.publish_bytes(subject, b"")
                await session.ended(request_id)

        async with asyncio.TaskGroup() as tasks:
            for session in sessions:
                tasks.create_task(cancel_many(session))
        await stack.endpoint.wait(lambda: at_work == 0)
        stopped = 0
        for session in sessions:
            final: dict[str, str] = {}
            for message in session.all:
                status = getattr(message, "status", "chunk")
                assert message.request_id not in final, f"{status} after {final[message.request_id]}"
                if status not in {"started", "chunk"}:
                    final[message.request_id] = status
            stopped += sum(status != "completed" for status in final.values())
            last = {c.request_id for c in session.chunks if c.is_last}
            assert last == {r for r, status in final.items() if status == "completed"}
        assert stopped > CANCELS // 2
        stack.voice(spelling())
        async with asyncio.TaskGroup() as tasks:  # all connections are free again
            for session in sessions:
                tasks.create_task(session.spoken("after", "Works. And works."))
