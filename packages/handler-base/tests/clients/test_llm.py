"""The LLM client against scripted endpoints: streams that work, break, stall and lie."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.clients.llm import INTERRUPTED, LLM, ChatMessage, Completion, LLMSettings
from handler_base.config import Secret, load
from handler_base.errors import (
    UpstreamError,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from handler_testkit.endpoints import (
    Exchange,
    HttpEndpoint,
    answering,
    in_turn,
    resetting,
    routed,
    sse,
    stalling,
)
from handler_testkit.models import WORDS, chat, models

if TYPE_CHECKING:
    from handler_base.http import HttpPool
    from handler_testkit.endpoints import Script

QUESTION = [ChatMessage("system", "Be brief."), ChatMessage("user", "What is the answer?")]


def llm_at(pool: HttpPool, server: HttpEndpoint, **settings: Any) -> LLM:
    return LLM(pool, LLMSettings(url=server.url, **{"model": "m", **settings}))


def token(text: str | None, finish_reason: str | None = None, **fields: Any) -> str:
    return json.dumps(
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}], **fields}
    )


async def read(completion: Completion) -> list[str]:
    async with completion:
        return [piece async for piece in completion]


async def test_an_answer_comes_in_pieces_with_its_counts(pool: HttpPool) -> None:
    async with HttpEndpoint(chat()) as server:
        completion = llm_at(pool, server, api_key=Secret("k")).stream(QUESTION)
        assert completion.time_to_first_token is None
        assert await read(completion) == list(WORDS)
        assert completion.text == "The answer is forty-two."
        assert (completion.finish_reason, completion.model, completion.warning) == ("stop", "scripted", "")
        assert (completion.prompt_tokens, completion.completion_tokens) == (2, len(WORDS))
        assert completion.time_to_first_token is not None
        assert completion.time_to_first_token > 0
        (request,) = server.requests
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer k"
        assert request.json() == {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is the answer?"},
            ],
            "temperature": 0.7,
            "max_tokens": 2048,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


async def test_a_call_may_ask_for_other_than_the_settings(pool: HttpPool) -> None:
    async with HttpEndpoint(chat()) as server:
        llm = llm_at(pool, server, stream_usage=False)
        completion = llm.stream(QUESTION, model="premium", max_tokens=5, temperature=0.0)
        await read(completion)
        await read(llm.stream(QUESTION, max_tokens=0))
        first, second = (request.json() for request in server.requests)
        assert (first["model"], first["max_tokens"], first["temperature"]) == ("premium", 5, 0.0)
        assert "stream_options" not in first
        assert "max_tokens" not in second
        assert completion.completion_tokens == 0


async def test_a_whole_answer_comes_at_once(pool: HttpPool) -> None:
    async with HttpEndpoint(chat()) as server:
        completion = await llm_at(pool, server).complete(QUESTION)
        assert completion.text == "The answer is forty-two."
        assert (completion.finish_reason, completion.model, completion.completion_tokens) == (
            "stop",
            "scripted",
            len(WORDS),
        )
        assert "stream" not in server.requests[0].json()


async def test_streams_in_a_row_share_a_connection(pool: HttpPool) -> None:
    async with HttpEndpoint(chat()) as server:
        llm = llm_at(pool, server)
        for _ in range(5):
            await read(llm.stream(QUESTION))
            await asyncio.sleep(0.002)
        assert server.connections == 1


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
async def test_the_url_may_end_anywhere_in_the_path(pool: HttpPool, path: str) -> None:
    async with HttpEndpoint(routed({"/llm/v1/chat/completions": chat()})) as server:
        llm = LLM(pool, LLMSettings(url=f"{server.url}/llm{path}", model="m"))
        assert (await llm.complete(QUESTION)).text == "The answer is forty-two."


def test_the_older_name_of_the_url_keeps_working() -> None:
    assert load(LLMSettings, {"VLLM_URL": "http://old"}).url == "http://old"
    assert load(LLMSettings, {"VLLM_URL": "http://old", "LLM_URL": "http://new"}).url == "http://new"


@pytest.mark.parametrize(
    ("listing", "name"),
    [
        (models("first", "second"), "first"),
        (models(), "default"),
        (answering({"detail": "Not Found"}, 404), "default"),
        (answering({"detail": "no"}, 501), "default"),
        (answering(["what"]), "default"),
    ],
)
async def test_without_a_configured_model_the_endpoint_is_asked_once(
    pool: HttpPool, listing: Script, name: str
) -> None:
    async with HttpEndpoint(routed({"/v1/models": listing, "/v1/chat/completions": chat()})) as server:
        llm = llm_at(pool, server, model="")
        await asyncio.gather(*(read(llm.stream(QUESTION)) for _ in range(3)), llm.complete(QUESTION))
        paths = [request.path for request in server.requests]
        assert paths.count("/v1/models") == 1
        assert {request.json()["model"] for request in server.requests if request.body} == {name}


async def test_asking_for_the_models_of_an_endpoint_that_is_down_is_that_error(pool: HttpPool) -> None:
    llm = LLM(pool, LLMSettings(url="http://127.0.0.1:1"))
    with pytest.raises(
        UpstreamUnavailable, match="refused the connection; check that it runs and that LLM_URL"
    ):
        await read(llm.stream(QUESTION))


async def test_odd_but_harmless_chunks_are_taken_in_stride(pool: HttpPool) -> None:
    events = [
        json.dumps({"choices": []}),
        json.dumps({"choices": None, "usage": None, "model": None, "error": None}),
        json.dumps({"choices": [{"delta": None}]}),
        json.dumps(
            {"choices": [{"delta": {"role": "assistant", "content": None, "reasoning_content": "hm"}}]}
        ),
        token(""),
        token("é", model="m-1", unknown={"a": [1]}),
        json.dumps({"choices": [{}]}),
        token("!", "length"),
        json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": None, "x": {}}}),
    ]
    async with HttpEndpoint(sse(*events)) as server:
        completion = llm_at(pool, server).stream(QUESTION)
        assert await read(completion) == ["é", "!"]
        assert (completion.finish_reason, completion.model, completion.prompt_tokens) == ("length", "m-1", 3)
        assert completion.warning == ""


async def test_events_may_be_cut_anywhere_and_several_may_come_at_once(pool: HttpPool) -> None:
    stream = (
        "".join(f"data: {token(word)}\r\n\r\n" for word in ("smör", "gås", "🦜")) + "data: [DONE]\r\n\r\n"
    )

    async def script(exchange: Exchange) -> None:
        data = stream.encode()
        size = int(exchange.request.headers["x-size"])
        await exchange.head(200, {"content-type": "text/event-stream"})
        for start in range(0, len(data), size):
            await exchange.send(data[start : start + size])
            await asyncio.sleep(0)
        await exchange.end()

    async with HttpEndpoint(script) as server:
        for size in (1, 7, 64, 4096):
            llm = llm_at(pool, server)
            llm.endpoint = pool.endpoint("llm", server.url, timeout=5, headers={"X-Size": str(size)})
            assert await read(llm.stream(QUESTION)) == ["smör", "gås", "🦜"]


async def test_bytes_that_are_not_utf8_become_replacement_characters(pool: HttpPool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b'data: {"choices": [{"delta": {"content": "caf\xc3"}}]}\n\ndata: [DONE]\n\n')
        await exchange.end()

    async with HttpEndpoint(script) as server:
        assert await read(llm_at(pool, server).stream(QUESTION)) == ["caf\ufffd"]


async def test_a_stream_without_done_is_complete_after_a_finish_reason(pool: HttpPool) -> None:
    async with HttpEndpoint(sse(token("a"), token(None, "stop"), done=False)) as server:
        completion = llm_at(pool, server).stream(QUESTION)
        assert await read(completion) == ["a"]
        assert (completion.finish_reason, completion.warning) == ("stop", "")


async def test_a_stream_without_finish_reason_is_complete_after_done(pool: HttpPool) -> None:
    async with HttpEndpoint(sse(token("a"))) as server:
        completion = llm_at(pool, server).stream(QUESTION)
        await read(completion)
        assert (completion.finish_reason, completion.warning) == ("stop", "")


async def test_a_stream_that_ends_with_neither_is_marked_as_interrupted(pool: HttpPool) -> None:
    async with HttpEndpoint(sse(token("half an ans"), done=False)) as server:
        completion = llm_at(pool, server).stream(QUESTION)
        assert await read(completion) == ["half an ans"]
        assert completion.finish_reason == INTERRUPTED
        assert "ended its answer without saying that it was complete" in completion.warning


LAST_WORDS = {
    "garbage": b"data: {not json\n\n",
    "wrong shape": b'data: {"choices": [{"delta": {"content": ["a"]}}]}\n\n',
    "error": b'data: {"error": {"message": "CUDA out of memory", "code": 500}}\n\n',
    "error event": b'event: error\ndata: {"message": "worker died"}\n\n',
    "huge": b"data: " + b"x" * 2_000_000,
}


def breaking(how: str) -> Script:
    """Send two tokens, wait a moment so that they arrive, then break."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        for word in ("half ", "an ans"):
            await exchange.send(f"data: {token(word)}\n\n".encode())
        await asyncio.sleep(0.02)
        if how in LAST_WORDS:
            await exchange.send(LAST_WORDS[how])
            await exchange.end()
        elif how == "stall":
            await exchange.stall()
        else:
            getattr(exchange, how)()

    return script


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("reset", "it reset the connection"),
        ("close", "it closed the connection"),
        ("stall", "nothing came for 0.3 s"),
        ("garbage", "answered something we cannot read"),
        ("wrong shape", "answered something we cannot read"),
        ("error", "CUDA out of memory"),
        ("error event", "worker died"),
        ("huge", "larger than"),
    ],
)
async def test_a_stream_that_breaks_after_some_text_keeps_the_text_and_says_so(
    pool: HttpPool, how: str, says: str
) -> None:
    async with HttpEndpoint(breaking(how)) as server:
        llm = llm_at(pool, server, idle_timeout=0.3)
        completion = llm.stream(QUESTION)
        assert "".join(await read(completion)) == completion.text == "half an ans"
        assert completion.finish_reason == INTERRUPTED
        assert completion.warning.startswith(f"the answer is incomplete: llm at 127.0.0.1:{server.port} ")
        assert says in completion.warning
        assert llm.endpoint.in_flight == 0


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        (resetting, UpstreamUnavailable, "reset the connection"),
        (stalling, UpstreamTimeout, "did not answer within"),
        (
            sse(json.dumps({"error": {"message": "prompt too long", "code": 400}})),
            UpstreamRejected,
            "prompt too long",
        ),
        (sse(json.dumps({"error": "no slot"})), UpstreamUnavailable, "no slot"),
        (sse(json.dumps({"object": "error", "message": "bad", "code": 400})), UpstreamRejected, "bad"),
        (sse(json.dumps({"error": {"message": "odd", "code": 200}})), UpstreamUnavailable, "odd"),
        (sse(done=False), UpstreamUnavailable, "without saying that it was complete"),
        (sse("what"), UpstreamProtocol, "cannot read"),
        (answering({"error": {"message": "no such model"}}, 404), UpstreamRejected, "no such model"),
        (answering({"detail": "loading"}, 503), UpstreamUnavailable, r"loading \(tried 3 times\)"),
    ],
)
async def test_a_stream_that_breaks_before_any_text_is_an_error(
    pool: HttpPool, script: Script, error: type[UpstreamError], says: str
) -> None:
    async with HttpEndpoint(script) as server:
        llm = llm_at(pool, server, timeout=0.1)
        with pytest.raises(error, match=says):
            await read(llm.stream(QUESTION))
        assert llm.endpoint.in_flight == 0


