"""`handlers ask` against the real server and a scripted handler."""

from __future__ import annotations

import asyncio
import json

import pytest

from handler_base.messaging.streams import ensure_streams
from handler_messages import CancelRequest, ErrorResponse
from handler_testkit.nats import free_port
from handlers_cli.ask import Question, ask


@pytest.fixture
def run(handler, terminal):
    async def run(text: str = "Why?", **options: object) -> int:
        interrupt = options.pop("interrupt", None) or asyncio.Event()
        async with asyncio.timeout(30):
            return await ask(Question(text, nats_url=handler.url, **options), terminal, interrupt)

    return run


async def test_the_answer_is_streamed_and_its_sources_and_timings_follow(
    handler, terminal, run, answer_with
) -> None:
    seen = asyncio.Event()

    async def script(handler, request):
        await handler.chunk(request, 0, "Because ")
        while "Because " not in terminal.said:
            await asyncio.sleep(0.005)
        seen.set()
        await handler.chunk(request, 1, "of that.")
        await handler.last(request, 2)
        answer = answer_with(request, "Because of that.", warnings=["the reranker is down"], model="m")
        answer.sources.add(title="Guide", uri="docs/guide.md", score=0.875, text="…")
        answer.sources.add(uri="notes.txt", score=0.5)
        answer.timings["search"] = 0.002
        return answer

    await handler.serve(script)
    assert await run() == 0
    assert seen.is_set(), "the first piece was shown before the answer was complete"
    text, sources, timings = terminal.said.split("\n\n")
    assert text == "Because of that."
    assert sources.splitlines()[1].split() == ["[1]", "Guide", "0.88", "docs/guide.md"]
    assert sources.splitlines()[2].split() == ["[2]", "notes.txt", "0.50"]
    assert "first token" in timings
    assert "total" in timings
    assert "search 0.002" in timings
    assert "the reranker is down" in terminal.noted


async def test_pieces_that_come_twice_or_late_are_shown_once(handler, terminal, run, answer_with) -> None:
    async def script(handler, request):
        for index, text in ((0, "one "), (1, "two "), (0, "one "), (1, "two "), (2, "three")):
            await handler.chunk(request, index, text)
        await handler.last(request, 3)
        return answer_with(request, "one two three")

    await handler.serve(script)
    assert await run() == 0
    assert terminal.said.split("\n")[0] == "one two three"


async def test_a_higher_attempt_starts_the_text_again(handler, terminal, run, answer_with) -> None:
    async def script(handler, request):
        await handler.chunk(request, 0, "old text")
        await handler.chunk(request, 0, "new ", attempt=2)
        await handler.chunk(request, 1, "stale", attempt=1)
        await handler.chunk(request, 1, "text", attempt=2)
        await handler.last(request, 2, attempt=2)
        return answer_with(request, "new text")

    await handler.serve(script)
    assert await run() == 0
    assert terminal.said.split("\n")[:2] == ["old text", "new text"]
    assert "attempt 2" in terminal.noted


async def test_the_end_of_an_answer_is_shown_even_when_its_pieces_were_lost(
    handler, terminal, run, answer_with
) -> None:
    async def script(handler, request):
        await handler.chunk(request, 0, "one ")
        return answer_with(request, "one two three")

    await handler.serve(script)
    assert await run() == 0
    assert terminal.said.startswith("one two three\n")


async def test_a_text_with_a_hole_is_followed_by_the_whole(handler, terminal, run, answer_with) -> None:
    async def script(handler, request):
        await handler.chunk(request, 0, "one ")
        await handler.chunk(request, 2, "three")
        await handler.last(request, 3)
        return answer_with(request, "one two three")

    await handler.serve(script)
    assert await run() == 0
    assert terminal.said.startswith("one three\none two three\n")
    assert "pieces were lost" in terminal.noted


