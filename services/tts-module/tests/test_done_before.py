"""A request that comes again is spoken again only if it was not spoken to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from handler_base.messaging import delivery
from handler_base.messaging.delivery import ACK, DeliveredMessage, DeliveryProcess
from handler_testkit.speaking import spelling

if TYPE_CHECKING:
    from conftest import Stack


@pytest.mark.parametrize("end", ["completed", "cancelled", "error"])
async def test_a_request_that_ended_is_not_spoken_again_when_its_ack_was_lost(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The replica dies between the last status and the ack: here the verdict is swallowed once."""
    settle = DeliveryProcess.settle
    verdicts: list[tuple[int, bytes]] = []
    settled = asyncio.Event()

    async def lossy(self: DeliveryProcess, message: DeliveredMessage, verdict: bytes) -> None:
        if verdict != delivery.PROGRESS:
            verdicts.append((message.meta.attempt, verdict))
            if message.meta.attempt == 1:
                return
            settled.set()
        await settle(self, message, verdict)

    monkeypatch.setattr(DeliveryProcess, "settle", lossy)
    stack.voice(spelling(interval=0.02))
    async with stack.tts_module(ACK_WAIT="1"):
        session = await stack.session()
        await session.say("r0", "Something of the same session before.")
        await session.say("r1", "" if end == "error" else "Once, and not again.")
        if end == "cancelled":
            await session.until(lambda: ("r1", "started") in session.told)
            await stack.client.connection.publish_bytes("ai.voice.cancel.r1", b"")
        assert (await session.ended("r1")).status == end
        async with asyncio.timeout(20):
            while [attempt for attempt, _ in verdicts].count(2) < 2:
                settled.clear()
                await settled.wait()
    assert {verdict for attempt, verdict in verdicts if attempt == 2} <= {ACK, b"+TERM"}
    assert [s for r, s in session.told if r == "r1"] == (["error"] if end == "error" else ["started", end])
    assert {c.attempt for c in session.chunks} == {1}