async def test_a_refusal_for_load_is_tried_again(pool: HttpPool, pauses: list[float]) -> None:
    busy = answering({"detail": "busy"}, 429, {"retry-after": "2"})
    async with HttpEndpoint(in_turn(busy, chat(), busy, chat())) as server:
        llm = llm_at(pool, server)
        assert await read(llm.stream(QUESTION)) == list(WORDS)
        assert (await llm.complete(QUESTION)).text == "The answer is forty-two."
        assert pauses == [2.0, 2.0]


async def test_the_first_token_may_take_longer_than_the_next(pool: HttpPool) -> None:
    events = (asyncio.sleep(0.15), token("a"), asyncio.Event().wait())
    async with HttpEndpoint(sse(*events)) as server:
        completion = llm_at(pool, server, timeout=5, idle_timeout=0.05).stream(QUESTION)
        assert await read(completion) == ["a"]
        assert "nothing came for 0.05 s" in completion.warning


async def test_leaving_the_block_stops_the_model(pool: HttpPool) -> None:
    async with HttpEndpoint(sse(token("a"), asyncio.Event().wait())) as server:
        async with llm_at(pool, server).stream(QUESTION) as completion:
            async for piece in completion:
                assert piece == "a"
                break
        await server.wait(lambda: server.disconnects == 1)
        assert (completion.text, completion.finish_reason) == ("a", "")