async def test_an_answer_that_is_not_streamed_is_shown(handler, terminal, run, answer_with) -> None:
    async def script(_handler, request):
        return answer_with(request, "all at once")

    await handler.serve(script)
    assert await run() == 0
    assert terminal.said.startswith("all at once\n")
    assert "first token" not in terminal.said


async def test_what_could_steer_a_terminal_is_not_passed_on(handler, terminal, run, answer_with) -> None:
    async def script(handler, request):
        await handler.chunk(request, 0, "\x1b]0;owned\x07text\n")
        answer = answer_with(request, "\x1b]0;owned\x07text\nmore\x9b2J")
        answer.sources.add(title="\x1b[2Jtitle")
        return answer

    await handler.serve(script)
    assert await run() == 0
    assert not {"\x1b", "\x07", "\x9b"} & set(terminal.said)
    assert "text\nmore" in terminal.said


async def test_json_is_one_object_on_standard_output(handler, terminal, run, answer_with) -> None:
    async def script(handler, request):
        await handler.chunk(request, 0, "Because.")
        await handler.last(request, 1)
        return answer_with(request, "Because.", warnings=["w"])

    await handler.serve(script)
    assert await run(form="json") == 0
    said = json.loads(terminal.said)
    assert said["response"] == "Because."
    assert said["warnings"] == ["w"]
    assert terminal.noted == ""


async def test_jsonl_is_an_object_for_each_chunk_and_then_the_response(
    handler, terminal, run, answer_with
) -> None:
    async def script(handler, request):
        await handler.chunk(request, 0, "Be")
        await handler.chunk(request, 1, "cause.")
        await handler.last(request, 2)
        return answer_with(request, "Because.")

    await handler.serve(script)
    assert await run(form="jsonl") == 0
    lines = [json.loads(line) for line in terminal.said.splitlines()]
    assert [next(iter(line)) for line in lines] == ["ChatStreamChunk"] * 3 + ["ChatResponse"]
    assert lines[1]["ChatStreamChunk"]["content"] == "cause."


@pytest.mark.parametrize("form", ["text", "json", "jsonl"])
async def test_an_error_of_the_service_is_said_with_its_type(handler, terminal, run, form: str) -> None:
    async def script(_handler, request):
        return ErrorResponse(
            error=True, message="no model", type="upstream_unavailable", request_id=request.request_id
        )

    await handler.serve(script)
    assert await run(form=form) == 1
    assert "no model (upstream_unavailable)" in terminal.noted
    if form == "text":
        assert terminal.said == ""
    else:
        said = json.loads(terminal.said)
        assert (said if form == "json" else said["ErrorResponse"])["message"] == "no model"


async def test_options_reach_the_request_and_what_was_not_said_stays_unset(handler, run, answer_with) -> None:
    async def script(_handler, request):
        return answer_with(request, "ok")

    await handler.serve(script)
    await run()
    await run(
        rag=False,
        rerank=False,
        session="s",
        system="Be brief",
        collection="c",
        top_k=3,
        language="de",
        timeout=7,
    )
    plain, full = handler.requests
    assert not plain.HasField("enable_rag")
    assert not plain.HasField("enable_reranker")
    assert plain.query == "Why?"
    assert full.HasField("enable_rag")
    assert not full.enable_rag
    assert not full.enable_reranker
    assert (full.session_id, full.system_prompt, full.collection) == ("s", "Be brief", "c")
    assert (full.top_k, full.language) == (3, "de")
    assert handler.headers[1]["Request-Timeout-Ms"] == "7000"
    assert plain.request_id != full.request_id


async def test_ctrl_c_cancels_at_the_far_end_and_waits_for_its_word(handler, terminal, run) -> None:
    interrupt = asyncio.Event()
    cancels = await handler.client.listen("ai.chat.cancel.*")

    async def script(handler, request):
        await handler.chunk(request, 0, "A long ")
        interrupt.set()
        cancel = CancelRequest.FromString((await cancels.next()).data)
        assert cancel.request_id == request.request_id
        await handler.last(request, 1, "cancelled")

    await handler.serve(script)
    assert await run(interrupt=interrupt) == 130
    assert terminal.said == "A long \n"
    assert terminal.noted == "cancelled\n"


