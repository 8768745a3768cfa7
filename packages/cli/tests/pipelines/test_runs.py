"""`handlers runs`: the list."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from handler_messages import ErrorResponse, PipelineRun
from handlers_cli.pipelines.runs import Runs, runs


@pytest.fixture
def run(nats, terminal):
    async def run(**options: object) -> int:
        shown = options.pop("terminal", terminal)
        async with asyncio.timeout(30):
            return await runs(Runs(nats_url=nats.url, **options), shown, asyncio.Event())

    return run


@pytest.fixture
def two(bridge):
    now = time.time()
    bridge.runs = [
        PipelineRun(
            request_id="two", pipeline="model-evaluation", engine="argo", status="running", created=now - 75,
            updated=now, message="3/9\nitems",
        ),
        PipelineRun(
            request_id="one", pipeline="document-ingestion", engine="local", status="succeeded",
            created=now - 7200, updated=now - 7158, message="40 added " + "x" * 200,
        ),
    ]  # fmt: skip
    return bridge


async def test_runs_are_a_table_with_age_and_duration(run, two, terminal) -> None:
    assert await run() == 0
    head, active, ended = terminal.said.splitlines()
    assert head.split() == ["REQUEST", "PIPELINE", "ENGINE", "STATUS", "AGE", "TOOK", "MESSAGE"]
    assert active.split("  ")[0] == "two"
    assert " ".join(active.split()) == "two model-evaluation argo running 1 min 15 s 1 min 15 s 3/9 items"
    assert " ".join(ended.split()[:-1]).endswith("succeeded 2 h 00 min 42 s 40 added")
    assert head.index("MESSAGE") == active.index("3/9") == ended.index("40 added")
    assert ended.endswith("x" * 200)
    assert two.asked[0].status == "active"


async def test_on_a_terminal_no_line_wraps(run, two, tty) -> None:
    assert await run(terminal=tty) == 0
    assert max(map(len, tty.said.splitlines())) == 80


async def test_what_is_wanted_reaches_the_service_and_a_rest_is_told(run, two, terminal) -> None:
    assert await run(status="failed", pipeline="document-ingestion", limit=1) == 0
    (asked,) = two.asked
    assert (asked.status, asked.pipeline, asked.limit) == ("failed", "document-ingestion", 1)
    assert terminal.noted == "1 of 2 runs; --limit lists more\n"


@pytest.mark.parametrize(
    ("status", "says"), [("active", "nothing runs"), ("", "no runs\n"), ("failed", "no runs\n")]
)
async def test_no_runs_are_told(run, bridge, terminal, status: str, says: str) -> None:
    assert await run(status=status) == 0
    assert says in terminal.said


async def test_json_is_one_object(run, two, terminal) -> None:
    assert await run(as_json=True) == 0
    said = json.loads(terminal.said)
    assert [each["request_id"] for each in said["runs"]] == ["two", "one"]
    assert said["total"] == 2


async def test_an_error_is_told(run, bridge, terminal) -> None:
    bridge.refuses = ErrorResponse(error=True, type="messaging", message="the bucket is away")
    assert await run() == 1
    assert "the bucket is away (messaging)" in terminal.noted


async def test_nobody_listening_is_told_at_once(run, terminal) -> None:
    assert await run() == 3
    assert "nobody listens on ai.pipeline.runs.list" in terminal.noted