async def test_iteration_may_be_taken_up_again(pool: HttpPool) -> None:
    async with HttpEndpoint(chat()) as server, llm_at(pool, server).stream(QUESTION) as completion:
        async for piece in completion:
            assert piece == "The "
            break
        assert [piece async for piece in completion] == list(WORDS[1:])
        assert [piece async for piece in completion] == []


async def test_iterating_outside_the_block_is_a_mistake_that_shows(pool: HttpPool) -> None:
    completion = LLM(pool, LLMSettings(url="http://127.0.0.1:1", model="m")).stream(QUESTION)
    with pytest.raises(RuntimeError, match="async with"):
        await anext(completion)


async def test_an_answer_without_end_is_cut(pool: HttpPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handler_base.clients.llm.MAX_TEXT", 1000)

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.send(f"data: {token('x' * 100)}\n\n".encode())

    async with HttpEndpoint(script) as server:
        completion = llm_at(pool, server).stream(QUESTION)
        assert 1000 < len("".join(await read(completion))) <= 1100
        assert completion.finish_reason == INTERRUPTED
        assert "answered more than 1000 characters" in completion.warning
        await server.wait(lambda: not server.open)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"choices": []}, UpstreamProtocol),
        ({}, UpstreamProtocol),
        ([], UpstreamProtocol),
        ({"error": {"message": "context too long", "code": 400}}, UpstreamRejected),
        ({"object": "error", "message": "died"}, UpstreamUnavailable),
    ],
)
async def test_a_whole_answer_of_the_wrong_shape_is_an_error(
    pool: HttpPool, answer: object, error: type
) -> None:
    async with HttpEndpoint(answering(answer)) as server:
        with pytest.raises(error):
            await llm_at(pool, server).complete(QUESTION)


async def test_a_whole_answer_without_text_is_empty(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({"choices": [{"finish_reason": "content_filter"}]})) as server:
        completion = await llm_at(pool, server).complete(QUESTION)
        assert (completion.text, completion.finish_reason) == ("", "content_filter")