async def test_a_far_end_that_does_not_stop_is_not_waited_for_long(
    handler, terminal, run, monkeypatch
) -> None:
    monkeypatch.setattr("handlers_cli.exchange.CANCEL_SECONDS", 0.05)
    interrupt = asyncio.Event()

    async def script(_handler, _request):
        interrupt.set()

    await handler.serve(script)
    assert await run(interrupt=interrupt) == 130
    assert "did not say that it stopped" in terminal.noted


async def test_nobody_listening_is_said_at_once(terminal, run) -> None:
    assert await run() == 3
    assert "nobody listens on ai.chat.request" in terminal.noted
    assert "chat-handler" in terminal.noted


async def test_no_server_is_said_with_what_to_do(terminal, monkeypatch) -> None:
    monkeypatch.setattr("handlers_cli.connecting.CONNECT_SECONDS", 0.2)
    url = f"nats://someone:secret@127.0.0.1:{free_port()}"
    assert await ask(Question("Why?", nats_url=url), terminal, asyncio.Event()) == 3
    assert "cannot reach NATS" in terminal.noted
    assert "handlers up" in terminal.noted
    assert "secret" not in terminal.noted


async def test_no_answer_in_time_is_said(handler, terminal, run, monkeypatch) -> None:
    monkeypatch.setattr("handlers_cli.exchange.MARGIN_SECONDS", 0.0)

    async def script(_handler, _request):
        return None

    await handler.serve(script)
    assert await run(timeout=0.1) == 1
    assert "0.1 s" in terminal.noted


async def test_a_users_question_goes_through_the_stream(handler, terminal, run, answer_with) -> None:
    await ensure_streams(handler.client.connection.jetstream, ["COMPANIONS_CHAT"])

    async def script(handler, request):
        await handler.chunk(request, 0, "Stored.")
        await handler.last(request, 1)
        return answer_with(request, "Stored.")

    await handler.serve(script, "ai.chat.user.ada.message")
    assert await run(user="ada") == 0
    assert terminal.said.startswith("Stored.\n")
    assert handler.requests[0].user_id == "ada"
    assert handler.headers[0]["Nats-Msg-Id"] == handler.requests[0].request_id
    assert "stored and waits" in terminal.noted, "the scripted handler is not in the service discovery"


async def test_a_users_question_without_a_stream_is_told(terminal, run) -> None:
    assert await run(user="ada") == 3
    assert "no stream for ai.chat.user.ada.message" in terminal.noted


@pytest.mark.parametrize("user", ["a b", "a.b", "*", ">"])
async def test_a_user_that_cannot_be_in_a_subject_is_refused(terminal, run, user: str) -> None:
    assert await run(user=user) == 2
    assert "--user" in terminal.noted


async def test_a_lost_connection_is_told_and_survived(
    nats, handler, terminal, run, answer_with, monkeypatch
) -> None:
    monkeypatch.setattr("handlers_cli.exchange.LOOK_SECONDS", 0.02)

    async def script(handler, request):
        await handler.chunk(request, 0, "before, ")
        await handler.client.connection.flush()
        while "before" not in terminal.said:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(nats.stop)
        while "lost" not in terminal.noted:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(nats.start)
        while not handler.client.connection.connected:
            await asyncio.sleep(0.005)
        subject = f"ai.chat.response.stream.{request.request_id}"
        # Our own reconnect says nothing about theirs: wait until they are there to hear us.
        while not await _heard(handler, subject):
            await asyncio.sleep(0.01)
        return answer_with(request, "before, after")

    await handler.serve(script)
    assert await run() == 0
    assert "after" in terminal.said


async def _heard(handler, subject: str) -> bool:
    from handler_base.errors import HandlerError, NotFound

    try:
        await handler.client.connection.request_bytes(subject, b"", timeout=0.05)
    except NotFound:
        return False
    except HandlerError:
        return True
    return True
