"""Virtual time: it passes without waiting, in order."""

from __future__ import annotations

import asyncio
import time

import pytest

from handler_testkit.clock import run_virtual


def test_hours_pass_at_once_and_timers_come_in_order() -> None:
    order: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(name)

    async def scenario() -> float:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sleeper("b", 7200))
            tasks.create_task(sleeper("a", 3600.5))
        return asyncio.get_running_loop().time()

    before = time.monotonic()
    assert run_virtual(scenario()) == pytest.approx(7200)
    assert order == ["a", "b"]
    assert time.monotonic() - before < 3600


def test_time_outs_are_in_virtual_time() -> None:
    async def scenario() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await asyncio.sleep(100)
        return asyncio.get_running_loop().time()

    assert run_virtual(scenario()) == pytest.approx(50)


def test_waiting_for_what_cannot_come_is_an_error() -> None:
    async def scenario() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="cannot come"):
        run_virtual(scenario())
