"""`handlers runs ID`."""

from __future__ import annotations

import asyncio
import json
import re
import time

import pytest

from handler_messages import ErrorResponse, PipelineRun
from handler_testkit.services import running, until
from handlers_cli.pipelines.one import One, one

CANCELLED = ErrorResponse(error=True, type="cancelled", message="cancelled: enough")


@pytest.fixture
def run(nats, terminal):
    async def run(request_id: str = "mine", **options: object) -> int:
        interrupt = options.pop("interrupt", None) or asyncio.Event()
        shown = options.pop("terminal", terminal)
        async with asyncio.timeout(30):
            return await one(One(request_id, nats_url=nats.url, **options), shown, interrupt)

    return run


@pytest.fixture
async def mine(bridge):
    """A run that is at work."""
    bridge.runs = [
        PipelineRun(
            request_id="mine", pipeline="document-ingestion", engine="local", run_id="local-1", status="running",
            user_id="ada", parameters={"source-url": "/docs"}, created=time.time() - 65,
        )
    ]  # fmt: skip
    fields = {"pipeline": "document-ingestion", "engine": "local", "run_id": "local-1"}
    await bridge.status("mine", "submitted", timestamp=time.time() - 65, **fields)
    await bridge.status("mine", "running", "1/2 a.md", timestamp=time.time() - 60, **fields)
    return bridge


async def test_a_run_is_described_with_its_statuses_and_followed_to_its_end(run, mine, terminal) -> None:
    following = asyncio.ensure_future(run())
    await terminal.says("1/2 a.md")
    await mine.status("mine", "succeeded", "2 added")
    assert await following == 0
    lines = [" ".join(line.split()) for line in terminal.said.splitlines()]
    assert lines[:5] == [
        "document-ingestion local",
        "request mine",
        "run local-1",
        "user ada",
        "parameter source-url=/docs",
    ]
    assert re.fullmatch(r"triggered \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, 1 min 05 s ago", lines[5])
    assert lines[6:] == ["0.0 s · submitted", "5.0 s · running 1/2 a.md", "1 min 05 s ✓ succeeded 2 added"]


async def test_of_much_progress_the_first_and_the_last_word_is_told(run, mine, terminal) -> None:
    for number in range(2, 30):
        await mine.status("mine", "running", f"{number}/30 x.md")
    await mine.status("mine", "succeeded")
    assert await run() == 0
    shown = [line.split(maxsplit=3)[3] for line in terminal.said.splitlines()[-4:]]
    assert shown[0].endswith("submitted")
    assert shown[1].endswith("running    1/2 a.md")
    assert shown[2].endswith("running    29/30 x.md")
    assert shown[3].endswith("succeeded")


async def test_on_a_terminal_what_was_stays_and_what_comes_is_drawn_over(run, mine, tty) -> None:
    following = asyncio.ensure_future(run(terminal=tty))
    await tty.says("1 min 05 s  ")
    await mine.status("mine", "running", "2/2 b.md")
    await tty.says("2/2 b.md")
    await mine.status("mine", "failed", error=ErrorResponse(type="internal", message="out of memory"))
    assert await following == 1
    assert "· running    1/2 a.md\n" in tty.said
    assert tty.said.endswith("\r\x1b[K✗ failed     1 min 05 s\n")
    assert tty.said.count("local-1") == 1
    assert tty.noted == "error: out of memory (internal)\n"


async def test_a_run_is_not_followed_when_that_is_not_wanted(run, mine, terminal) -> None:
    assert await run(follow=False) == 0
    assert terminal.said.splitlines()[-1].endswith("running    1/2 a.md")


async def test_an_ended_run_has_the_exit_code_of_its_end(run, mine, terminal) -> None:
    await mine.status("mine", "failed", error=ErrorResponse(type="internal", message="out of memory"))
    assert await run() == 1
    assert "out of memory (internal)" in terminal.noted


async def test_a_run_whose_statuses_are_gone_is_told_from_the_service_s_list(run, bridge, terminal) -> None:
    bridge.runs = [
        PipelineRun(request_id="mine", pipeline="p", status="succeeded", message="long ago", updated=1.0)
    ]
    assert await run() == 0
    assert terminal.said.endswith("✓ succeeded  long ago\n")


