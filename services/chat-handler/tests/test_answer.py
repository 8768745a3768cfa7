"""A question in, an answer with sources out."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.messaging import wire
from handler_messages import CancelRequest, ChatRequest, ChatResponse, ChatStreamChunk, ErrorResponse
from handler_testkit.endpoints import answering, in_turn, resetting, stalling

if TYPE_CHECKING:
    from conftest import Stack

    from handler_testkit.endpoints import Exchange
    from handler_testkit.services import Heard

ANSWER = "The answer is 42."


async def ask(stack: Stack, **fields: Any) -> ChatResponse:
    answer = await ask_any(stack, **fields)
    assert isinstance(answer, ChatResponse), answer
    return answer


async def ask_any(stack: Stack, **fields: Any) -> ChatResponse | ErrorResponse:
    request = ChatRequest(**{"message": "How long do cats sleep?", **fields})
    return await stack.client.connection.request("ai.chat.request", request, ChatResponse, timeout=15)


def chunks(heard: Heard) -> list[ChatStreamChunk]:
    return [ChatStreamChunk.FromString(m.data) for m in heard.all]


async def test_the_answer_has_text_sources_usage_and_timings(stack: Stack) -> None:
    async with stack.chat_handler():
        answer = await ask(
            stack, user_id="ada", session_id="s1", request_id="r1", top_k=2, enable_reranker=False
        )
    assert answer.response == ANSWER
    assert (answer.request_id, answer.user_id, answer.session_id) == ("r1", "ada", "s1")
    assert [s.title for s in answer.sources] == ["Cats", "Dogs"]
    assert answer.sources[0].text == "Cats sleep sixteen hours a day."
    assert answer.sources[0].uri == "docs/Cats.md"
    assert answer.sources[0].score == pytest.approx(1.0, abs=1e-5)
    assert (answer.model, answer.finish_reason) == ("m1", "stop")
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 4)
    assert {"history", "embed", "search", "first_token", "llm", "total"} <= set(answer.timings)
    assert answer.timings["total"] >= answer.timings["llm"] >= 0
    assert list(answer.warnings) == []


async def test_the_passages_reach_the_model_with_their_numbers(stack: Stack) -> None:
    async with stack.chat_handler():
        await ask(stack, top_k=2, enable_reranker=False)
    system, question = stack.prompts()[0]
    assert "[1] Cats (docs/Cats.md)\nCats sleep sixteen hours a day." in system["content"]
    assert "[2] Dogs" in system["content"]
    assert "Fish" not in system["content"]
    assert question == {"role": "user", "content": "How long do cats sleep?"}


async def test_the_reranker_decides_the_order_when_it_is_enabled(stack: Stack) -> None:
    async with stack.chat_handler():
        answer = await ask(stack, top_k=1, enable_reranker=True)
        assert [s.title for s in answer.sources] == ["Fish"]
        assert "rerank" in answer.timings
        answer = await ask(stack, top_k=1, enable_reranker=False)
        assert [s.title for s in answer.sources] == ["Cats"]


async def test_without_rag_the_question_goes_to_the_model_alone(stack: Stack) -> None:
    async with stack.chat_handler():
        answer = await ask(stack, enable_rag=False)
    assert list(answer.sources) == []
    assert stack.asked("/embeddings/v1/embeddings") == []
    assert "Context" not in stack.prompts()[0][0]["content"]


async def test_the_collection_and_the_system_prompt_are_the_requests(stack: Stack) -> None:
    async with stack.chat_handler():
        answer = await ask(stack, collection="other", system_prompt="Talk like a pirate.", language="de")
    assert answer.sources[0].title.startswith("Other ")
    system = stack.prompts()[0][0]["content"]
    assert system.startswith("Talk like a pirate.")
    assert "the tag de" in system


async def test_query_wins_over_message(stack: Stack) -> None:
    async with stack.chat_handler():
        await ask(stack, message="ignored", query="used", enable_rag=False)
    assert stack.prompts()[0][-1]["content"] == "used"


async def test_chunks_come_in_order_and_the_last_one_says_done(stack: Stack) -> None:
    async with stack.chat_handler():
        heard = await stack.client.listen("ai.chat.response.stream.r1")
        answer = await ask(stack, request_id="r1")
        await heard.until(lambda all_: bool(all_) and ChatStreamChunk.FromString(all_[-1].data).done)
    got = chunks(heard)
    assert [c.index for c in got] == list(range(len(got)))
    assert "".join(c.content for c in got) == answer.response
    assert [c.type for c in got] == ["chunk"] * 4 + ["done"]
    assert [c.done for c in got] == [False] * 4 + [True]
    assert {c.attempt for c in got} == {1}
    assert {c.request_id for c in got} == {"r1"}


async def test_a_piece_is_out_before_the_answer_is_complete(stack: Stack) -> None:
    heard_first = asyncio.Event()

    async def waits_for_the_listener(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.send(b'data: {"choices":[{"index":0,"delta":{"content":"first"}}]}\n\n')
        await heard_first.wait()
        await exchange.send(
            b'data: {"choices":[{"index":0,"delta":{"content":" last"}}]}\n\ndata: [DONE]\n\n'
        )
        await exchange.end()

    stack.llm(waits_for_the_listener)
    async with stack.chat_handler(), asyncio.TaskGroup() as tasks:
        heard = await stack.client.listen("ai.chat.response.stream.r1")
        asked = tasks.create_task(ask(stack, request_id="r1"))
        first = ChatStreamChunk.FromString((await heard.next()).data)
        assert first.content == "first"
        heard_first.set()
        assert (await asked).response == "first last"


async def test_the_kept_chunks_can_be_read_again_from_the_stream(stack: Stack) -> None:
    async with stack.chat_handler():
        await ask(stack, request_id="r1")
        js = stack.client.connection.jetstream
        again = await js.subscribe("ai.chat.response.stream.r1", ordered_consumer=True)
        contents = [ChatStreamChunk.FromString((await again.next_msg(5)).data) for _ in range(5)]
        await again.unsubscribe()
    assert "".join(c.content for c in contents) == ANSWER


async def test_without_streaming_there_are_no_chunks(stack: Stack) -> None:
    async with stack.chat_handler():
        heard = await stack.client.listen("ai.chat.response.stream.>")
        answer = await ask(stack, request_id="r1", enable_streaming=False)
        await stack.client.connection.flush()
    assert answer.response == ANSWER
    assert heard.all == []
    assert not stack.asked("/llm/v1/chat/completions")[0].get("stream")


async def test_streaming_can_be_off_by_setting(stack: Stack) -> None:
    async with stack.chat_handler(ENABLE_STREAMING="false"):
        heard = await stack.client.listen("ai.chat.response.stream.>")
        await ask(stack)
        await ask(stack, enable_streaming=True)
        await heard.count(5)


async def test_json_gets_json_chunks(stack: Stack) -> None:
    async with stack.chat_handler():
        heard = await stack.client.listen("ai.chat.response.stream.r1")
        reply = await stack.client.connection.request_bytes(
            "ai.chat.request",
            b'{"request_id":"r1","message":"hi"}',
            timeout=15,
            headers={wire.HEADER: wire.JSON},
        )
        assert json.loads(reply.data)["response"] == ANSWER
        first = json.loads((await heard.next()).data)
        assert (first["index"], first["content"], first["type"]) == (0, "The", "chunk")


async def test_a_conversation_is_remembered_per_user_and_session(stack: Stack) -> None:
    async with stack.chat_handler():
        await ask(stack, user_id="ada", session_id="s1", message="My cat is called Tom.")
        await ask(stack, user_id="ada", session_id="s1", message="What is it called?")
        await ask(stack, user_id="ada", session_id="s2", message="Another session")
        await ask(stack, user_id="eve", session_id="s1", message="Another person")
    second, other_session, other_person = stack.prompts()[1:]
    assert [m["content"] for m in second[1:]] == ["My cat is called Tom.", ANSWER, "What is it called?"]
    assert len(other_session) == len(other_person) == 2


async def test_history_is_trimmed_to_the_turns_of_the_setting(stack: Stack) -> None:
    async with stack.chat_handler(HISTORY_TURNS="2"):
        for number in range(4):
            await ask(stack, session_id="s1", message=f"question {number}", enable_rag=False)
    questions = [m["content"] for m in stack.prompts()[-1] if m["role"] == "user"]
    assert questions == ["question 1", "question 2", "question 3"]


async def test_premium_has_its_own_model_length_and_passages(stack: Stack) -> None:
    settings = {
        "PREMIUM_LLM_MODEL": "big",
        "PREMIUM_LLM_MAX_TOKENS": "4000",
        "PREMIUM_TOP_K": "3",
        "TOP_K": "1",
    }
    async with stack.chat_handler(
        LLM_MODEL="small", LLM_MAX_TOKENS="100", ENABLE_RERANKER="false", **settings
    ):
        plain = await ask(stack)
        premium = await ask(stack, premium=True)
    asked = stack.asked("/llm/v1/chat/completions")
    assert [(a["model"], a["max_tokens"]) for a in asked] == [("small", 100), ("big", 4000)]
    assert (len(plain.sources), len(premium.sources)) == (1, 3)


async def test_the_answer_is_spoken_when_asked_for(stack: Stack) -> None:
    async with stack.chat_handler():
        answer = await ask(stack, enable_tts=True, speaker="slt", language="en")
        assert answer.audio.startswith(b"RIFF")
        assert answer.audio_format == "wav"
        assert "speech" in answer.timings
        spoken = stack.asked("/tts/v1/audio/speech")[0]
        assert (spoken["input"], spoken["voice"]) == (ANSWER, "slt")
        assert (await ask(stack)).audio == b""
    async with stack.chat_handler(ENABLE_TTS="true"):
        assert (await ask(stack)).audio
        assert not (await ask(stack, enable_tts=False)).audio


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/embeddings/v1/embeddings", "knowledge base"),
        ("/reranker/v1/rerank", "rerank"),
        ("/tts/v1/audio/speech", "spoken"),
    ],
)
async def test_what_is_down_is_left_out_with_a_warning(stack: Stack, path: str, word: str) -> None:
    stack.routes[path] = answering({"error": {"message": "out of memory"}}, 503)
    async with stack.chat_handler():
        answer = await ask(stack, enable_reranker=True, enable_tts=True)
    assert answer.response == ANSWER
    assert any(word in w for w in answer.warnings), answer.warnings


async def test_a_collection_that_does_not_exist_is_a_warning_that_names_those_that_do(stack: Stack) -> None:
    async with stack.chat_handler():
        answer = await ask(stack, collection="nowhere")
    assert answer.response == ANSWER
    assert "documents" in answer.warnings[0]


async def test_audio_too_large_for_nats_is_left_out_with_a_warning(stack: Stack) -> None:
    async def long_speech(exchange: Exchange) -> None:
        await exchange.answer(bytes(2_000_000), headers={"content-type": "audio/wav"})

    stack.routes["/tts/v1/audio/speech"] = long_speech
    async with stack.chat_handler():
        answer = await ask(stack, enable_tts=True)
    assert not answer.audio
    assert "do not fit" in answer.warnings[0]


async def test_a_stream_that_breaks_returns_what_came_and_says_so(stack: Stack) -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.send(b'data: {"choices":[{"index":0,"delta":{"content":"Half an ans"}}]}\n\n')
        exchange.reset()

    stack.llm(breaks)
    async with stack.chat_handler():
        answer = await ask(stack)
    assert answer.response == "Half an ans"
    assert answer.finish_reason == "interrupted"
    assert answer.warnings


@pytest.mark.parametrize("script", [answering({"error": {"message": "CUDA out of memory"}}, 503), resetting])
async def test_an_llm_that_is_down_is_an_error_that_says_what_is_wrong(stack: Stack, script: Any) -> None:
    stack.llm(script)
    async with stack.chat_handler():
        heard = await stack.client.listen("ai.chat.response.stream.r1")
        error = await ask_any(stack, request_id="r1")
        assert isinstance(error, ErrorResponse)
        assert error.type == "upstream_unavailable"
        assert error.retryable
        assert "llm" in error.message.lower()
        last = ChatStreamChunk.FromString((await heard.next()).data)
        assert (last.type, last.done, last.error.type) == ("error", True, "upstream_unavailable")


async def test_a_durable_question_is_retried_and_its_second_attempt_starts_at_index_0(stack: Stack) -> None:
    stack.llm(in_turn(answering({}, 503), stack.model))
    async with stack.chat_handler():
        heard = await stack.client.listen("ai.chat.response.stream.r1")
        answers = await stack.client.listen("ai.chat.response.r1")
        await stack.client.send("ai.chat.user.ada.message", ChatRequest(request_id="r1", message="hi"))
        answer = ChatResponse.FromString((await answers.next()).data)
        assert answer.response == ANSWER
        assert "queue_wait" in answer.timings
        got = chunks(heard)
        assert {c.attempt for c in got} == {2}
        assert got[0].index == 0
        assert got[-1].type == "done"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"message": ""}, "invalid_request"),
        ({"message": "  \n "}, "invalid_request"),
        ({"message": "x" * 40_000}, "too_large"),
        ({"system_prompt": "x" * 10_000}, "too_large"),
        ({"top_k": -1}, "invalid_request"),
        ({"top_k": 10_000}, None),
    ],
)
async def test_odd_requests_are_answered(stack: Stack, fields: dict[str, Any], kind: str | None) -> None:
    async with stack.chat_handler():
        answer = await ask_any(stack, **fields)
    assert (answer.type if isinstance(answer, ErrorResponse) else None) == kind


async def test_a_cancel_closes_the_llms_stream_ends_the_chunks_and_keeps_what_was_seen(stack: Stack) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.send(f"data: {stack.chunk('Once upon')}\n\n".encode())
        await exchange.stall()

    stack.llm(in_turn(endless, stack.model))
    async with stack.chat_handler(), asyncio.TaskGroup() as tasks:
        heard = await stack.client.listen("ai.chat.response.stream.r1")
        asked = tasks.create_task(ask_any(stack, request_id="r1", session_id="s1", message="Tell a story"))
        await heard.next()
        before = stack.endpoint.disconnects
        await stack.client.connection.publish("ai.chat.cancel.r1", CancelRequest(request_id="r1"))
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == before + 1)
        last = ChatStreamChunk.FromString((await heard.next()).data)
        assert (last.type, last.done, last.index) == ("cancelled", True, 1)
        answer = await asked
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "cancelled"
        await ask(stack, session_id="s1", message="Go on", enable_rag=False)
    assert [m["content"] for m in stack.prompts()[-1][1:]] == [
        "Tell a story",
        "Once upon [interrupted]",
        "Go on",
    ]


async def test_a_cancel_before_the_first_token_reaches_the_llm_too(stack: Stack) -> None:
    stack.llm(stalling)
    async with stack.chat_handler(), asyncio.TaskGroup() as tasks:
        for streaming in (True, False):
            request_id = f"r-{streaming}"
            count = len(stack.endpoint.requests)
            asked = tasks.create_task(
                ask_any(stack, request_id=request_id, enable_streaming=streaming, enable_rag=False)
            )
            await stack.endpoint.wait(lambda count=count: len(stack.endpoint.requests) > count + (count == 1))
            before = stack.endpoint.disconnects
            await stack.client.connection.publish(f"ai.chat.cancel.{request_id}", CancelRequest())
            await stack.endpoint.wait(lambda before=before: stack.endpoint.disconnects > before)
            assert isinstance(await asked, ErrorResponse)


async def test_a_passed_deadline_closes_the_llms_stream(stack: Stack) -> None:
    stack.llm(stalling)
    async with stack.chat_handler():
        request = ChatRequest(message="hi", enable_rag=False)
        answer = await stack.client.connection.request(
            "ai.chat.request", request, ChatResponse, timeout=10, headers={"Request-Timeout-Ms": "150"}
        )
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "deadline_exceeded"
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects >= 1)


async def test_100_cancels_close_100_connections_and_the_next_100_questions_are_answered(
    stack: Stack,
) -> None:
    stack.llm(stalling)
    async with stack.chat_handler(MAX_IN_FLIGHT="200", HTTP_MAX_CONNECTIONS="100"):
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(ask_any(stack, request_id=f"r{n}", enable_rag=False)) for n in range(100)
            ]
            llm = "/llm/v1/chat/completions"
            await stack.endpoint.wait(lambda: sum(r.path == llm for r in stack.endpoint.requests) >= 50)
            for number in range(100):  # those whose request is out, and those that are still connecting
                await stack.client.connection.publish(f"ai.chat.cancel.r{number}", CancelRequest())
        assert {getattr(task.result(), "type", "") for task in asked} == {"cancelled"}
        await stack.endpoint.wait(lambda: len(stack.endpoint.open) <= 1)
        stack.llm(stack.model)
        answers = await asyncio.gather(*(ask(stack, enable_rag=False) for _ in range(100)))
        assert {answer.response for answer in answers} == {ANSWER}
