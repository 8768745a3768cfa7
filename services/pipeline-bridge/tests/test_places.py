"""Limits of a pipeline: how many runs at once, and how many per time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from handler_testkit.services import until
from pipeline_bridge import places
from pipeline_bridge.engines import Observation

if TYPE_CHECKING:
    import pytest
    from conftest import Stack, Told

DONE = Observation("succeeded")


async def test_runs_over_the_limit_wait_their_turn_and_say_so(stack: Stack) -> None:
    async with stack.bridge():
        told: list[Told] = []
        for number in range(4):
            told.append(await stack.trigger(f"r{number}", "alone"))
            await told[-1].status("pending")
        done: set[str] = set()
        for _ in range(4):
            await until(lambda: set(stack.engine.runs) - done)
            (name,) = set(stack.engine.runs) - done
            done.add(name)
            for one in [one for one in told if not one.all[-1].run_id]:
                assert one.all[-1].message == "waits for its turn: alone may run 1 at once"
            await asyncio.sleep(0.05)
            assert set(stack.engine.runs) == done
            stack.engine.tell(name, DONE)
        for one in told:
            await one.ended()
    assert [order.request_id for order in stack.engine.orders.values()] == [f"r{n}" for n in range(4)]


async def test_limits_hold_over_all_replicas(stack: Stack) -> None:
    async with stack.bridge(), stack.bridge():
        told = [await stack.trigger(f"r{number}", "alone") for number in range(6)]
        for number in range(6):
            await until(lambda number=number: len(stack.engine.runs) == number + 1)
            await asyncio.sleep(0.05)
            assert len(stack.engine.runs) == number + 1
            stack.engine.tell(list(stack.engine.runs)[-1], DONE)
        for one in told:
            await one.ended()


async def test_a_place_whose_holder_is_no_more_is_given_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "LOOK_SECONDS", 0.1)
    async with stack.bridge():
        first = await stack.trigger("r1", "alone")
        await first.until(lambda all_: all_[-1].run_id)
        keyvalue = await stack.client.connection.jetstream.key_value("pipeline-runs")
        await keyvalue.put("place.alone", b'{"holders":["gone"]}')
        second = await stack.trigger("r2", "alone")
        await second.until(lambda all_: all_[-1].run_id)


async def test_no_more_runs_are_started_per_time_than_may_be(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "LOOK_SECONDS", 0.05)
    at = 1_000_000.0
    monkeypatch.setattr(places, "now", lambda: at)
    stack.engine.automatic = (DONE,)
    async with stack.bridge():
        told = [await stack.trigger(f"r{number}", "rare") for number in range(3)]
        for one in told:
            await one.status("pending")
        await until(lambda: [one.statuses[-1] for one in told].count("succeeded") == 2)
        (waiting,) = [one for one in told if one.statuses[-1] == "pending"]
        assert waiting.all[-1].message == "waits for its turn: rare may run 2/hour"
        at += 3599
        await asyncio.sleep(0.2)
        assert len(stack.engine.runs) == 2
        at += 2
        await waiting.ended()
