"""What goes wrong outside: engines out of reach, refusals, NATS away, a bucket that is lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from handler_base.errors import HandlerError, UpstreamRejected, UpstreamUnavailable
from handler_testkit.services import until
from pipeline_bridge.engines import Observation

if TYPE_CHECKING:
    from conftest import Stack

    from handler_messages import PipelineStatus

RUNNING = Observation("running")
DONE = Observation("succeeded")


async def test_an_engine_out_of_reach_is_told_as_pending_with_the_reason(stack: Stack) -> None:
    stack.engine.fail()
    async with stack.bridge():
        told = await stack.trigger("r1")
        status = await told.status("pending")
        assert status.message == "argo at 127.0.0.1:1 (ARGO_HOST) refused the connection; trying again"
        stack.engine.recover()
        await told.until(lambda all_: all_[-1].run_id)
        assert told.all[-1].message == ""
        stack.engine.tell(stack.name(), DONE)
        await told.ended()
    assert told.statuses.count("submitted") == 1


async def test_one_call_that_fails_is_no_news(stack: Stack) -> None:
    stack.engine.fail()
    async with stack.bridge(ENGINE_RETRY_DELAY="1"):
        told = await stack.trigger("r1")
        await until(lambda: stack.engine.asked)
        stack.engine.recover()
        await told.until(lambda all_: all_[-1].run_id)
    assert told.messages[:2] == [("submitted", ""), ("pending", "")]


async def test_an_engine_out_of_reach_for_too_long_is_an_error(stack: Stack) -> None:
    stack.engine.fail()
    async with stack.bridge(ENGINE_PATIENCE="0.3"):
        told = await stack.trigger("r1")
        last = (await told.ended())[-1]
    assert (last.status, last.error.type) == ("error", "upstream_unavailable")
    assert "given up after" in last.message
    assert "refused the connection" in last.message


async def test_a_running_run_stays_running_while_its_engine_is_out_of_reach(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.status("pending")
        stack.engine.tell(stack.name(), RUNNING)
        await told.status("running")
        stack.engine.fail(UpstreamUnavailable("argo is away"))
        await told.until(lambda all_: all_[-1].message == "argo is away; trying again")
        assert told.all[-1].status == "running"
        stack.engine.recover()
        await told.until(lambda all_: all_[-1].message == "")
        stack.engine.tell(stack.name(), DONE)
        await told.ended()
    assert told.statuses.count("pending") == 1


async def test_what_the_engine_will_not_run_is_an_error_at_once(stack: Stack) -> None:
    stack.engine.fail(UpstreamRejected("there is no WorkflowTemplate work in namespace argo"))
    async with stack.bridge():
        told = await stack.trigger("r1")
        last = (await told.ended())[-1]
    assert (last.status, last.error.type) == ("error", "upstream_rejected")
    assert last.message == "there is no WorkflowTemplate work in namespace argo"
    assert stack.engine.asked == 1


async def test_a_defect_of_ours_ends_one_run_only(stack: Stack) -> None:
    stack.engine.fail(ZeroDivisionError("secret"))
    async with stack.bridge():
        told = await stack.trigger("r1")
        last = (await told.ended())[-1]
        assert (last.status, last.error.type) == ("error", "internal")
        assert "secret" not in last.message
        stack.engine.recover()
        other = await stack.trigger("r2")
        await other.until(lambda all_: all_[-1].run_id)


async def test_what_happens_while_nats_is_away_is_told_afterwards(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.until(lambda all_: all_[-1].run_id)
        await asyncio.to_thread(stack.nats.stop)
        stack.engine.tell(stack.name(), RUNNING, Observation("running", "half"), DONE)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(stack.nats.start)
        # Nobody hears what is told before a connection is made again; the stream has it.
        found: list[PipelineStatus] = []
        async with asyncio.timeout(20):
            while not found or found[-1].status != "succeeded":
                await asyncio.sleep(0.05)
                with contextlib.suppress(HandlerError):
                    found = await stack.stored("r1")
    assert [one.sequence for one in found] == [1, 2, 3, 4]
    assert [one.status for one in found] == ["submitted", "pending", "running", "succeeded"]


async def test_runs_survive_the_loss_of_the_bucket(stack: Stack) -> None:
    async with stack.bridge():
        told = await stack.trigger("r1")
        await told.until(lambda all_: all_[-1].run_id)
        await stack.client.connection.jetstream.delete_stream("KV_pipeline-runs")
        stack.engine.tell(stack.name(), RUNNING)
        await told.status("running")
        stack.engine.tell(stack.name(), DONE)
        await told.ended()
        await stack.send("r1")
        other = await stack.trigger("r2")
        await other.status("pending")
        await told.ended()
    assert len(stack.engine.runs) == 2


async def test_a_bridge_starts_though_its_engines_are_away_and_nats_comes_later(stack: Stack) -> None:
    await asyncio.to_thread(stack.nats.stop)
    async with stack.bridge(ready=False):
        await asyncio.sleep(0.2)
        await asyncio.to_thread(stack.nats.start)
        await until(lambda: stack.client.connection.connected)
        stack.engine.automatic = (DONE,)
        async with asyncio.timeout(20):
            while True:
                try:
                    told = await stack.trigger("r1")
                except Exception:  # the stream is not there yet
                    await asyncio.sleep(0.05)
                    continue
                break
        await told.ended()
