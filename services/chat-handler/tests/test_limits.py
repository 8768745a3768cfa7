"""What hangs or is full beside the answer costs a warning, not the answer; a cancel waits for nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from handler_base.conversation.history import History
from handler_base.messaging.context import Context
from handler_messages import CancelRequest, ChatRequest, ChatResponse
from handler_testkit.endpoints import stalling

if TYPE_CHECKING:
    import pytest
    from conftest import Stack

    from handler_testkit.endpoints import Exchange

SPEECH = "/tts/v1/audio/speech"
ANSWER = "The answer is 42."


async def ask(stack: Stack, milliseconds: int = 15_000, **fields: Any) -> ChatResponse:
    answer = await stack.client.connection.request(
        "ai.chat.request",
        ChatRequest(**{"message": "How long do cats sleep?", "enable_rag": False, **fields}),
        ChatResponse,
        timeout=20,
        headers={"Request-Timeout-Ms": str(milliseconds)},
    )
    assert isinstance(answer, ChatResponse), answer
    return answer


async def forever(*args: Any, **kwargs: Any) -> Any:
    await asyncio.Event().wait()


async def test_speech_that_hangs_until_the_deadline_does_not_take_the_answer_with_it(stack: Stack) -> None:
    stack.routes[SPEECH] = stalling
    async with stack.chat_handler():
        answer = await ask(stack, 1000, enable_tts=True)
        assert answer.response == ANSWER
        assert answer.warnings == ["the answer is not spoken: no time is left for it"]
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects >= 1)


async def test_speech_without_a_free_connection_is_left_out_with_a_warning(stack: Stack) -> None:
    stack.routes[SPEECH] = stalling
    async with (
        stack.chat_handler(HTTP_MAX_CONNECTIONS="1", HTTP_POOL_TIMEOUT="0.05"),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(ask(stack, 3000, enable_tts=True))
        await stack.endpoint.wait(lambda: bool(stack.asked(SPEECH)))
        answer = await ask(stack, enable_tts=True)
    assert answer.response == ANSWER
    assert "too many requests to tts" in answer.warnings[0]


async def test_a_history_that_hangs_does_not_take_the_answer_with_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(History, "append", forever)
    async with stack.chat_handler():
        answer = await ask(stack, 1000, session_id="s1")
    assert answer.response == ANSWER
    assert answer.warnings == ["the conversation was not saved: no answer in time"]


async def test_a_cancel_closes_the_llms_stream_before_anything_else_is_waited_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.send(f"data: {stack.chunk('Once upon')}\n\n".encode())
        await exchange.stall()

    sending = asyncio.Event()

    async def no_room(context: Context, subject: str, message: Any) -> None:
        if message.type == "chunk":
            sending.set()
            await asyncio.Event().wait()

    stack.llm(endless)
    monkeypatch.setattr(Context, "publish", no_room)
    monkeypatch.setattr(History, "append", forever)
    async with stack.chat_handler():
        await stack.client.connection.publish(
            "ai.chat.request", ChatRequest(request_id="r1", session_id="s1", message="hi", enable_rag=False)
        )
        async with asyncio.timeout(10):
            await sending.wait()
        before = stack.endpoint.disconnects
        await stack.client.connection.publish("ai.chat.cancel.r1", CancelRequest())
        async with asyncio.timeout(1):  # the history would be waited for three times as long
            await stack.endpoint.wait(lambda: stack.endpoint.disconnects > before)
