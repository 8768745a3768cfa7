"""chat-handler on llama.cpp's real server: streaming, usage, stop, length, errors, cancel."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from handler_base.errors import ConfigError
from handler_messages import CancelRequest, ChatRequest, ChatResponse, ChatStreamChunk, ErrorResponse

if TYPE_CHECKING:
    from conftest import Stack

    from handler_testkit.gguf import LlamaServer

KNOWN = json.dumps({"grammar": 'root ::= "Grüße aus dem Strom ☃ STOP and more"', "stop": ["STOP"]})
ENDLESS = json.dumps({"grammar": "root ::= [a-z] root"})


async def ask(stack: Stack, **fields: str | bool) -> ChatResponse | ErrorResponse:
    request = ChatRequest(message="Say hello.", enable_rag=False, **fields)  # type: ignore[arg-type]
    return await stack.client.connection.request("ai.chat.request", request, ChatResponse, timeout=60)


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_answer_stops_where_it_should_and_its_tokens_are_counted(
    stack: Stack, llama_cpp: LlamaServer, streaming: bool
) -> None:
    async with stack.chat_handler(LLM_URL=llama_cpp.url, LLM_EXTRA_BODY=KNOWN):
        heard = await stack.client.listen("ai.chat.response.stream.r1")
        answer = await ask(stack, request_id="r1", enable_streaming=streaming)
        assert isinstance(answer, ChatResponse), answer
        await stack.client.connection.flush()
    assert answer.response == "Grüße aus dem Strom ☃ "
    assert answer.finish_reason == "stop"
    assert answer.prompt_tokens > 10
    assert answer.completion_tokens >= len("Grüße aus dem Strom ☃ ")
    pieces = [ChatStreamChunk.FromString(m.data) for m in heard.all]
    assert "".join(p.content for p in pieces) == (answer.response if streaming else "")
    assert len(pieces) > 5 if streaming else not pieces


async def test_an_answer_ends_at_its_longest_length(stack: Stack, llama_cpp: LlamaServer) -> None:
    async with stack.chat_handler(LLM_URL=llama_cpp.url, LLM_MAX_TOKENS="12", LLM_EXTRA_BODY=ENDLESS):
        answer = await ask(stack)
    assert isinstance(answer, ChatResponse), answer
    assert answer.finish_reason == "length"
    assert answer.completion_tokens == 12


async def test_an_error_of_the_server_is_said_in_its_own_words(stack: Stack, llama_cpp: LlamaServer) -> None:
    wrong = json.dumps({"grammar": "this is no grammar"})
    async with stack.chat_handler(LLM_URL=llama_cpp.url, LLM_EXTRA_BODY=wrong):
        for streaming in (True, False):
            error = await ask(stack, enable_streaming=streaming)
            assert isinstance(error, ErrorResponse)
            assert error.type == "upstream_rejected"
            assert "grammar" in error.message.lower()


async def test_a_prompt_longer_than_the_context_is_refused_and_not_retried(
    stack: Stack, llama_cpp: LlamaServer
) -> None:
    async with stack.chat_handler(LLM_URL=llama_cpp.url, PROMPT_TOKENS="100000"):
        request = ChatRequest(request_id="long", message="x" * 30_000, enable_rag=False)
        answers = await stack.client.listen("ai.chat.response.long")
        await stack.client.send("ai.chat.user.ada.message", request)
        error = ErrorResponse.FromString((await answers.next(60)).data)
    assert error.type == "upstream_rejected"
    assert not error.retryable


async def test_a_cancel_frees_the_servers_slot(stack: Stack, llama_cpp: LlamaServer) -> None:
    async with (
        stack.chat_handler(LLM_URL=llama_cpp.url, LLM_EXTRA_BODY=ENDLESS, LLM_MAX_TOKENS="7000"),
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(8):  # more than it has slots: each must be freed for the next
            heard = await stack.client.listen(f"ai.chat.response.stream.r{number}")
            asked = tasks.create_task(ask(stack, request_id=f"r{number}"))
            await heard.next(30)
            await stack.client.connection.publish(f"ai.chat.cancel.r{number}", CancelRequest())
            assert getattr(await asked, "type", "") == "cancelled"


async def test_an_extra_body_that_is_no_json_object_is_a_setting_to_correct(stack: Stack) -> None:
    with pytest.raises(ConfigError, match="LLM_EXTRA_BODY"):
        async with stack.chat_handler(LLM_EXTRA_BODY="[1]"):
            pass
