"""A trigger becomes one run, and every change of it is told."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from handler_messages import (
    ErrorResponse,
    PipelineListResponse,
    PipelineRunListRequest,
    PipelineRunListResponse,
    PipelineTrigger,
)
from pipeline_bridge.engines import Observation

if TYPE_CHECKING:
    from conftest import Stack

RUNNING = Observation("running")
DONE = Observation("succeeded", "4 documents")


async def test_a_trigger_is_submitted_followed_and_told_to_its_end(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1", what="this", often="3")
        await told.status("pending")
        stack.engine.tell(stack.name(), RUNNING, DONE)
        found = await told.ended()
    assert [(one.status, one.message) for one in found if one.status != "pending"] == [
        ("submitted", ""),
        ("running", ""),
        ("succeeded", "4 documents"),
    ]
    assert {(one.request_id, one.pipeline, one.engine) for one in found} == {("r1", "work", "argo")}
    assert found[-1].run_id == stack.name()
    assert found[0].timestamp <= found[-1].timestamp
    assert stack.engine.orders[stack.name()].parameters == {"what": "this", "often": "3"}


async def test_states_that_went_by_unseen_are_told_too(stack: Stack) -> None:
    stack.engine.automatic = (DONE,)
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.ended()
    assert [status for status, _ in itertools.groupby(told.statuses)] == [
        "submitted",
        "pending",
        "running",
        "succeeded",
    ]


async def test_a_run_that_failed_before_it_ran_is_not_told_as_running(stack: Stack) -> None:
    stack.engine.automatic = (Observation("failed", "no such image", started=False),)
    async with stack.bridge():
        told = await stack.trigger("r1")
        last = (await told.ended())[-1]
    assert "running" not in told.statuses
    assert (last.status, last.message, last.error.type) == ("failed", "no such image", "pipeline_failed")
    assert last.error.error
    assert last.error.request_id == "r1"


async def test_progress_is_told_but_not_more_often_than_it_may_be(stack: Stack) -> None:
    async with stack.bridge(PROGRESS_INTERVAL="0.3"):
        told = await stack.trigger("r1")
        await told.status("pending")
        for number in range(100):
            stack.engine.tell(stack.name(), Observation("running", f"{number} of 100"))
            await asyncio.sleep(0)
        # The last word on how far it is comes, though nothing follows it.
        await told.until(lambda all_: all_[-1].message == "99 of 100")
        stack.engine.tell(stack.name(), DONE)
        found = await told.ended()
    assert [one.status for one in found].count("running") <= 3


async def test_the_same_request_again_is_one_run_whenever_it_comes(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1")
        await stack.send("r1")
        await told.status("pending")
        await stack.send("r1")
        stack.engine.tell(stack.name(), DONE)
        await told.ended()
        await stack.send("r1")
        await stack.send("r1", "alone")
        await stack.send("r1", "nonsense")
        other = await stack.trigger("r2")
        await other.status("pending")
        await told.ended()
        assert len(stack.engine.runs) == 2
        assert len(stack.engine.submits) == 2
    assert told.statuses.count("submitted") == 1


@pytest.mark.parametrize(
    ("pipeline", "parameters", "type_", "words"),
    [
        ("nonsense", {}, "not_found", ["nonsense", "work", "alone", "document-ingestion"]),
        ("rag-query", {"query": "x"}, "not_found", ["kubeflow", "PIPELINE_ENGINES"]),
        ("", {}, "invalid_request", ["work", "alone"]),
        ("work", {"what": ""}, "invalid_request", ["what is missing", "what to do"]),
        ("work", {"x": "1", "often": "0"}, "invalid_request", ["unknown parameters: x", "often is 0"]),
    ],
)
async def test_what_cannot_be_run_is_answered_with_what_can(
    stack: Stack, pipeline: str, parameters: dict[str, str], type_: str, words: list[str]
) -> None:
    async with stack.bridge(PIPELINE_ENGINES="argo"):
        told = await stack.trigger("r1", pipeline, **parameters)
        (status,) = await told.ended()
        assert (status.status, status.error.type) == ("error", type_)
        assert status.message == status.error.message
        for word in words:
            assert word in status.message
        # Who sends it again as it should be is served.
        await stack.send("r1")
        await told.until(lambda all_: all_[-1].status == "pending")
        assert [one.sequence for one in told.all] == [1, 2, 3]
    dead = await stack.client.connection.last_stored("AI_DLQ", "ai.dlq.pipeline-bridge")
    assert dead is not None


async def test_bytes_that_are_no_trigger_are_answered_under_their_number_in_the_stream(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.listen("*")
        await stack.client.connection.store("ai.pipeline.trigger", b"\xff\xff", msg_id="x")
        await told.until(bool)
        (status,) = told.all
    assert status.request_id == "AI_PIPELINE-1"
    assert (status.status, status.error.type) == ("error", "invalid_request")


async def test_json_is_answered_in_json(stack: Stack) -> None:
    stack.engine.automatic = (DONE,)
    body = b'{"request_id": "r1", "pipeline": "work", "parameters": {"what": "x"}, "user_id": "ada"}'
    async with stack.bridge():
        told = await stack.listen("r1")
        await stack.client.connection.store(
            "ai.pipeline.trigger", body, msg_id="x", headers={"Content-Type": "application/json"}
        )
        await told.ended()
    assert told.heard.all[0].headers["Content-Type"] == "application/json"


async def test_a_request_without_an_id_gets_one(stack: Stack) -> None:
    stack.engine.automatic = (DONE,)
    async with stack.bridge():
        told = await stack.listen("*")
        await stack.send("")
        await told.status("succeeded")
    assert {one.request_id for one in told.all} == {"AI_PIPELINE-1"}


async def test_pipelines_and_runs_are_listed(stack: Stack) -> None:
    async with stack.bridge():
        told = [await stack.trigger(f"r{number}") for number in range(3)]
        for each in told:
            await each.status("pending")
        first = next(order.name for order in stack.engine.orders.values() if order.request_id == "r0")
        stack.engine.tell(first, DONE)
        await told[0].ended()
        connection = stack.client.connection

        async def listed(**fields: Any) -> PipelineRunListResponse:
            answer = await connection.request(
                "ai.pipeline.runs.list",
                PipelineRunListRequest(**fields),
                PipelineRunListResponse,
                timeout=5,
            )
            assert isinstance(answer, PipelineRunListResponse), answer
            return answer

        everything = await listed()
        assert [run.request_id for run in everything.runs] == ["r2", "r1", "r0"]
        assert everything.total == 3
        done = everything.runs[2]
        assert (done.status, done.message, done.pipeline, done.engine) == (
            "succeeded",
            "4 documents",
            "work",
            "argo",
        )
        assert dict(done.parameters) == {"what": "something", "often": "1"}
        assert done.run_id == first
        assert 0 < done.created <= done.updated
        assert [run.request_id for run in (await listed(status="active")).runs] == ["r2", "r1"]
        assert [run.request_id for run in (await listed(status="succeeded")).runs] == ["r0"]
        assert [run.request_id for run in (await listed(run_request_id="r1")).runs] == ["r1"]
        assert not (await listed(run_request_id="r9")).runs
        assert not (await listed(pipeline="alone")).runs
        few = await listed(limit=1)
        assert ([run.request_id for run in few.runs], few.total) == (["r2"], 3)
        refused = await connection.request(
            "ai.pipeline.runs.list",
            PipelineRunListRequest(status="lost"),
            PipelineRunListResponse,
            timeout=5,
        )
        assert isinstance(refused, ErrorResponse)
        assert "active, submitted, pending" in refused.message

        reply = await connection.request_bytes("ai.pipeline.list", b"", timeout=5)
        pipelines = {one.name: one for one in PipelineListResponse.FromString(reply.data).pipelines}
        assert pipelines["work"].description == "Does something"
        assert [(p.name, p.type, p.required, p.default_value) for p in pipelines["work"].parameters] == [
            ("what", "string", True, ""),
            ("often", "integer", False, "1"),
        ]
        assert list(pipelines["model-evaluation"].parameters[2].allowed) == ["exact", "contains", "f1"]


async def test_the_deadline_of_a_pipeline_or_of_its_caller_stops_a_run(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1", "short")
        last = (await told.ended())[-1]
        assert (last.status, last.error.type) == ("failed", "deadline_exceeded")
        told = await stack.listen("r2")
        request = PipelineTrigger(request_id="r2", pipeline="work", parameters={"what": "x"})
        await stack.client.send("ai.pipeline.trigger", request, Request_Timeout_Ms="1500")
        last = (await told.ended())[-1]
        assert (last.status, last.error.type) == ("failed", "deadline_exceeded")
    assert len(stack.engine.stops) == 2
