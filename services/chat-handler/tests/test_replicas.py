"""Two replicas as processes, 200 durable questions: each is answered once, whatever dies midway."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from handler_messages import ChatRequest, ChatResponse
from handler_testkit.services import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from conftest import Stack

QUESTIONS = 200
IN_FLIGHT = 6


@contextlib.asynccontextmanager
async def two_replicas(stack: Stack) -> AsyncGenerator[list[ServiceProcess]]:
    environ = stack.environ(
        ACK_WAIT="1", DURABLE_IN_FLIGHT=str(IN_FLIGHT), MAX_ATTEMPTS="10", ENABLE_RERANKER="false"
    )
    del environ["HEALTH_PORT"]
    replicas = [ServiceProcess("chat_handler", environ) for _ in range(2)]
    try:
        for replica in replicas:  # in a thread: the endpoints live in this loop
            await asyncio.to_thread(replica.start)
        yield replicas
    finally:
        for replica in replicas:
            await asyncio.to_thread(replica.close)


async def stored(stack: Stack) -> list[Any]:
    """Return the answers in the stream, oldest first."""
    js = stack.client.connection.jetstream
    count = (await js.stream_info("AI_RESPONSES")).state.messages
    return [await js.get_msg("AI_RESPONSES", seq=n + 1) for n in range(count)]


async def ask_all(stack: Stack) -> None:
    for number in range(QUESTIONS):
        request = ChatRequest(request_id=f"q{number}", session_id=f"s{number}", message=f"Question {number}?")
        await stack.client.send(f"ai.chat.user.u{number}.message", request)


@pytest.mark.parametrize("what", ["a replica is killed", "nats is restarted", "nats is killed"])
async def test_200_questions_get_200_answers_though(stack: Stack, what: str) -> None:
    async with two_replicas(stack) as replicas:
        heard = await stack.client.listen("ai.chat.response.*")
        asking = asyncio.create_task(ask_all(stack))
        await heard.count(QUESTIONS // 4, timeout=60)
        if what == "a replica is killed":
            await asyncio.to_thread(replicas[0].kill)
        else:
            await asyncio.to_thread(stack.nats.stop if "restarted" in what else stack.nats.kill)
            await asyncio.to_thread(stack.nats.start)
        await asking
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(Exception):  # NATS is on its way back
                    state = (await stack.client.connection.jetstream.stream_info("AI_RESPONSES")).state
                    if state.messages >= QUESTIONS:
                        break
                await asyncio.sleep(0.05)
        info = await stack.client.connection.jetstream.consumer_info(
            "COMPANIONS_CHAT", "chat-handler-chat-user-message"
        )
        async with asyncio.timeout(30):
            while info.num_ack_pending or info.num_pending:
                await asyncio.sleep(0.05)
                info = await stack.client.connection.jetstream.consumer_info(
                    "COMPANIONS_CHAT", "chat-handler-chat-user-message"
                )
        answers = await stored(stack)
    assert sorted(m.subject for m in answers) == sorted(f"ai.chat.response.q{n}" for n in range(QUESTIONS))
    assert {ChatResponse.FromString(m.data).response for m in answers} == {"The answer is 42."}
    if what == "a replica is killed":
        subjects = [m.subject for m in heard.all]
        assert len(subjects) == len(set(subjects)), "a listener heard an answer twice"
    else:
        # A server that goes down can pass an answer on to who listens and die before it stores it; the answer then
        # comes again under the same id (docs/decisions/0003-delivery.md).
        assert all(
            (m.headers or {})["Nats-Msg-Id"] == f"chat-handler.u{number}.q{number}"
            for m in heard.all
            for number in [m.subject.removeprefix("ai.chat.response.q")]
        )
        assert len(heard.all) <= QUESTIONS + 2 * IN_FLIGHT
