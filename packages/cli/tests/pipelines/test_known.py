"""`handlers trigger` without a pipeline."""

from __future__ import annotations

import asyncio
import json

import pytest

from handler_messages import ErrorResponse
from handlers_cli.pipelines.known import Known, known


@pytest.fixture
def run(nats, terminal):
    async def run(*, as_json: bool = False) -> int:
        async with asyncio.timeout(30):
            return await known(Known(nats_url=nats.url, as_json=as_json), terminal, asyncio.Event())

    return run


async def test_pipelines_are_listed_with_what_they_can_be_told(run, bridge, terminal) -> None:
    assert await run() == 0
    assert terminal.said == (
        "document-ingestion  local  Reads documents\n"
        "    source-url  string  required  what to read\n"
        "    collection  string            where to\n"
        "\n"
        "model-evaluation  argo  Scores answers\n"
        "    metric  string  default f1  how; one of exact, f1\n"
        "\n"
        "handlers trigger PIPELINE NAME=VALUE … runs one\n"
    )


async def test_json_is_one_object(run, bridge, terminal) -> None:
    assert await run(as_json=True) == 0
    assert [each["name"] for each in json.loads(terminal.said)["pipelines"]] == [
        "document-ingestion",
        "model-evaluation",
    ]


async def test_a_bridge_without_pipelines_says_so(run, bridge, terminal) -> None:
    bridge.infos = []
    assert await run() == 0
    assert terminal.said == "no pipelines\n"


async def test_what_could_steer_a_terminal_is_not_passed_on(run, bridge, terminal) -> None:
    bridge.infos[0].description = "\x1b[2Jwiped\nout"
    try:
        assert await run() == 0
    finally:
        bridge.infos[0].description = "Reads documents"
    assert "�[2Jwiped out" in terminal.said


@pytest.mark.parametrize("as_json", [False, True])
async def test_an_error_is_told(run, bridge, terminal, as_json: bool) -> None:
    bridge.refuses = ErrorResponse(error=True, type="forbidden", message="not yours")
    assert await run(as_json=as_json) == 1
    assert terminal.noted == "error: not yours (forbidden)\n"


async def test_nobody_listening_is_told_at_once(run, terminal) -> None:
    assert await run() == 3
    assert "nobody listens on ai.pipeline.list" in terminal.noted
    assert "pipeline-bridge" in terminal.noted
