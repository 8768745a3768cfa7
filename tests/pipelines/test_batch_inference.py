"""Every line of a file gets its answer or its reason, in order; what passes is waited for, what does not is said."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from handler_testkit.endpoints import answering, in_turn, resetting

if TYPE_CHECKING:
    from handler_testkit.endpoints import Exchange

    from .conftest import Bench

PROMPTS = [{"id": f"p{number}", "prompt": f"What is {number}?"} for number in range(8)]


def answer(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": "m1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


async def echo(exchange: Exchange) -> None:
    """Answer with the question."""
    await exchange.json(answer(f"You asked: {exchange.request.json()['messages'][-1]['content']}"))


async def test_answers_come_in_the_order_of_the_prompts_whichever_is_ready_first(bench: Bench) -> None:
    others = asyncio.Event()
    answered = 0

    async def first_is_slowest(exchange: Exchange) -> None:
        nonlocal answered
        if exchange.request.json()["messages"][-1]["content"] == PROMPTS[0]["prompt"]:
            await others.wait()
        await echo(exchange)
        answered += 1
        if answered == len(PROMPTS) - 1:
            others.set()

    bench.llm = first_is_slowest
    done = await bench.run("batch-inference", input_url=bench.serve("/prompts.jsonl", *PROMPTS), parallel="4")
    assert done.code == 0, done.said
    found = done.lines("answers.jsonl")
    assert [one["id"] for one in found] == [one["id"] for one in PROMPTS]
    assert [one["index"] for one in found] == list(range(8))
    assert found[0] == {
        "index": 0, "id": "p0", "answer": "You asked: What is 0?", "model": "m1", "finish_reason": "stop",
    }  # fmt: skip
    assert done.parameters() == {"answered": "8", "failed": "0"}
    assert {(one["model"], one["max_tokens"]) for one in bench.asked()} == {("first", 512)}


async def test_no_more_prompts_than_said_are_under_way_at_once(bench: Bench) -> None:
    now = most = 0
    full = asyncio.Event()

    async def counting(exchange: Exchange) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        now -= 1
        await echo(exchange)

    bench.llm = counting
    done = await bench.run("batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS[:6]), parallel="3")
    assert done.code == 0, done.said
    assert most == 3


async def test_what_passes_is_tried_again_and_other_lines_do_not_notice(bench: Bench) -> None:
    bench.llm = in_turn(
        answering({"error": {"message": "busy"}}, 503, {"retry-after": "0"}),
        resetting,
        answering({"error": {"message": "slow down"}}, 429),
        echo,
    )
    done = await bench.run("batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS[:3]), parallel="1")
    assert done.code == 0, done.said
    assert [one["answer"] for one in done.lines("answers.jsonl")] == [
        f"You asked: {one['prompt']}" for one in PROMPTS[:3]
    ]
    assert len(bench.asked()) == 6


async def test_a_line_that_cannot_be_answered_says_why_and_the_others_are_answered(bench: Bench) -> None:
    async def picky(exchange: Exchange) -> None:
        if "secret" in exchange.request.json()["messages"][-1]["content"]:
            await exchange.json({"error": {"message": "that is not allowed"}}, 400)
        else:
            await echo(exchange)

    bench.llm = picky
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    source = bench.serve(
        "/p.jsonl", {"prompt": "tell me a secret"}, "not json", "", [1], {"text": "x"}, {"messages": chat}
    )
    done = await bench.run("batch-inference", input_url=source)
    assert done.code == 0, done.said
    found = done.lines("answers.jsonl")
    assert "answered 400" in found[0]["error"]
    assert "that is not allowed" in found[0]["error"]
    assert [one.get("error", "")[:22] for one in found[1:4]] == [
        "line 2 is not JSON: Ex", "line 4 is not a JSON o", "line 5 has neither `pr",
    ]  # fmt: skip
    assert found[4]["answer"] == "You asked: Hello"
    assert bench.asked()[-1]["messages"] == chat
    assert done.parameters() == {"answered": "1", "failed": "4"}


async def test_a_run_without_a_single_answer_fails(bench: Bench) -> None:
    bench.llm = answering({"error": {"message": "no such model"}}, 404)
    done = await bench.run("batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS[:2]))
    assert done.code == 1
    assert done.parameters() == {"answered": "0", "failed": "2"}
    assert "no such model" in done.lines("answers.jsonl")[0]["error"]


async def test_an_endpoint_that_stays_away_is_given_up_in_time(bench: Bench) -> None:
    bench.llm = resetting
    bench.environ["LLM_PATIENCE"] = "0.5"
    done = await bench.run("batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS[:1]))
    assert done.code == 1
    assert "could not be asked" in done.lines("answers.jsonl")[0]["error"]


async def test_answers_are_put_where_they_are_wanted_and_then_are_no_artifact(bench: Bench) -> None:
    bench.llm = echo
    target = f"{bench.web.url}/answers.jsonl?signature=s3cret"
    done = await bench.run(
        "batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS[:2]), output_url=target
    )
    assert done.code == 0, done.said
    lines = bench.uploads["/answers.jsonl"].decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["p0", "p1"]
    assert done.parameters() == {"answered": "2", "failed": "0"}
    assert not (bench.out / "answers.jsonl").exists()


async def test_answers_that_nobody_takes_fail_the_run_and_no_signature_is_logged(bench: Bench) -> None:
    bench.llm = echo
    target = "http://127.0.0.1:1/answers.jsonl?signature=s3cret"
    serve = bench.web.script

    async def refusing(exchange: Exchange) -> None:
        if exchange.request.method == "PUT":
            await exchange.answer(b"expired", 403)
        else:
            await serve(exchange)

    bench.web.script = refusing
    target = f"{bench.web.url}/answers.jsonl?signature=s3cret"
    done = await bench.run(
        "batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS[:1]), output_url=target
    )
    assert done.code == 2
    assert "answered 403: expired" in done.said
    assert "s3cret" not in done.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"input_url": "/missing.jsonl"}, "/missing.jsonl answered 404: no such file"),
        ({"input_url": "/empty.jsonl"}, "there is no prompt in the file"),
        ({"input_url": "file:///etc/passwd"}, "'file:///etc/passwd' is no http(s) address"),
        ({"input_url": "/p.jsonl", "output_url": "ftp://127.0.0.1/x"}, "'ftp://127.0.0.1/x' is no http(s) address"),
        ({"input_url": "/p.jsonl", "parallel": "0"}, "PARALLEL is '0', not a number from 1 to 1024"),
        ({"input_url": "/p.jsonl", "max_tokens": "many"}, "MAX_TOKENS is 'many', not a number"),
        ({"input_url": "/p.jsonl", "max_tokens": "1.5"}, "MAX_TOKENS is 1.5, not a whole number"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_at_all_is_said(bench: Bench, given: dict[str, str], said: str) -> None:
    bench.llm = echo
    bench.serve("/p.jsonl", *PROMPTS[:1])
    bench.serve("/empty.jsonl", "", "  ")
    source = given["input_url"]
    address = f"{bench.web.url}{source}" if source.startswith("/") else source
    done = await bench.run("batch-inference", **{**given, "input_url": address})
    assert done.code == 2
    assert said in done.said
    assert "Traceback" not in done.said


async def test_a_file_beyond_the_limit_is_not_taken(bench: Bench) -> None:
    bench.environ["MAX_INPUT_BYTES"] = "100"
    done = await bench.run("batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS))
    assert done.code == 2
    assert "/p.jsonl is larger than 100 bytes" in done.said


async def test_a_parameter_is_never_a_part_of_a_program(bench: Bench) -> None:
    bench.llm = echo
    model = "'); import os; os.abort() #\n\"$(reboot)"
    done = await bench.run("batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS[:1]), model=model)
    assert done.code == 0, done.said
    assert bench.asked()[0]["model"] == model


async def test_the_key_goes_to_the_llm_alone(bench: Bench) -> None:
    bench.llm = echo
    bench.environ["LLM_API_KEY"] = "k3y"
    await bench.run("batch-inference", input_url=bench.serve("/p.jsonl", *PROMPTS[:1]))
    keys = {request.path: request.headers.get("authorization") for request in bench.web.requests}
    assert keys == {
        "/p.jsonl": None,
        "/llm/v1/models": "Bearer k3y",
        "/llm/v1/chat/completions": "Bearer k3y",
    }


async def test_a_redirect_is_followed_to_the_web_only(bench: Bench) -> None:
    bench.llm = echo
    serve = bench.web.script
    where = {"/there": f"{bench.web.url}/p.jsonl", "/out": "file:///etc/passwd"}

    async def moved(exchange: Exchange) -> None:
        if exchange.request.path in where:
            await exchange.answer(status=302, headers={"location": where[exchange.request.path]})
        else:
            await serve(exchange)

    bench.web.script = moved
    bench.serve("/p.jsonl", *PROMPTS[:1])
    assert (await bench.run("batch-inference", input_url=f"{bench.web.url}/there")).code == 0
    done = await bench.run("batch-inference", input_url=f"{bench.web.url}/out")
    assert done.code == 2
    assert "root:" not in done.said


async def test_the_real_endpoint_answers(bench: Bench, inference: str) -> None:
    context = "[1] Lighthouse (lighthouse.md)\nThe keeper lights the lamp every evening at sunset."
    messages = [
        {"role": "system", "content": f"Answer from the context.\n\nContext:\n\n{context}"},
        {"role": "user", "content": "When does the keeper light the lamp?"},
    ]
    bench.environ["LLM_URL"] = f"{inference}/llm/v1"
    done = await bench.run("batch-inference", input_url=bench.serve("/p.jsonl", {"messages": messages}))
    assert done.code == 0, done.said
    assert "every evening at sunset" in done.lines("answers.jsonl")[0]["answer"]