async def test_a_run_that_nobody_knows_is_told(run, bridge, terminal, monkeypatch) -> None:
    monkeypatch.setattr("handlers_cli.pipelines.one.FIRST_SECONDS", 0.05)
    assert await run("other") == 1
    assert terminal.noted == "error: there is no run of the request 'other' (not_found)\n"


async def test_a_run_that_was_triggered_a_moment_ago_is_waited_for(run, bridge, terminal) -> None:
    following = asyncio.ensure_future(run())
    await until(lambda: bridge.asked)
    await bridge.status("mine", "succeeded", pipeline="p")
    assert await following == 0
    assert "✓ succeeded" in terminal.said


async def test_without_a_bridge_a_run_is_told_from_its_statuses(run, absent, terminal) -> None:
    await absent.status("mine", "succeeded", "done", pipeline="p", engine="argo")
    assert await run() == 0
    assert terminal.said.startswith("p  argo\n")


async def test_without_a_bridge_and_statuses_there_is_nobody_to_ask(run, absent, terminal) -> None:
    assert await run() == 3
    assert "pipeline-bridge does not run there" in terminal.noted


async def test_json_is_the_run_and_its_statuses_when_it_has_ended(run, mine, terminal) -> None:
    following = asyncio.ensure_future(run(as_json=True))
    await until(lambda: mine.asked)
    await mine.status("mine", "succeeded", "2 added")
    assert await following == 0
    said = json.loads(terminal.said)
    assert (said["run"]["user_id"], said["run"]["status"], said["run"]["message"]) == (
        "ada",
        "succeeded",
        "2 added",
    )
    assert [each["status"] for each in said["statuses"]] == ["submitted", "running", "succeeded"]
    assert terminal.noted == ""


async def test_a_run_is_cancelled_and_its_end_awaited(run, mine, terminal) -> None:
    cancelling = asyncio.ensure_future(run(cancel=True, reason="enough"))
    await mine.cancelled.wait()
    assert (mine.cancels[0].request_id, mine.cancels[0].reason) == ("mine", "enough")
    await mine.status("mine", "failed", error=CANCELLED)
    assert await cancelling == 0
    assert terminal.noted == "cancelled\n"


async def test_a_cancellation_need_not_be_awaited(run, mine, terminal) -> None:
    assert await run(cancel=True, follow=False) == 0
    await mine.cancelled.wait()
    assert terminal.noted == "the run was told to stop\n"


async def test_a_run_that_has_ended_cannot_be_cancelled(run, mine, terminal) -> None:
    await mine.status("mine", "succeeded")
    assert await run(cancel=True) == 1
    assert terminal.noted == "error: the run has ended already: succeeded\n"
    assert not mine.cancels


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("succeeded", "the run succeeded before it could be stopped"),
        ("failed", "ended with the status failed"),
    ],
)
async def test_a_run_that_ends_otherwise_while_it_is_cancelled_is_told(
    run, mine, terminal, status: str, says: str
) -> None:
    cancelling = asyncio.ensure_future(run(cancel=True))
    await mine.cancelled.wait()
    await mine.status("mine", status)
    assert await cancelling == 1
    assert says in terminal.noted


async def test_a_cancellation_without_a_bridge_waits_for_one(run, absent, terminal) -> None:
    await absent.status("mine", "running", pipeline="p")
    cancelling = asyncio.ensure_future(run(cancel=True))
    await terminal.says("no pipeline-bridge runs now; the cancellation is stored and waits for one")
    async with running(absent.service):
        await absent.cancelled.wait()
        await absent.status("mine", "failed", error=CANCELLED)
        assert await cancelling == 0


async def test_ctrl_c_leaves_the_run_as_it_is(run, mine, tty) -> None:
    interrupt = asyncio.Event()
    following = asyncio.ensure_future(run(interrupt=interrupt, terminal=tty))
    await tty.says("running    1 min")
    interrupt.set()
    assert await following == 130
    assert not mine.cancels
    assert tty.noted == "the run goes on; `handlers runs mine --cancel` stops it\n"
    assert tty.said.endswith("\r\x1b[K")


@pytest.mark.parametrize("request_id", ["a b", "a.b", "*"])
async def test_an_id_that_cannot_be_one_is_refused(run, terminal, request_id: str) -> None:
    assert await run(request_id) == 2
    assert "the id of a request" in terminal.noted
