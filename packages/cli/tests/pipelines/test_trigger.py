"""`handlers trigger` against the real server and a scripted pipeline-bridge."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from handler_messages import ErrorResponse
from handler_testkit.nats import free_port
from handler_testkit.services import running, until
from handlers_cli.pipelines.trigger import Trigger, trigger

INGEST = "document-ingestion"


@pytest.fixture
def run(nats, terminal):
    async def run(pipeline: str = INGEST, **options: object) -> int:
        interrupt = options.pop("interrupt", None) or asyncio.Event()
        shown = options.pop("terminal", terminal)
        async with asyncio.timeout(30):
            return await trigger(Trigger(pipeline, nats_url=nats.url, **options), shown, interrupt)

    return run


@pytest.fixture
def succeeds(bridge):
    """Have every run succeed in a few steps."""

    async def script(request) -> None:
        request_id = request.request_id
        await bridge.status(request_id, "submitted", engine="local")
        await bridge.status(request_id, "pending", "2 runs are before this one", engine="local")
        await bridge.status(request_id, "running", engine="local", run_id="local-1")
        await bridge.status(request_id, "running", "12/40 docs/x.md", engine="local", run_id="local-1")
        await bridge.status(request_id, "succeeded", "40 added", engine="local", run_id="local-1")

    bridge.script = script


async def test_a_run_is_followed_to_its_end_a_line_for_each_status(run, bridge, succeeds, terminal) -> None:
    assert await run(parameters={"source-url": "https://example.org"}, user="ada") == 0
    (request,) = bridge.triggers
    assert (request.pipeline, dict(request.parameters)) == (INGEST, {"source-url": "https://example.org"})
    assert request.user_id == "ada"
    title, *lines = terminal.said.splitlines()
    assert title == f"{INGEST} source-url=https://example.org  {request.request_id}"
    assert [" ".join(line.split()) for line in lines] == [
        "0.0 s · submitted",
        "0.0 s · pending 2 runs are before this one",
        "local run local-1",
        "0.0 s · running",
        "0.0 s · running 12/40 docs/x.md",
        "0.0 s ✓ succeeded 40 added",
    ]
    assert terminal.noted == ""


async def test_on_a_terminal_one_line_is_drawn_over_and_the_last_one_stays(run, bridge, tty) -> None:
    async def script(request) -> None:
        await bridge.status(request.request_id, "running", "1/9 \x1b[2Ja.md " + "x" * 500)
        await tty.says("1/9")
        await bridge.status(request.request_id, "succeeded", "all of it\nis done")

    bridge.script = script
    assert await run(terminal=tty) == 0
    title, rest = tty.said.split("\n", 1)
    assert title.startswith(INGEST)
    drawn = rest.split("\r\x1b[K")
    assert any(re.fullmatch(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] running    0\.\d s  1/9 �\[2Ja\.md x+…", line) for line in drawn)
    assert max(map(len, drawn)) < 80
    assert re.fullmatch(r"✓ succeeded  0\.\d s  all of it\nis done\n", drawn[-1])


@pytest.mark.parametrize(
    ("status", "kind"), [("failed", "upstream_rejected"), ("error", "not_found"), ("failed", "cancelled")]
)
@pytest.mark.parametrize("live", [False, True])
async def test_a_run_that_goes_wrong_ends_with_1_and_the_reason(
    run, bridge, terminal, tty, status: str, kind: str, live: bool
) -> None:
    async def script(request) -> None:
        error = ErrorResponse(error=True, type=kind, message="no \x1bdisk\nis left")
        await bridge.status(request.request_id, status, "no disk", error=error)

    bridge.script = script
    shown = tty if live else terminal
    assert await run(terminal=shown) == 1
    assert f"✗ {status}" in shown.said
    assert shown.noted == f"error: no �disk\nis left ({kind})\n"


async def test_a_run_that_goes_wrong_without_a_reason_is_told_all_the_same(run, bridge, terminal) -> None:
    async def script(request) -> None:
        await bridge.status(request.request_id, "failed")

    bridge.script = script
    assert await run() == 1
    assert "the run ended with the status failed" in terminal.noted


async def test_a_trigger_that_is_refused_says_what_there_is(run, bridge, terminal) -> None:
    async def script(request) -> None:
        await bridge.refused(request.request_id, "not_found", "there is no pipeline 'x'; there are: a, b")

    bridge.script = script
    assert await run("x") == 1
    assert terminal.noted == "error: there is no pipeline 'x'; there are: a, b (not_found)\n"


async def test_a_status_that_is_stored_twice_is_shown_once(run, bridge, terminal) -> None:
    async def script(request) -> None:
        request_id = request.request_id
        await bridge.status(request_id, "submitted")
        await bridge.status(request_id, "running", "first")
        await bridge.status(request_id, "submitted", sequence=1)
        await bridge.status(request_id, "running", "again", sequence=2)
        await bridge.status(request_id, "succeeded")

    bridge.script = script
    assert await run() == 0
    assert terminal.said.count("submitted") == 1
    assert "again" not in terminal.said


async def test_json_is_the_last_status_and_jsonl_all_of_them(run, bridge, succeeds, terminal) -> None:
    assert await run(form="json") == 0
    last = json.loads(terminal.said)
    assert (last["status"], last["message"], last["sequence"]) == ("succeeded", "40 added", 5)
    terminal.out.truncate(0)
    terminal.out.seek(0)
    assert await run(form="jsonl") == 0
    lines = [json.loads(line) for line in terminal.said.splitlines()]
    assert [line["PipelineStatus"]["sequence"] for line in lines] == [1, 2, 3, 4, 5]
    assert terminal.noted == ""


async def test_json_of_a_run_that_goes_wrong_comes_with_words_for_a_person(run, bridge, terminal) -> None:
    async def script(request) -> None:
        await bridge.refused(request.request_id, "invalid_request", "source-url is missing")

    bridge.script = script
    assert await run(form="json") == 1
    assert json.loads(terminal.said)["error"]["type"] == "invalid_request"
    assert "source-url is missing (invalid_request)" in terminal.noted


async def test_ctrl_c_cancels_the_run_and_waits_for_its_end(run, bridge, terminal) -> None:
    interrupt = asyncio.Event()

    async def script(request) -> None:
        await bridge.status(request.request_id, "running")
        await terminal.says("running")
        interrupt.set()
        await bridge.cancelled.wait()
        error = ErrorResponse(error=True, type="cancelled", message="cancelled: interrupted at the terminal")
        await bridge.status(request.request_id, "failed", error=error)

    bridge.script = script
    assert await run(interrupt=interrupt) == 130
    (cancel,) = bridge.cancels
    assert cancel.request_id == bridge.triggers[0].request_id
    assert cancel.reason == "interrupted at the terminal"
    assert "✗ failed" in terminal.said
    assert terminal.noted == "cancelling the run; Ctrl-C again does not wait for its end\ncancelled\n"


async def test_a_run_that_does_not_end_is_not_waited_for_long(run, bridge, terminal, monkeypatch) -> None:
    monkeypatch.setattr("handlers_cli.pipelines.trigger.CANCEL_SECONDS", 0.05)
    interrupt = asyncio.Event()

    async def script(request) -> None:
        await bridge.status(request.request_id, "running")
        interrupt.set()

    bridge.script = script
    assert await run(interrupt=interrupt) == 130
    await until(lambda: bridge.cancels)
    assert f"the run has not ended yet; `handlers runs {bridge.triggers[0].request_id}`" in terminal.noted


async def test_a_run_that_ends_before_it_could_be_stopped_is_told_as_it_ended(run, bridge, terminal) -> None:
    interrupt = asyncio.Event()

    async def script(request) -> None:
        await bridge.status(request.request_id, "running")
        interrupt.set()
        await bridge.cancelled.wait()
        await bridge.status(request.request_id, "succeeded", "done")

    bridge.script = script
    assert await run(interrupt=interrupt) == 130
    assert "✓ succeeded  done" in terminal.said
    assert "cancelled\n" not in terminal.noted


async def test_detached_the_id_is_printed_and_nothing_awaited(run, bridge, terminal) -> None:
    assert await run(detach=True) == 0
    await until(lambda: bridge.triggers)
    assert terminal.said == f"{bridge.triggers[0].request_id}\n"
    assert await run(detach=True, request_id="mine", form="json") == 0
    assert json.loads(terminal.said.splitlines()[1])["request_id"] == "mine"


async def test_an_id_that_was_used_before_means_that_run(run, bridge, succeeds, terminal) -> None:
    assert await run(request_id="mine") == 0
    assert await run(request_id="mine") == 0
    assert len(bridge.triggers) == 1
    assert terminal.said.count("✓ succeeded  40 added") == 2
    assert "mine was triggered before" in terminal.noted


@pytest.mark.parametrize("request_id", ["a b", "a.b", "*", ">"])
async def test_an_id_that_cannot_be_in_a_subject_is_refused(run, terminal, request_id: str) -> None:
    assert await run(request_id=request_id) == 2
    assert "--id" in terminal.noted


async def test_a_bridge_that_is_away_is_told_and_the_trigger_waits_for_it(run, absent, terminal) -> None:
    async def script(request) -> None:
        await absent.status(request.request_id, "succeeded", "late")

    absent.script = script
    waiting = asyncio.ensure_future(run())
    await terminal.says("no pipeline-bridge runs now; the trigger is stored and waits for one")
    assert not waiting.done()
    async with running(absent.service):
        assert await waiting == 0
    assert "✓ succeeded  late" in terminal.said


async def test_where_no_bridge_ever_ran_nothing_can_be_stored(run, terminal) -> None:
    assert await run() == 3
    assert "no stream for ai.pipeline.trigger; pipeline-bridge makes it when it starts" in terminal.noted


async def test_no_server_is_told_with_what_to_do(terminal, monkeypatch) -> None:
    monkeypatch.setattr("handlers_cli.connecting.CONNECT_SECONDS", 0.2)
    what = Trigger(INGEST, nats_url=f"nats://127.0.0.1:{free_port()}")
    assert await trigger(what, terminal, asyncio.Event()) == 3
    assert "cannot reach NATS" in terminal.noted


async def test_no_end_in_time_leaves_the_run_alone_and_says_how_to_go_on(run, bridge, terminal) -> None:
    async def script(request) -> None:
        await bridge.status(request.request_id, "running")

    bridge.script = script
    assert await run(timeout=0.5) == 1
    request_id = bridge.triggers[0].request_id
    assert (
        f"did not end within 0.5 s; it goes on, and `handlers runs {request_id}` follows it" in terminal.noted
    )
    assert not bridge.cancels


async def test_a_restart_of_nats_is_survived_without_a_gap_or_a_repetition(
    nats, run, bridge, terminal, monkeypatch
) -> None:
    monkeypatch.setattr("handlers_cli.exchange.LOOK_SECONDS", 0.02)

    async def script(request) -> None:
        request_id = request.request_id
        await bridge.status(request_id, "submitted")
        await bridge.status(request_id, "running", "1/3")
        await terminal.says("1/3")
        await asyncio.to_thread(nats.stop)
        await terminal.says("the connection to NATS is lost")
        await asyncio.to_thread(nats.start)
        await until(lambda: bridge.client.connection.connected)
        await bridge.status(request_id, "running", "2/3")
        await bridge.status(request_id, "running", "3/3")
        await bridge.status(request_id, "succeeded")

    bridge.script = script
    assert await run() == 0
    words = [line.split(maxsplit=3)[3] for line in terminal.said.splitlines()[1:]]
    assert [word for word in words if not word.startswith("local run")] == [
        "submitted", "running    1/3", "running    2/3", "running    3/3", "succeeded",
    ]  # fmt: skip


async def test_a_server_that_goes_before_the_first_status_is_waited_for(
    nats, run, absent, terminal, monkeypatch
) -> None:
    monkeypatch.setattr("handlers_cli.exchange.LOOK_SECONDS", 0.02)
    following = asyncio.ensure_future(run())
    await terminal.says(INGEST)
    await asyncio.to_thread(nats.kill)
    await terminal.says("the connection to NATS is lost")
    await asyncio.to_thread(nats.start)
    await until(lambda: absent.client.connection.connected)
    request_id = terminal.said.split()[1]
    await absent.status(request_id, "succeeded", "there")
    assert await following == 0
    assert "✓ succeeded  there" in terminal.said


async def test_a_folder_of_this_machine_is_named_from_its_root_where_the_engine_is_local(
    run, bridge, succeeds, terminal, tmp_path, monkeypatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    await run(parameters={"source-url": "docs", "collection": "docs"})
    await run("model-evaluation", parameters={"dataset-url": "docs"})
    local, elsewhere = bridge.triggers
    assert dict(local.parameters) == {"source-url": str(tmp_path / "docs"), "collection": "docs"}
    assert dict(elsewhere.parameters) == {"dataset-url": "docs"}
    assert f"source-url={tmp_path / 'docs'}" in terminal.said


async def test_a_folder_stays_as_it_was_said_when_nobody_says_where_it_will_run(
    run, absent, terminal, tmp_path, monkeypatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert await run(parameters={"source-url": "docs"}, detach=True) == 0
    async with running(absent.service):
        await until(lambda: absent.triggers)
    assert dict(absent.triggers[0].parameters) == {"source-url": "docs"}
