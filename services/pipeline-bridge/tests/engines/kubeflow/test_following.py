"""How far a run is, in our words; and polls that grow while nothing changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from pipeline_bridge.engines import Observation
from pipeline_bridge.engines.kubeflow.observing import MAX_QUOTE, observed
from pipeline_bridge.engines.kubeflow.wire import Run, RuntimeStatus, Status

if TYPE_CHECKING:
    from .conftest import Bench


async def test_a_run_is_followed_from_waiting_to_its_end(bench: Bench) -> None:
    bench.server.plan = ("PENDING", "RUNNING", "RUNNING", "SUCCEEDED")
    bench.server.steps = ("retrieve", "answer")
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)
    assert [observation async for observation in engine.follow(order, run_id)] == [
        Observation("pending", started=False),
        Observation("running", "0 of 2 steps"),
        Observation("succeeded", "2 of 2 steps"),
    ]


async def test_progress_is_told_step_by_step(bench: Bench) -> None:
    bench.server.steps = ("retrieve", "rerank", "answer")
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)
    bench.server.advance(run_id, "RUNNING", done=1)
    following = engine.follow(order, run_id)
    assert await anext(following) == Observation("running", "1 of 3 steps")
    bench.server.advance(run_id, "RUNNING", done=2)
    assert await anext(following) == Observation("running", "2 of 3 steps")
    bench.server.advance(run_id, "FAILED", done=2, error="  exit code 137:\n out of memory ")
    assert [one async for one in following] == [Observation("failed", "answer: exit code 137: out of memory")]


async def test_pauses_grow_while_nothing_changes_and_begin_anew_when_it_does(bench: Bench) -> None:
    bench.server.plan = ("RUNNING",) * 5 + ("PAUSED", "PAUSED", "SUCCEEDED")
    engine, order = bench.engine(poll=2.0, poll_max=5.0), bench.order()
    run_id = await engine.submit(order)
    states = [(one.state, one.message) async for one in engine.follow(order, run_id)]
    assert states == [("pending", ""), ("running", ""), ("running", "paused"), ("succeeded", "")]
    assert bench.pauses == [2.0, 2.0, 3.0, 4.5, 5.0, 5.0, 2.0, 3.0]


async def test_it_is_looked_for_other_runs_now_and_then_only(bench: Bench) -> None:
    bench.server.plan = ("RUNNING",) * 20 + ("SUCCEEDED",)
    engine, order = bench.engine(poll=10.0, poll_max=10.0), bench.order()
    run_id = await engine.submit(order)
    before = len(bench.server.calls("list_runs"))
    assert [one.state async for one in engine.follow(order, run_id)][-1] == "succeeded"
    assert len(bench.server.calls("get_run")) == 22
    assert len(bench.server.calls("list_runs")) - before == 1 + 21 // 3 + 1


@pytest.mark.parametrize(
    ("run", "seen"),
    [
        (Run("r"), Observation("pending", started=False)),
        (Run("r", state="RUNTIME_STATE_UNSPECIFIED"), Observation("pending", started=False)),
        (Run("r", state="PAUSED"), Observation("pending", "paused", started=False)),
        (Run("r", state="RUNNING"), Observation("running")),
        (Run("r", state="CANCELING"), Observation("pending", "being cancelled", started=False)),
        (Run("r", state="SUCCEEDED"), Observation("succeeded")),
        (Run("r", state="SKIPPED"), Observation("succeeded", "skipped by Kubeflow", started=False)),
        (Run("r", state="CANCELED"), Observation("failed", "cancelled in Kubeflow", started=False)),
        (Run("r", state="FAILED"), Observation("failed", "failed; Kubeflow does not say why", started=False)),
        (
            Run("r", state="FAILED", error=Status("no such image")),
            Observation("failed", "no such image", started=False),
        ),
        (
            Run("r", state="CANCELED", state_history=(RuntimeStatus("RUNNING"), RuntimeStatus("CANCELED"))),
            Observation("failed", "cancelled in Kubeflow"),
        ),
        (
            Run(
                "r",
                state="FAILED",
                state_history=(RuntimeStatus("RUNNING"), RuntimeStatus("FAILED", Status("evicted"))),
            ),
            Observation("failed", "evicted"),
        ),
    ],
)
def test_every_state_has_its_words(run: Run, seen: Observation) -> None:
    assert observed(run) == seen


def test_what_went_wrong_is_quoted_no_longer_than_a_person_reads() -> None:
    told = observed(Run("r", state="FAILED", error=Status("x" * 10_000))).message
    assert len(told) == MAX_QUOTE
    assert told.endswith("…")


async def test_the_step_that_failed_is_named_where_kubeflow_says_no_more(bench: Bench) -> None:
    bench.server.steps = ("retrieve", "answer")
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)
    bench.server.advance(run_id, "FAILED", done=0)
    assert [one async for one in engine.follow(order, run_id)] == [
        Observation("failed", "retrieve failed; the log in Kubeflow says why")
    ]


async def test_a_run_that_is_gone_is_refused(bench: Bench) -> None:
    engine, order = bench.engine(), bench.order()
    for run_id in ("gone", "../runs", ""):
        with pytest.raises(UpstreamRejected, match=r"Kubeflow does not know run .* any more") as caught:
            await anext(engine.follow(order, run_id))
        assert not caught.value.retryable


async def test_a_run_that_kubeflow_cannot_read_is_an_error_to_try_again_after(bench: Bench) -> None:
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)
    run = bench.server.runs[run_id]
    del run.seen["state"]
    run.seen["error"] = {"code": 13, "message": "invalid plugins_output"}
    with pytest.raises(UpstreamUnavailable, match=r"cannot read its run .*: invalid plugins_output"):
        await anext(engine.follow(order, run_id))


async def test_a_kubeflow_that_is_away_is_an_error_and_then_followed_again(bench: Bench) -> None:
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)
    await bench.server.down()
    with pytest.raises(
        UpstreamUnavailable, match=r"kubeflow at .* check that it runs and that KUBEFLOW_HOST"
    ):
        await anext(engine.follow(order, run_id))
    await bench.server.up()
    bench.server.advance(run_id, "SUCCEEDED")
    assert [one.state async for one in engine.follow(order, run_id)] == ["succeeded"]


async def test_who_stops_following_leaves_the_run_as_it_is(bench: Bench) -> None:
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)

    async def follow() -> None:
        async for _ in engine.follow(order, run_id):
            pass

    following = asyncio.create_task(follow())
    await bench.server.endpoint.wait(lambda: len(bench.server.calls("get_run")) > 3)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    await engine.aclose()
    assert bench.server.runs[run_id].state == "PENDING"
