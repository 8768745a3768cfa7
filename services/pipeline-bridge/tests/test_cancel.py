"""Cancelling a run: wherever it is, the engine is told, and so is everybody else."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from handler_testkit.services import until
from pipeline_bridge.engines import Observation
from pipeline_bridge.runs import name_of

if TYPE_CHECKING:
    from conftest import Stack, Told

RUNNING = Observation("running")
DONE = Observation("succeeded")


async def cancelled(told: Told, reason: str = "cancelled: changed my mind") -> None:
    last = (await told.ended())[-1]
    assert (last.status, last.message, last.error.type) == ("failed", reason, "cancelled")


@pytest.mark.parametrize("state", ["pending", "running"])
async def test_a_run_is_stopped_at_its_engine(stack: Stack, state: str) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.status("pending")
        if state == "running":
            stack.engine.tell(stack.name(), RUNNING)
            await told.status("running")
        await stack.cancel("r1", "changed my mind")
        await cancelled(told)
        assert stack.engine.stops == [(stack.name(), "cancelled: changed my mind")]
        assert stack.engine.followers == 0


async def test_a_run_that_is_being_submitted_is_submitted_and_stopped(stack: Stack) -> None:
    stack.engine.gate.clear()
    async with stack.bridge():
        told = await stack.trigger("r1")
        await until(lambda: stack.engine.submits)
        await stack.cancel("r1", "changed my mind")
        other = await stack.trigger("r2", "alone")  # so that the cancellation has arrived
        await other.status("submitted")
        stack.engine.gate.set()
        await cancelled(told)
        assert stack.engine.stops == [(stack.name(), "cancelled: changed my mind")]


async def test_a_run_whose_submission_fails_meanwhile_is_stopped_by_its_name(stack: Stack) -> None:
    stack.engine.gate.clear()
    async with stack.bridge():
        told = await stack.trigger("r1")
        await until(lambda: stack.engine.submits)
        await stack.cancel("r1", "changed my mind")
        await asyncio.sleep(0.2)
        stack.engine.fail()
        stack.engine.gate.set()
        await told.until(lambda all_: "changed my mind, but argo at" in all_[-1].message)
        stack.engine.recover()
        await cancelled(told)
        assert stack.engine.stops == [(stack.name(), "cancelled: changed my mind")]


async def test_a_run_that_waits_for_its_turn_is_not_submitted(stack: Stack) -> None:
    async with stack.bridge():
        first = await stack.trigger("r1", "alone")
        await first.until(lambda all_: all_[-1].run_id)
        told = await stack.trigger("r2", "alone")
        await told.status("pending")
        await stack.cancel("r2", "changed my mind")
        await cancelled(told)
        third = await stack.trigger("r3", "alone")
        stack.engine.tell(stack.name("alone"), DONE)
        await first.ended()
        await third.until(lambda all_: all_[-1].run_id)
        assert len(stack.engine.submits) == 2
        assert not stack.engine.stops


async def test_a_cancellation_may_come_before_its_trigger(stack: Stack) -> None:
    async with stack.bridge():
        await stack.cancel("r1", "changed my mind")
        other = await stack.trigger("r2")
        await other.status("pending")
        told = await stack.trigger("r1")
        await cancelled(told)
        assert told.statuses == ["submitted", "failed"]
        assert len(stack.engine.submits) == 1


async def test_a_cancellation_while_no_bridge_runs_waits_for_one(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.status("pending")
    await stack.cancel("r1", "changed my mind")
    async with stack.bridge():
        await cancelled(told)
    assert stack.engine.stops == [(stack.name(), "cancelled: changed my mind")]


async def test_a_run_that_ended_before_it_could_be_stopped_is_told_as_it_ended(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.until(lambda all_: all_[-1].run_id)
        stack.engine.runs[stack.name()].append(DONE)  # and nobody has heard of it
        await stack.cancel("r1")
        assert (await told.ended())[-1].status == "succeeded"
        await stack.cancel("r1")
        other = await stack.trigger("r2")
        await other.status("pending")
        await told.ended()


async def test_a_run_that_was_stopped_without_a_word_of_it_is_told_as_cancelled(stack: Stack) -> None:
    """As when the answer of the engine was lost, or who had told it crashed."""
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.until(lambda all_: all_[-1].run_id)
        stack.engine.runs[stack.name()].append(Observation("failed", "Stopped"))
        await stack.cancel("r1", "changed my mind")
        await cancelled(told, "cancelled: changed my mind (Stopped)")


async def test_a_run_that_comes_about_after_its_cancellation_is_stopped_too(stack: Stack) -> None:
    stack.engine.gate.clear()
    async with stack.bridge():
        told = await stack.trigger("r1")
        await until(lambda: stack.engine.submits)
        name, order = next(iter(stack.engine.runs.items()))
        del stack.engine.runs[name]  # it takes its time
        await stack.cancel("r1", "changed my mind")
        await asyncio.sleep(0.2)
        stack.engine.fail()
        stack.engine.gate.set()
        await told.until(lambda all_: "changed my mind, but argo at" in all_[-1].message)
        stack.engine.recover()
        await cancelled(told)
        stack.engine.runs[name] = order
        await until(lambda: stack.engine.stops)
    assert stack.engine.stops == [(name, "cancelled: changed my mind")]


async def test_an_engine_that_cannot_be_told_for_too_long_is_an_error(stack: Stack) -> None:
    async with stack.bridge(ENGINE_PATIENCE="0.2"):
        told = await stack.trigger("r1")
        await told.until(lambda all_: all_[-1].run_id)
        stack.engine.fail()
        await stack.cancel("r1")
        last = (await told.ended())[-1]
    assert (last.status, last.error.type) == ("error", "upstream_unavailable")


async def test_what_is_unknown_or_over_is_cancelled_without_a_word(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.status("pending")
        stack.engine.tell(stack.name(), DONE)
        await told.ended()
        await stack.cancel("r1")
        await stack.cancel("r9")
        await stack.cancel("r9")
        other = await stack.trigger("r2")
        await other.status("pending")
        assert told.statuses[-1] == "succeeded"


async def test_at_whatever_moment_a_run_is_cancelled_it_ends_and_nothing_goes_on(stack: Stack) -> None:
    dice = random.Random(7)
    number = 60
    async with stack.bridge(), stack.bridge():
        told = [await stack.listen(f"r{each}") for each in range(number)]

        async def one(each: int) -> None:
            await stack.send(f"r{each}")
            await asyncio.sleep(dice.uniform(0, 0.15))
            await stack.cancel(f"r{each}", "changed my mind")

        async def engine() -> None:
            while True:
                await asyncio.sleep(0.002)
                name = dice.choice(list(stack.engine.runs) or [""])
                state = name and stack.engine.runs[name][-1].state
                if state in {"pending", "running"}:
                    stack.engine.tell(name, RUNNING if state == "pending" else DONE)

        moving = asyncio.create_task(engine())
        await asyncio.gather(*map(one, range(number)))
        ends = [(await each.ended())[-1] for each in told]
        moving.cancel()
        await until(lambda: stack.engine.followers == 0)
    stopped = dict(stack.engine.stops)
    for each, end in enumerate(ends):
        observations = stack.engine.runs.get(name_of("work", f"r{each}"), [])
        if end.status == "succeeded":
            assert observations[-1] == DONE
        else:
            assert (end.status, end.error.type) == ("failed", "cancelled")
            assert not observations or name_of("work", f"r{each}") in stopped
    assert {end.status for end in ends} == {"succeeded", "failed"}
