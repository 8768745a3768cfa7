"""Stopping a run, in whatever state it is, and every other of its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from handler_testkit.kubeflow import Fault

if TYPE_CHECKING:
    from .conftest import Bench

NAME = "order-r-1"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("state", "stopped", "calls"),
    [
        ("RUNTIME_STATE_UNSPECIFIED", True, 1),
        ("PENDING", True, 1),
        ("RUNNING", True, 1),
        ("PAUSED", True, 1),
        ("CANCELING", True, 0),
        ("SUCCEEDED", False, 0),
        ("SKIPPED", False, 0),
        ("FAILED", False, 0),
        ("CANCELED", False, 0),
    ],
)
async def test_a_run_is_stopped_unless_it_has_ended(
    bench: Bench, state: str, stopped: bool, calls: int, known: bool
) -> None:
    if state == "RUNTIME_STATE_UNSPECIFIED":
        bench.server.cancelled = "FAILED"
    run = bench.server.add_run(NAME, state)
    assert await bench.engine().stop(bench.order(), run.run_id if known else "", "no more use") is stopped
    assert len(bench.server.calls("terminate_run")) == calls
    assert run.told_to_end is bool(calls)


async def test_what_does_not_exist_is_stopped(bench: Bench) -> None:
    engine, order = bench.engine(), bench.order()
    assert await engine.stop(order, "", "no more use") is True
    assert await engine.stop(order, "gone", "no more use") is True
    assert not bench.server.calls("terminate_run")


async def test_all_runs_of_an_order_are_stopped(bench: Bench) -> None:
    bench.server.page_size = 1
    for state in ("SUCCEEDED", "RUNNING", "PENDING"):
        bench.server.add_run(NAME, state)
    other = bench.server.add_run("order-r-2", "RUNNING")
    assert await bench.engine().stop(bench.order(), bench.server.named(NAME)[0].run_id, "no more use") is True
    assert [run.state for run in bench.server.named(NAME)] == ["SUCCEEDED", "CANCELING", "CANCELING"]
    assert other.state == "RUNNING"


async def test_a_run_is_stopped_by_its_id_though_somebody_has_renamed_it(bench: Bench) -> None:
    run = bench.server.add_run("renamed", "RUNNING")
    assert await bench.engine().stop(bench.order(), run.run_id, "no more use") is True
    assert run.told_to_end


@pytest.mark.parametrize(
    ("becomes", "stopped"), [("SUCCEEDED", False), ("CANCELING", True), ("", True), ("RUNNING", None)]
)
async def test_a_refusal_is_understood_by_what_has_become_of_the_run(
    bench: Bench, becomes: str, stopped: bool | None
) -> None:
    from handler_testkit.endpoints import replaced

    run = bench.server.add_run(NAME, "RUNNING")
    before = bench.server.endpoint.script

    async def meanwhile(exchange) -> None:
        if exchange.request.path.endswith(":terminate"):
            if becomes:
                run.advance(becomes, 0)
            else:
                del bench.server.runs[run.run_id]
            await exchange.json({"code": 3, "message": "Row not found"}, 400)
        else:
            await before(exchange)

    async with replaced(bench.server.endpoint, meanwhile):
        stopping = bench.engine().stop(bench.order(), run.run_id, "no more use")
        if stopped is None:
            with pytest.raises(UpstreamRejected, match="Row not found"):
                await stopping
        else:
            assert await stopping is stopped


@pytest.mark.parametrize("fault", [Fault(0), Fault(500), Fault(0, "done"), Fault(500, "done")])
async def test_a_call_that_is_lost_is_made_again(bench: Bench, fault: Fault) -> None:
    run = bench.server.add_run(NAME, "RUNNING")
    bench.server.faults.add("terminate_run", fault)
    assert await bench.engine().stop(bench.order(), run.run_id, "no more use") is True
    assert run.told_to_end


async def test_a_kubeflow_that_is_away_is_an_error(bench: Bench) -> None:
    await bench.server.down()
    with pytest.raises(UpstreamUnavailable):
        await bench.engine().stop(bench.order(), "x", "no more use")
    await bench.server.up()


async def test_a_stopped_run_is_seen_to_end(bench: Bench) -> None:
    bench.server.plan = ("RUNNING",)
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)
    following = engine.follow(order, run_id)
    assert (await anext(following)).state == "pending"
    assert (await anext(following)).state == "running"
    assert await engine.stop(order, run_id, "no more use")
    rest = [(one.state, one.message) async for one in following]
    assert rest == [("running", "being cancelled"), ("failed", "cancelled in Kubeflow")]
