"""Stopping work: by its caller, by its deadline, and too late."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import TYPE_CHECKING, Any, cast

import pytest

from handler_base.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    ShuttingDown,
    UpstreamRejected,
    UpstreamUnavailable,
)
from handler_base.messaging import wire
from handler_base.messaging.cancellation import (
    BELIEVED_SECONDS,
    INTERRUPTED,
    REMEMBER_SECONDS,
    REMEMBERED,
    Cancellations,
)
from handler_base.messaging.context import Context, timeout_of
from handler_messages import STTInterrupt, TTSAudioChunk, TTSFullResponse, TTSStatus
from handler_testkit.services import Client

if TYPE_CHECKING:
    from handler_testkit.nats import NatsServer


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


async def test_a_stop_after_the_work_has_concluded_is_too_late() -> None:
    mine = context()

    async def work() -> Any:
        mine.conclude()
        assert not mine.stop(Cancelled("stop"))
        await asyncio.sleep(0)
        return "result"

    assert cast("Any", await mine.run(work(), await soon(), EXPIRED)) == "result"
    assert mine.stop_reason is None


async def test_a_stop_that_comes_before_the_conclusion_counts() -> None:
    mine = context()

    async def work() -> None:
        asyncio.get_running_loop().call_soon(mine.stop, Cancelled("stop"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        mine.conclude()

    with pytest.raises(Cancelled):
        await mine.run(work(), await soon(), EXPIRED)


@pytest.mark.parametrize("kind", [wire.PROTOBUF, wire.JSON, wire.MSGPACK])
async def test_where_a_subject_carries_several_messages_their_name_goes_along(
    nats: NatsServer, kind: str
) -> None:
    async with Client(nats.url) as client:
        heard = await client.listen("audio")
        mine = Context(client.connection, subject="x", kind=kind)
        await mine.publish("audio", TTSAudioChunk(request_id="r1"), named=True)
        await mine.publish("audio", TTSFullResponse(request_id="r1"), named=True)
        await mine.publish("audio", TTSStatus(request_id="r1"))
        await heard.count(3)
    headers = [message.headers or {} for message in heard.all]
    assert [h.get("Message-Type") for h in headers] == ["TTSAudioChunk", "TTSFullResponse", None]
    assert {h.get("Content-Type", wire.PROTOBUF) for h in headers} == {kind}
    assert wire.decode(TTSAudioChunk, heard.all[0].data, kind).request_id == "r1"


@pytest.mark.parametrize("kind", [wire.PROTOBUF, wire.JSON])
async def test_a_milestone_is_stored_once_in_the_requests_format(nats: NatsServer, kind: str) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await js.add_stream(name="S", subjects=["status.*"])
        mine = Context(client.connection, subject="x", kind=kind)
        assert await mine.store("status.a", TTSStatus(status="completed"), msg_id="1")
        assert not await mine.store("status.a", TTSStatus(status="cancelled"), msg_id="1")
        stored = await client.connection.last_stored("S", "status.a")
    assert stored is not None
    assert wire.decode(TTSStatus, stored.data, wire.content_type(stored.headers)).status == "completed"
    assert stored.headers.get("Content-Type", wire.PROTOBUF) == kind


class Clock:
    """Unix time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def stopped(cancellations: Cancellations, mine: Context, how: Any) -> Any:
    """Run work that waits, do something, and return the reason that stopped it, or None."""
    done = asyncio.Event()
    result: Any = None

    async def work() -> None:
        nonlocal result
        cancellations.add(mine)
        result = how()
        await asyncio.sleep(0)
        done.set()

    try:
        await mine.run(work(), await soon(), EXPIRED)
    except Cancelled as reason:
        return reason, result
    finally:
        cancellations.discard(mine)
    return None, result


async def test_an_interrupt_stops_the_speech_of_its_session_and_of_no_other() -> None:
    cancellations = Cancellations()
    interrupt = STTInterrupt(session_id="s1")
    reason, told = await stopped(
        cancellations, context(session_id="s1"), lambda: cancellations.interrupt(interrupt)
    )
    assert (str(reason), told) == (f"cancelled: {INTERRUPTED}", 1)
    for other in ("s2", ""):
        reason, told = await stopped(
            cancellations, context(session_id=other), lambda: cancellations.interrupt(interrupt)
        )
        assert (reason, told) == (None, 0)
    reason, told = await stopped(
        cancellations, context(session_id=""), lambda: cancellations.interrupt(STTInterrupt())
    )
    assert (reason, told) == (None, 0)


async def test_work_that_follows_the_session_hears_of_an_interrupt_and_goes_on() -> None:
    cancellations = Cancellations()
    heard: list[STTInterrupt] = []
    mine = context(session_id="s1")
    mine.follows_session = True
    interrupt = STTInterrupt(session_id="s1", speaker_id="ada")
    assert await stopped(cancellations, mine, lambda: cancellations.interrupt(interrupt)) == (None, 0)
    mine.on_interrupt = heard.append
    assert await stopped(cancellations, mine, lambda: cancellations.interrupt(interrupt)) == (None, 1)
    assert heard == [interrupt]
    late = context(session_id="s1")
    late.follows_session, late.published = True, 1.0
    cancellations.add(late)  # asked for before the interrupt, and yet not meant by it


@pytest.mark.parametrize(
    ("timestamp", "published", "dropped"),
    [
        (0.0, 999.9, True),
        (0.0, 1000.0, True),
        (0.0, 1000.1, False),
        (0.0, 0.0, False),  # request/reply: it comes now
        (999.5, 999.4, True),
        (999.5, 999.6, False),  # asked for between the interrupt and its arrival here
        (1000 - BELIEVED_SECONDS - 1, 999.9, True),  # a clock that differs is not believed
        (2000.0, 1000.1, False),
    ],
)
def test_what_was_asked_for_before_an_interrupt_is_not_started(
    timestamp: float, published: float, dropped: bool
) -> None:
    cancellations = Cancellations(wall_clock=Clock())
    cancellations.interrupt(STTInterrupt(session_id="s1", timestamp=timestamp))
    mine = context(session_id="s1")
    mine.published = published
    if dropped:
        with pytest.raises(Cancelled, match=INTERRUPTED):
            cancellations.add(mine)
    else:
        cancellations.add(mine)
    assert len(cancellations) == (not dropped)


def test_interrupts_of_many_sessions_take_bounded_memory() -> None:
    cancellations = Cancellations(wall_clock=Clock())
    for number in range(REMEMBERED + 1):
        cancellations.interrupt(STTInterrupt(session_id=f"s{number}"))
    for session, dropped in (("s0", False), ("s1", True), (f"s{REMEMBERED}", True)):
        mine = context(session_id=session)
        mine.published = 1.0
        try:
            cancellations.add(mine)
        except Cancelled:
            assert dropped
        else:
            assert not dropped
