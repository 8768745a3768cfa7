"""Following workflows of Argo: one watch for all, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from handler_base.errors import HandlerError, ShuttingDown, UpstreamRejected, UpstreamUnavailable
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.argo import ArgoServer, Fault, paced
from pipeline_bridge.catalogue import Pipeline
from pipeline_bridge.config import ArgoSettings
from pipeline_bridge.engines import Observation, Order
from pipeline_bridge.engines.argo import Argo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

DEADLINE = 10.0


class Story:
    """What a run was heard to do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[Observation] = []
        self.error: HandlerError | None = None
        self.over = False
        self._changed = asyncio.Event()

    @property
    def states(self) -> list[str]:
        states = [one.state for one in self.told]
        return [state for at, state in enumerate(states) if at == 0 or states[at - 1] != state]

    async def hear(self, told: AsyncGenerator[Observation]) -> None:
        try:
            async with contextlib.aclosing(told):
                async for one in told:
                    self.told.append(one)
                    self._changed.set()
        except HandlerError as error:
            self.error = error
        finally:
            self.over = True
            self._changed.set()

    async def until(self, condition: Callable[[Story], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def end(self) -> None:
        await self.until(lambda story: story.over)


class Bridge:
    """An engine and those who follow its runs."""

    def __init__(self, engine: Argo, tasks: asyncio.TaskGroup) -> None:
        self.engine = engine
        self.followers: dict[str, asyncio.Task[None]] = {}
        self._tasks = tasks

    async def run(self, name: str) -> Story:
        await self.engine.submit(ordered(name))
        return self.follow(name)

    def follow(self, name: str) -> Story:
        story = Story(name)
        told = self.engine.follow(ordered(name), name)
        self.followers[name] = self._tasks.create_task(story.hear(told))
        return story


@contextlib.asynccontextmanager
async def bridge_to(server: ArgoServer, **settings: object) -> AsyncGenerator[Bridge]:
    async def no_pause(_: float) -> None:
        pass

    pool = HttpPool(HttpSettings(), sleep=no_pause)
    engine = Argo(pool, ArgoSettings(host=server.url, **settings))  # pyright: ignore[reportArgumentType]
    async with asyncio.TaskGroup() as tasks:
        bridge = Bridge(engine, tasks)
        try:
            yield bridge
        finally:
            for task in bridge.followers.values():
                task.cancel()
    assert "argo-watch" not in {task.get_name() for task in asyncio.all_tasks()}
    await engine.aclose()
    await pool.aclose()


@pytest.fixture
async def server() -> AsyncIterator[ArgoServer]:
    async with ArgoServer({"ingest": {}}) as server:
        yield server


@pytest.fixture
async def bridge(server: ArgoServer) -> AsyncIterator[Bridge]:
    async with bridge_to(server) as bridge:
        yield bridge


def ordered(name: str) -> Order:
    return Order(f"request-of-{name}", name, Pipeline(engine="argo", name="ingest"), {})


def watched(server: ArgoServer, times: int = 1) -> Callable[[], bool]:
    return lambda: server.calls["watch"] >= times and len(server.watches) == 1


# A run from beginning to end


async def test_every_state_is_told_in_order_and_the_end_ends_it(server: ArgoServer, bridge: Bridge) -> None:
    story = await bridge.run("run-1")
    await story.until(lambda story: story.states == ["pending"])
    await server.wait(watched(server))
    server.move("run-1", "Pending", message="waiting for a place")
    await story.until(lambda story: story.told[-1].message == "waiting for a place")
    for progress in ("0/2", "1/2"):
        server.move("run-1", "Running", progress=progress, message="")
        await story.until(lambda story, said=progress[0]: story.told[-1].message == f"{said} of 2 steps")
    server.move("run-1", "Succeeded", progress="2/2", outputs={"score": "0.83"})
    await story.end()
    assert story.error is None
    assert story.states == ["pending", "running", "succeeded"]
    assert story.told[0] == Observation("pending", started=False)
    assert story.told[-1] == Observation("succeeded", "score=0.83")
    assert server.calls["list"] == 1


@pytest.mark.parametrize(
    ("phase", "message", "said"),
    [
        ("Failed", "child 'run-1-2' failed", "child 'run-1-2' failed"),
        ("Error", "pod deleted", "error: pod deleted"),
    ],
)
async def test_a_failure_is_told_with_its_reason(
    server: ArgoServer, bridge: Bridge, phase: str, message: str, said: str
) -> None:
    story = await bridge.run("run-1")
    await story.until(lambda story: bool(story.told))
    server.move("run-1", phase, message=message)
    await story.end()
    assert story.told[-1] == Observation("failed", said)


async def test_what_a_run_did_unheard_is_told_as_it_is_now(server: ArgoServer, bridge: Bridge) -> None:
    await bridge.engine.submit(ordered("run-1"))
    server.move("run-1", "Running", progress="1/3")
    story = bridge.follow("run-1")
    await story.until(lambda story: bool(story.told))
    assert story.told == [Observation("running", "1 of 3 steps")]


@pytest.mark.parametrize("archived", [False, True])
async def test_a_run_that_has_ended_long_ago_is_looked_up(
    server: ArgoServer, bridge: Bridge, archived: bool
) -> None:
    await bridge.engine.submit(ordered("run-1"))
    server.move("run-1", "Succeeded")
    if archived:
        server.remove("run-1", archive=True)
    story = bridge.follow("run-1")
    await story.end()
    assert story.states == ["succeeded"]


async def test_a_run_that_is_stopped_is_told_so(server: ArgoServer, bridge: Bridge) -> None:
    story = await bridge.run("run-1")
    await story.until(lambda story: bool(story.told))
    assert await bridge.engine.stop(ordered("run-1"), "run-1", "cancelled")
    await story.end()
    assert story.told[-1] == Observation("failed", "Stopped with strategy 'Stop'")


async def test_a_workflow_that_nobody_knows_is_an_error(bridge: Bridge) -> None:
    story = bridge.follow("run-1")
    await story.end()
    assert isinstance(story.error, UpstreamRejected)
    assert "does not know workflow run-1 in namespace argo any more" in story.error.message


async def test_a_workflow_that_is_deleted_in_the_middle_is_an_error_of_its_run_alone(
    server: ArgoServer, bridge: Bridge
) -> None:
    story, other = await bridge.run("run-1"), await bridge.run("run-2")
    await story.until(lambda story: bool(story.told))
    await other.until(lambda story: bool(story.told))
    await server.wait(watched(server))
    server.remove("run-1")
    await story.end()
    assert isinstance(story.error, UpstreamRejected)
    server.move("run-2", "Succeeded")
    await other.end()
    assert other.states == ["pending", "succeeded"]


async def test_a_workflow_that_ends_and_is_deleted_at_once_has_ended(
    server: ArgoServer, bridge: Bridge
) -> None:
    story = await bridge.run("run-1")
    await story.until(lambda story: bool(story.told))
    server.move("run-1", "Succeeded")
    server.remove("run-1")
    await story.end()
    assert story.states == ["pending", "succeeded"]


async def test_a_phase_that_is_not_known_changes_nothing(server: ArgoServer, bridge: Bridge) -> None:
    story = await bridge.run("run-1")
    server.move("run-1", "Running", progress="1/2")
    await story.until(lambda story: story.states[-1:] == ["running"])
    server.move("run-1", "Dreaming")
    server.move("run-1", "Succeeded")
    await story.end()
    assert story.states[-2:] == ["running", "succeeded"]


# One watch for all


async def test_two_hundred_runs_share_one_watch(server: ArgoServer, bridge: Bridge) -> None:
    names = [f"run-{number}" for number in range(200)]
    for name in names:
        await bridge.engine.submit(ordered(name))
    looked = server.calls["get"]
    stories = [bridge.follow(name) for name in names]
    for story in stories:
        await story.until(lambda story: bool(story.told))
    await server.wait(watched(server))
    for phase in ("Running", "Succeeded"):
        for name in names:
            server.move(name, phase)
    for story in stories:
        await story.end()
    assert [story.states for story in stories] == [["pending", "running", "succeeded"]] * 200
    assert (server.calls["watch"], server.calls["list"], server.calls["get"] - looked) == (1, 1, 0)


async def test_a_run_that_joins_later_shares_the_watch(server: ArgoServer, bridge: Bridge) -> None:
    first = await bridge.run("run-1")
    await first.until(lambda story: bool(story.told))
    await server.wait(watched(server))
    second = await bridge.run("run-2")
    await second.until(lambda story: bool(story.told))
    server.move("run-2", "Running")
    await second.until(lambda story: story.states == ["pending", "running"])
    assert server.calls["watch"] == 1


async def test_two_who_follow_the_same_run_hear_the_same(server: ArgoServer, bridge: Bridge) -> None:
    first = await bridge.run("run-1")
    second = bridge.follow("run-1")
    server.move("run-1", "Running")
    server.move("run-1", "Succeeded")
    await first.end()
    await second.end()
    assert first.told[-1] == second.told[-1] == Observation("succeeded")


async def test_the_watch_ends_with_the_last_who_follows(server: ArgoServer) -> None:
    async with bridge_to(server) as bridge:
        stories = [await bridge.run(name) for name in ("run-1", "run-2")]
        for story in stories:
            await story.until(lambda story: bool(story.told))
        await server.wait(watched(server))
        bridge.followers["run-1"].cancel()
        await stories[0].end()
        server.move("run-2", "Running")
        await stories[1].until(lambda story: story.states == ["pending", "running"])
        assert len(server.watches) == 1
        bridge.followers["run-2"].cancel()
        await stories[1].end()
        await server.wait(lambda: not server.watches and not server.endpoint.busy)
        third = await bridge.run("run-3")
        await third.until(lambda story: bool(story.told))
    await server.wait(lambda: not server.watches and not server.endpoint.busy)


async def test_following_can_be_cancelled_at_any_moment(server: ArgoServer) -> None:
    server.on_submit = paced(server, lambda: 0.001, [("Running", {"progress": f"{n}/9"}) for n in range(9)])
    async with bridge_to(server, poll=0.005) as bridge:
        for turns in range(60):
            story = await bridge.run(f"run-{turns}")
            for _ in range(turns):
                await asyncio.sleep(0)
            follower = bridge.followers[story.name]
            follower.cancel()
            await asyncio.wait((follower,))
            assert "argo-watch" not in {task.get_name() for task in asyncio.all_tasks()}
        await server.wait(lambda: not server.watches and not server.endpoint.busy)


async def test_closing_the_engine_ends_those_who_follow(server: ArgoServer, bridge: Bridge) -> None:
    story = await bridge.run("run-1")
    await story.until(lambda story: bool(story.told))
    await bridge.engine.aclose()
    await story.end()
    assert isinstance(story.error, ShuttingDown)
    later = bridge.follow("run-1")
    await later.end()
    assert isinstance(later.error, ShuttingDown)
    assert server.workflows.live["run-1"].shutdown == ""


# What becomes of a watch


async def test_a_cut_watch_is_resumed_where_it_was(server: ArgoServer, bridge: Bridge) -> None:
    story = await bridge.run("run-1")
    await story.until(lambda story: bool(story.told))
    await server.wait(watched(server))
    server.move("run-1", "Running", progress="0/3")
    await story.until(lambda story: story.states[-1] == "running")
    server.cut_watches()
    server.move("run-1", progress="1/3")
    await story.until(lambda story: story.told[-1].message == "1 of 3 steps")
    assert server.calls["list"] == 1
    server.move("run-1", "Succeeded")
    await story.end()
    assert story.error is None


async def test_watches_cut_at_random_lose_nothing(server: ArgoServer, bridge: Bridge) -> None:
    server.faults.cut_share = 0.3
    names = [f"run-{number}" for number in range(20)]
    stories = [await bridge.run(name) for name in names]
    for phase in ("Running", "Succeeded"):
        for story in stories:
            await story.until(lambda story: bool(story.told))
            server.move(story.name, phase)
            last = {"Running": "running", "Succeeded": "succeeded"}[phase]
            await story.until(lambda story, last=last: story.states[-1] == last)
    assert [story.error for story in stories] == [None] * 20
    assert server.endpoint.connections > 1


@pytest.mark.parametrize("eager", [False, True])
async def test_a_watch_that_kubernetes_ends_is_begun_again(
    server: ArgoServer, bridge: Bridge, eager: bool
) -> None:
    server.eager = eager
    story = await bridge.run("run-1")
    await story.until(lambda story: bool(story.told))
    for times, phase in ((1, "Running"), (2, "Succeeded")):
        await server.wait(watched(server, times))
        server.end_watches()
        await server.wait(watched(server, times + 1))
        server.move("run-1", phase)
    await story.end()
    assert story.states == ["pending", "running", "succeeded"]
    assert story.error is None


async def test_a_version_that_is_forgotten_is_replaced_by_that_of_a_list(
    server: ArgoServer, bridge: Bridge
) -> None:
    story = await bridge.run("run-1")
    await story.until(lambda story: bool(story.told))
    await server.wait(watched(server))
    server.move("run-1", "Running", progress="0/3")
    await story.until(lambda story: story.states[-1] == "running")
    server.workflows.forget()
    server.cut_watches()
    server.move("run-1", progress="1/3")
    await story.until(lambda story: story.told[-1].message == "1 of 3 steps")
    server.move("run-1", "Succeeded")
    await story.end()
    assert (story.error, server.calls["list"]) == (None, 2)


async def test_a_list_without_a_version_is_watched_from_now(server: ArgoServer, bridge: Bridge) -> None:
    server.empty_version = True
    await bridge.engine.submit(ordered("run-1"))
    server.move("run-1", "Succeeded")
    story = bridge.follow("run-1")
    second = await bridge.run("run-2")
    await story.end()
    server.move("run-2", "Succeeded")
    await second.end()
    assert second.states[-1] == "succeeded"


async def test_a_silent_watch_is_begun_anew_and_what_it_kept_back_is_told(server: ArgoServer) -> None:
    async with bridge_to(server, watch_idle=0.05, poll=30) as bridge:
        story = await bridge.run("run-1")
        await story.until(lambda story: bool(story.told))
        await server.wait(watched(server))
        server.move("run-1", "Pending", message="a while")
        await story.until(lambda story: story.told[-1].message == "a while")
        server.mute()
        server.move("run-1", "Running")
        await story.until(lambda story: story.states[-1] == "running")
        assert story.error is None
        assert server.calls["list"] > 1


async def test_runs_are_polled_beside_a_watch_that_has_told_nothing_yet(server: ArgoServer) -> None:
    server.mute()
    async with bridge_to(server, poll=0.01) as bridge:
        story = await bridge.run("run-1")
        await story.until(lambda story: bool(story.told))
        server.move("run-1", "Running", progress="1/2")
        await story.until(lambda story: story.told[-1].message == "1 of 2 steps")
        server.move("run-1", "Succeeded")
        await story.end()
        assert (server.calls["watch"], story.error) == (1, None)


@pytest.mark.parametrize("fault", [Fault("500"), Fault("503"), Fault("cut")])
async def test_watches_that_fail_again_and_again_are_replaced_by_polling(
    server: ArgoServer, fault: Fault
) -> None:
    server.faults.tell("watch", *[fault] * 1000)
    async with bridge_to(server, poll=0.01) as bridge:
        story = await bridge.run("run-1")
        for phase in ("Pending", "Running", "Succeeded"):
            await story.until(lambda story: bool(story.told))
            server.move("run-1", phase)
        await story.end()
        assert (story.states[-1], story.error) == ("succeeded", None)


async def test_a_watch_that_is_forbidden_is_replaced_by_polling(server: ArgoServer) -> None:
    server.forbidden.add("watch")
    async with bridge_to(server, poll=0.01) as bridge:
        story = await bridge.run("run-1")
        await server.wait(lambda: server.calls["list"] > 5)
        assert server.calls["watch"] == 1
        server.move("run-1", "Running")
        await story.until(lambda story: story.states[-1:] == ["running"])
        server.forbidden.clear()
        await server.wait(watched(server))
        server.move("run-1", "Succeeded")
        await story.end()


async def test_without_a_watch_all_runs_are_polled_by_one_call(server: ArgoServer) -> None:
    async with bridge_to(server, watch=False, poll=0.01) as bridge:
        names = [f"run-{number}" for number in range(20)]
        for name in names:
            await bridge.engine.submit(ordered(name))
        looked = server.calls["get"]
        stories = [bridge.follow(name) for name in names]
        await server.wait(lambda: server.calls["list"] > 3)
        assert server.calls["get"] == looked
        for name in names:
            server.move(name, "Running")
        for story in stories:
            await story.until(lambda story: story.states[-1:] == ["running"])
        for name in names:
            server.move(name, "Failed", message="no")
        for story in stories:
            await story.end()
            assert story.told[-1] == Observation("failed", "no")
        assert server.calls["watch"] == 0


# An engine out of reach


async def test_an_argo_server_that_is_gone_is_told_to_all_and_followed_again_when_it_is_back(
    server: ArgoServer, bridge: Bridge
) -> None:
    stories = [await bridge.run(name) for name in ("run-1", "run-2")]
    for story in stories:
        await story.until(lambda story: bool(story.told))
    await server.wait(watched(server))
    await server.down()
    for story in stories:
        await story.end()
        assert isinstance(story.error, UpstreamUnavailable)
        assert "check that it runs" in story.error.message
    assert stories[0].error is not stories[1].error
    await server.up()
    server.move("run-1", "Running")
    again = [bridge.follow(name) for name in ("run-1", "run-2")]
    for story in again:
        await story.until(lambda story: bool(story.told))
    assert [story.states for story in again] == [["running"], ["pending"]]


async def test_a_token_that_is_refused_is_told_to_those_who_follow() -> None:
    async with ArgoServer({"ingest": {}}, token="t1") as server, bridge_to(server) as bridge:
        story = bridge.follow("run-1")
        await story.end()
        assert isinstance(story.error, UpstreamUnavailable)
        assert "the Argo Server refuses our token (401)" in story.error.message


async def test_an_argo_server_that_fails_a_third_of_all_calls_loses_no_run(server: ArgoServer) -> None:
    server.faults.share, server.faults.cut_share = 0.3, 0.1
    server.on_submit = paced(
        server, lambda: 0.002, [("Running", {"progress": "1/2"}), ("Succeeded", {"progress": "2/2"})]
    )
    async with bridge_to(server, poll=0.01) as bridge:
        names = [f"run-{number}" for number in range(40)]

        async def see_through(name: str) -> None:
            while True:
                try:
                    await bridge.engine.submit(ordered(name))
                    async with contextlib.aclosing(bridge.engine.follow(ordered(name), name)) as told:
                        async for one in told:
                            if one.state == "succeeded":
                                return
                except UpstreamUnavailable:
                    await asyncio.sleep(0)

        async with asyncio.timeout(DEADLINE * 3), asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(see_through(name))
    assert server.workflows.created == dict.fromkeys(names, 1)
    assert server.faults.happened > 10
