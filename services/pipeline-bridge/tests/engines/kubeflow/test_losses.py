"""Answers that are lost, effects that come late, replicas in a race: one run goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from handler_base.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from handler_testkit.kubeflow import Fault

if TYPE_CHECKING:
    from pipeline_bridge.engines import Observation, Order
    from pipeline_bridge.engines.kubeflow import Kubeflow

    from .conftest import Bench

NAME = "order-r-1"


async def persistent(engine: Kubeflow, order: Order) -> str:
    """Submit until it works, as the bridge does."""
    for _ in range(200):
        try:
            return await engine.submit(order)
        except (UpstreamUnavailable, UpstreamTimeout):
            continue
    raise AssertionError("200 tries were not enough")


async def followed(engine: Kubeflow, order: Order, run_id: str) -> Observation:
    """Follow until an end is seen, as the bridge does, and return that."""
    seen: list[Observation] = []
    for _ in range(200):
        try:
            async for observation in engine.follow(order, run_id):
                seen.append(observation)  # noqa: PERF401 - those before an error count, too
        except (UpstreamUnavailable, UpstreamTimeout):
            continue
        return seen[-1]
    raise AssertionError("200 tries were not enough")


@pytest.mark.parametrize("status", [0, 500, 503, 502])
async def test_a_run_whose_answer_is_lost_is_found(bench: Bench, status: int) -> None:
    bench.server.faults.add("create_run", Fault(status, "done"))
    run_id = await bench.engine().submit(bench.order())
    assert [run.run_id for run in bench.server.alive(NAME)] == [run_id]
    assert bench.server.created[NAME] == 1


async def test_a_run_whose_answer_never_comes_is_found(bench: Bench) -> None:
    bench.server.faults.add("create_run", Fault(None, "done"))
    run_id = await bench.engine(timeout=0.3).submit(bench.order())
    assert [run.run_id for run in bench.server.named(NAME)] == [run_id]


async def test_a_run_whose_answer_makes_no_sense_is_found(bench: Bench) -> None:
    from handler_testkit.endpoints import replaced

    async def garbled(exchange) -> None:
        if exchange.request.method == "POST":
            bench.server.add_run(NAME)
            await exchange.answer(b"<html>")
        else:
            await before(exchange)

    before = bench.server.endpoint.script
    async with replaced(bench.server.endpoint, garbled):
        run_id = await bench.engine().submit(bench.order())
    assert [run.run_id for run in bench.server.named(NAME)] == [run_id]


@pytest.mark.parametrize(
    ("status", "error"), [(0, UpstreamUnavailable), (503, UpstreamUnavailable), (None, UpstreamTimeout)]
)
async def test_a_call_without_an_effect_is_an_error_to_try_again_after(
    bench: Bench, status: int | None, error: type[UpstreamError]
) -> None:
    bench.server.faults.add("create_run", Fault(status))
    engine = bench.engine(timeout=0.3)
    with pytest.raises(error):
        await engine.submit(bench.order())
    assert not bench.server.created
    await bench.engine().submit(bench.order())
    assert bench.server.created[NAME] == 1


async def test_a_call_is_never_repeated_without_looking(bench: Bench) -> None:
    bench.server.faults.add("create_run", *[Fault(503)] * 5)
    with pytest.raises(UpstreamUnavailable):
        await bench.engine().submit(bench.order())
    assert len(bench.server.calls("create_run")) == 1
    assert len(bench.server.calls("list_runs")) == 2


async def test_a_run_that_comes_late_is_put_aside_while_the_other_is_followed(bench: Bench) -> None:
    bench.server.faults.add("create_run", Fault(503, "later"))
    engine, order = bench.engine(poll=20), bench.order()
    with pytest.raises(UpstreamUnavailable):
        await engine.submit(order)
    run_id = await engine.submit(order)
    bench.server.runs[run_id].seen["created_at"] = "2020-01-01T00:00:00Z"
    bench.server.advance(run_id, "RUNNING")
    following = engine.follow(order, run_id)
    assert (await anext(following)).state == "running"
    bench.server.faults.release()
    assert len(bench.server.alive(NAME)) == 2
    polling = asyncio.create_task(anext(following))
    await bench.server.endpoint.wait(lambda: len(bench.server.alive(NAME)) == 1)
    bench.server.advance(run_id, "SUCCEEDED")
    assert (await polling).state == "succeeded"
    assert [run.run_id for run in bench.server.alive(NAME)] == [run_id]
    await following.aclose()


async def test_a_run_that_comes_late_is_put_aside_at_the_end_however_old_it_is(bench: Bench) -> None:
    bench.server.plan = ("RUNNING", "SUCCEEDED")
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)
    following = engine.follow(order, run_id)
    assert (await anext(following)).state == "pending"
    bench.server.add_run(NAME, "RUNNING", age=100)
    assert [observation.state async for observation in following] == ["running", "succeeded"]
    assert [run.run_id for run in bench.server.alive(NAME)] == [run_id]


async def test_who_followed_the_run_that_was_put_aside_follows_the_other(bench: Bench) -> None:
    bench.server.plan = ("RUNNING", "SUCCEEDED")
    engine, order = bench.engine(), bench.order()
    run_id = await engine.submit(order)
    following = engine.follow(order, run_id)
    await anext(following)
    older = bench.server.add_run(NAME, age=100)
    assert await bench.engine().submit(order) == older.run_id  # by another replica
    assert [(one.state, one.message) async for one in following] == [
        ("running", "being cancelled"),
        ("pending", ""),
        ("running", ""),
        ("succeeded", ""),
    ]
    assert bench.server.alive(NAME) == [older]


@pytest.mark.parametrize("seed", range(25))
async def test_one_run_goes_on_whatever_fails(bench: Bench, seed: int) -> None:
    server = bench.server
    server.plan = ("RUNNING", "RUNNING", "SUCCEEDED")
    server.now = lambda: 1_800_000_000 + len(server.endpoint.requests) // 5
    server.faults.draw(0.4, seed)
    order, replicas = bench.order(), [bench.engine(), bench.engine()]
    ids = await asyncio.gather(*(persistent(engine, order) for engine in replicas))
    ends = await asyncio.gather(
        *(followed(engine, order, run_id) for engine, run_id in zip(replicas, ids, strict=True))
    )
    assert [end.state for end in ends] == ["succeeded", "succeeded"]
    server.faults.draw(0.0, seed)
    server.faults.release()
    assert (await followed(replicas[0], order, ids[0])).state == "succeeded"
    (run,) = server.alive(NAME)
    assert run.state == "SUCCEEDED"
    assert all(one.seen["storage_state"] == "ARCHIVED" for one in server.named(NAME) if one is not run)
