"""A trigger becomes one run, and every change of it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
