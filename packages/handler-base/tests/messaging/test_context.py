"""Stopping work: by its caller, by its deadline, and too late."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any, cast

import pytest

from handler_base.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    ShuttingDown,
    UpstreamRejected,
    UpstreamUnavailable,
)
from handler_base.messaging.cancellation import REMEMBER_SECONDS, REMEMBERED, Cancellations
from handler_base.messaging.context import Context, timeout_of


def context(**fields: Any) -> Context:
    return Context(cast("Any", None), subject="ai.chat.request", **fields)


EXPIRED = DeadlineExceeded("too late")


async def soon() -> float:
    return asyncio.get_running_loop().time() + 60


async def test_a_stop_cancels_the_work_and_its_reason_is_raised() -> None:
    mine = context()

    async def work() -> None:
        asyncio.get_running_loop().call_soon(mine.stop, Cancelled("stop"))
        await asyncio.Event().wait()

    with pytest.raises(Cancelled, match="stop"):
        await mine.run(work(), await soon(), EXPIRED)
    await asyncio.sleep(0)  # nothing of the cancellation is left for what follows


async def test_a_stop_in_the_last_step_of_the_work_does_not_hit_what_follows() -> None:
    mine = context()

    async def work() -> Any:
        mine.stop(Cancelled("stop"))
        return "result"

    assert cast("Any", await mine.run(work(), await soon(), EXPIRED)) == "result"
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_stop_after_the_end_is_too_late() -> None:
    mine = context()

    async def work() -> None:
        return None

    await mine.run(work(), await soon(), EXPIRED)
    assert not mine.stop(Cancelled("stop"))
    assert mine.stop_reason is None


async def test_only_the_first_stop_counts() -> None:
    mine = context()

    async def work() -> None:
        assert mine.stop(Cancelled("first"))
        assert not mine.stop(ShuttingDown("second"))
        await asyncio.Event().wait()

    with pytest.raises(Cancelled, match="first"):
        await mine.run(work(), await soon(), EXPIRED)


async def test_an_error_that_the_stop_provoked_is_said_as_the_stop() -> None:
    mine = context()

    async def work() -> None:
        mine.stop(Cancelled("stop"))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise UpstreamUnavailable("connection closed") from None

    with pytest.raises(Cancelled):
        await mine.run(work(), await soon(), EXPIRED)
    await asyncio.sleep(0)


async def test_work_without_time_left_is_not_started() -> None:
    async def work() -> None:
        raise AssertionError("started")

    with pytest.raises(DeadlineExceeded):
        await context().run(work(), asyncio.get_running_loop().time(), EXPIRED)


async def test_a_cancellation_from_outside_stays_a_cancellation() -> None:
    mine = context()

    async def work() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(mine.run(work(), await soon(), EXPIRED))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_only_a_transient_error_of_a_durable_request_with_attempts_left_is_retried() -> None:
    durable = context(durable=True, last_attempt=False)
    assert durable.will_retry(UpstreamUnavailable("down"))
    assert durable.will_retry(KeyError("bug"))
    assert not durable.will_retry(UpstreamRejected("no"))
    assert not durable.will_retry(Cancelled("stop"))
    assert not context(durable=True, last_attempt=True).will_retry(UpstreamUnavailable("down"))
    assert not context().will_retry(UpstreamUnavailable("down"))


def test_a_deadline_header_is_read_in_milliseconds_and_bounded() -> None:
    assert timeout_of(None, 7) == 7
    assert timeout_of({"Request-Timeout-Ms": "1500"}, 7) == 1.5
    assert timeout_of({"Request-Timeout-Ms": str(10**15)}, 7) == 24 * 3600
    with pytest.raises(InvalidRequest):
        timeout_of({"Request-Timeout-Ms": "nan"}, 7)


def test_an_early_cancel_is_forgotten_after_its_time_and_when_there_are_too_many() -> None:
    now = 0.0
    cancellations = Cancellations(clock=lambda: now)
    assert cancellations.cancel("r1", reason="bored") == 0
    with pytest.raises(Cancelled, match="bored"):
        cancellations.add(context(request_id="r1"))
    now = REMEMBER_SECONDS + 1
    cancellations.add(context(request_id="r1"))
    assert len(cancellations) == 1
    cancellations.cancel("first")
    for number in range(REMEMBERED):
        cancellations.cancel(f"later-{number}")
    cancellations.add(context(request_id="first"))


def test_long_reasons_of_early_cancels_take_no_memory() -> None:
    cancellations = Cancellations()
    tracemalloc.start()
    try:
        for number in range(100):
            cancellations.cancel(f"r{number}", reason=f"{number}" * 100_000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
