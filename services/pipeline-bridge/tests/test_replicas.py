"""Several replicas, and what becomes of the runs of one that is no more."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from handler_base.messaging.keyvalue import KeyValue
from handler_base.messaging.streams import Bucket
from handler_testkit.services import until
from pipeline_bridge.engines import Observation
from pipeline_bridge.runs import Run, Runs, name_of

if TYPE_CHECKING:
    from typing import Any

    from conftest import Stack

RUNNING = Observation("running")
DONE = Observation("succeeded")


def of_the_dead(request_id: str, **fields: Any) -> Run:
    """Return a run of a replica that crashed."""
    at = time.time()
    run = Run(
        request_id=request_id,
        pipeline="work",
        engine="argo",
        name=name_of("work", request_id),
        parameters={"what": "x", "often": "1"},
        owner="dead",
        status="submitted",
        sequence=1,
        created=at,
        updated=at,
        deadline=at + 60,
    )
    return msgspec.structs.replace(run, **fields)


def runs_of(stack: Stack) -> Runs:
    return Runs(KeyValue(stack.client.connection, Bucket("pipeline-runs", 86400)))


async def test_a_run_of_a_crashed_replica_is_taken_over_where_it_was(stack: Stack) -> None:
    """At each step at which a crash can leave it."""
    name = name_of("work", "r1")
    async with stack.bridge():
        pass
    cases = {
        "recorded": of_the_dead("r0"),
        "placed": of_the_dead("r1", placed=True),
        "accepted, told nobody": of_the_dead(
            "r2", placed=True, accepted=True, run_id=name_of("work", "r2"), status="pending", sequence=2
        ),
        "to be cancelled": of_the_dead("r3", placed=True, cancel="changed my mind"),
        "ended, told nobody": of_the_dead(
            "r6", placed=True, accepted=True, status="succeeded", message="done", sequence=4
        ),
        "of a pipeline that is no more": of_the_dead("r4", pipeline="gone"),
        "moved to another engine": of_the_dead("r5", engine="kubeflow"),
    }
    told = {run.request_id: await stack.listen(run.request_id) for run in cases.values()}
    stack.engine.runs[name] = [Observation("pending"), RUNNING]  # its submission came through
    stack.engine.runs[name_of("work", "r2")] = [Observation("pending"), RUNNING, DONE]
    stack.engine.runs[name_of("work", "r3")] = [Observation("pending")]
    for run in cases.values():
        assert await runs_of(stack).create(run)
    async with stack.bridge(RUN_LEASE="0.5"):
        await told["r1"].status("running")
        assert (await told["r3"].ended())[-1].error.type == "cancelled"
        assert (await told["r4"].ended())[-1].error.type == "not_found"
        assert (await told["r5"].ended())[-1].error.type == "not_found"
        assert [one.sequence for one in await told["r6"].until(bool)] == [4]
        await told["r0"].until(lambda all_: all_[-1].run_id)
        stack.engine.tell(name, DONE)
        stack.engine.tell(name_of("work", "r0"), DONE)
        for request_id in ("r0", "r1"):
            found = await told[request_id].ended()
            assert [one.status for one in found] == ["submitted", "pending", "running", "succeeded"]
        await told["r2"].status("succeeded")
        assert [one.sequence for one in told["r2"].all] == [2, 3, 4]
    assert stack.engine.stops == [(name_of("work", "r3"), "cancelled: changed my mind")]
    assert len(stack.engine.runs) == 4


async def test_of_two_replicas_one_takes_a_run_over(stack: Stack) -> None:
    async with stack.bridge():
        pass
    for number in range(20):
        assert await runs_of(stack).create(of_the_dead(f"r{number}"))
    stack.engine.automatic = (DONE,)
    told = [await stack.listen(f"r{number}") for number in range(20)]
    async with stack.bridge(RUN_LEASE="0.4"), stack.bridge(RUN_LEASE="0.4"):
        for one in told:
            await one.ended()
    assert len(stack.engine.submits) == 20


async def test_what_a_replica_hands_back_at_its_end_another_goes_on_with_at_once(stack: Stack) -> None:
    told = [await stack.listen(f"r{number}") for number in range(5)]
    async with stack.bridge(RUN_LEASE="600") as stop:
        for number in range(5):
            await stack.send(f"r{number}")
        for one in told:
            await one.until(lambda all_: all_[-1].run_id)
        async with stack.bridge(RUN_LEASE="600"):
            stop.set()
            await until(lambda: stack.engine.followers == 5)
            for name in list(stack.engine.runs):
                stack.engine.tell(name, DONE)
            for one in told:
                await one.ended()
    assert len(stack.engine.submits) == 5


async def test_a_replica_that_lost_its_runs_lets_go_of_them(stack: Stack) -> None:
    async with stack.bridge(RUN_LEASE="600"):
        told = await stack.trigger("r1")
        await told.until(lambda all_: all_[-1].run_id)
        runs = runs_of(stack)
        stored = await runs.load("r1")
        assert stored is not None
        await runs.save(msgspec.structs.replace(stored.run, owner="another"), stored.revision)
        stack.engine.tell(stack.name(), RUNNING)
        await until(lambda: stack.engine.followers == 0)
        assert told.statuses == ["submitted", "pending"]


async def test_no_more_runs_are_followed_at_once_than_may_be(stack: Stack) -> None:
    async with stack.bridge(MAX_RUNS="2"):
        told = [await stack.trigger(f"r{number}") for number in range(4)]
        await until(lambda: len(stack.engine.runs) == 2)
        await asyncio.sleep(0.1)
        assert len(stack.engine.runs) == 2
        async with stack.bridge():
            # What waits in the stream goes to whoever has room; what the first one fetched waits there.
            for _ in range(4):
                for name, observations in list(stack.engine.runs.items()):
                    if observations[-1] != DONE:
                        stack.engine.tell(name, DONE)
                await asyncio.sleep(0.1)
            for one in told:
                await one.ended()
