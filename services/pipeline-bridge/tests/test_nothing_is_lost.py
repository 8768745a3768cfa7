"""200 triggers, two replicas, and everything that can go wrong at once: one run per request, every status, in order."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from handler_messages import PipelineStatus, PipelineTrigger
from handler_messages.statuses import PIPELINE_ENDS
from handler_testkit.argo import ArgoServer, paced
from handler_testkit.kubeflow import KubeflowServer
from handler_testkit.services import ServiceProcess, until
from pipeline_bridge.runs import RANKS, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from conftest import Stack

REQUESTS = 200
FAILING = 10  # one of so many runs fails
SHARE = 1 / 3
SEED = 5

ENVIRON = {
    "ACK_WAIT": "2",
    "RUN_LEASE": "2",
    "ENGINE_RETRY_DELAY": "0.02",
    "ENGINE_RETRY_DELAY_MAX": "0.2",
    "ENGINE_PATIENCE": "120",
    "HTTP_RETRIES": "0",
    "MAX_ATTEMPTS": "20",
    "RETRY_DELAY_MAX": "0.5",
}


@contextlib.asynccontextmanager
async def argo() -> AsyncGenerator[Engine]:
    dice = random.Random(SEED)
    async with ArgoServer({"work": {"what": None, "often": "1"}}) as server:
        ends = [
            paced(server, lambda: dice.uniform(0, 1), [("Pending", {}), ("Running", {}), (phase, {})])
            for phase in ("Succeeded", "Failed")
        ]
        failing = {name_of("work", request) for request in bad_ones()}
        server.on_submit = lambda workflow: ends[workflow.name in failing](workflow)
        server.faults.share = SHARE
        server.faults.cut_share = 0.02
        yield Engine(
            "argo",
            {"ARGO_HOST": server.url, "ARGO_POLL": "0.2"},
            lambda name: server.workflows.created[name],
            lambda: len(server.workflows.created),
        )
        assert server.faults.happened > REQUESTS / 2


@contextlib.asynccontextmanager
async def kubeflow() -> AsyncGenerator[Engine]:
    async with KubeflowServer() as server:
        server.add_pipeline("work", "v1")
        server.plan = ("RUNNING", "RUNNING", "SUCCEEDED")
        server.faults.draw(SHARE, SEED)
        yield Engine(
            "kubeflow",
            {"KUBEFLOW_HOST": server.url, "KUBEFLOW_POLL": "0.1", "KUBEFLOW_POLL_MAX": "0.5"},
            lambda name: len(server.alive(name)),
            lambda: len(server.created),
        )


class Engine:
    """What is needed of a scripted server.

    Attributes:
        name: The engine.
        environ: How the bridge finds it.
        alive: How many runs of a name were not taken back.
        names: How many names there ever were.
    """

    def __init__(
        self, name: str, environ: dict[str, str], alive: Callable[[str], int], names: Callable[[], int]
    ) -> None:
        self.name = name
        self.environ = environ
        self.alive = alive
        self.names = names


ENGINES = {"argo": argo, "kubeflow": kubeflow}


def request_ids() -> list[str]:
    return [f"request {number}".replace(" ", "-") for number in range(REQUESTS)]


def bad_ones() -> set[str]:
    return set(request_ids()[::FAILING])


async def trigger_all(stack: Stack, dice: random.Random) -> None:
    """Send every trigger, some of them more than once, with pauses."""
    wanted = [id_ for id_ in request_ids() for _ in range(dice.choice((1, 1, 2, 3)))]
    dice.shuffle(wanted)
    for request_id in wanted:
        trigger = PipelineTrigger(request_id=request_id, pipeline="work", parameters={"what": request_id})
        while True:
            try:
                await stack.client.send("ai.pipeline.trigger", trigger)
            except Exception:  # NATS is away: whoever triggers tries again
                await asyncio.sleep(0.1)
            else:
                break
        await asyncio.sleep(dice.uniform(0, 0.02))


async def stored(stack: Stack) -> dict[str, list[PipelineStatus]]:
    """Return everything that the stream has, by request."""
    found: dict[str, list[PipelineStatus]] = defaultdict(list)
    sequence = 0
    while True:
        one = await stack.client.connection.next_stored("AI_PIPELINE", "ai.pipeline.status.*", sequence + 1)
        if one is None:
            return found
        sequence = one.sequence
        status = PipelineStatus.FromString(one.data)
        found[status.request_id].append(status)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("engine", ENGINES)
async def test_every_request_has_one_run_and_all_of_its_statuses(stack: Stack, engine: str) -> None:
    dice = random.Random(SEED)
    async with ENGINES[engine]() as played:
        stack.catalogue.write_text(stack.catalogue.read_text().replace('"argo"', f'"{engine}"'))
        environ = stack.environ(**ENVIRON, **played.environ)
        del environ["HEALTH_PORT"]
        replicas = [ServiceProcess("pipeline_bridge", environ) for _ in range(2)]
        try:
            for replica in replicas:
                await asyncio.to_thread(replica.start)
            heard = await stack.client.listen("ai.pipeline.status.*")
            triggering = asyncio.create_task(trigger_all(stack, dice))
            await until(lambda: played.names() > REQUESTS / 4, 60)
            await asyncio.to_thread(replicas[0].kill)
            await until(lambda: played.names() > REQUESTS / 2, 60)
            await asyncio.to_thread(stack.nats.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(stack.nats.start)
            await triggering
            told: dict[str, list[PipelineStatus]] = {}
            async with asyncio.timeout(120):
                while len(told) < REQUESTS or any(
                    all_[-1].status not in PIPELINE_ENDS for all_ in told.values()
                ):
                    await asyncio.sleep(0.5)
                    with contextlib.suppress(Exception):
                        told = await stored(stack)
            logs = [replica.log() for replica in replicas]
        finally:
            for replica in replicas:
                await asyncio.to_thread(replica.close)
    assert "Traceback" not in "".join(logs)
    assert "taken over" in logs[1]
    check(told, engine)
    assert {id_: played.alive(name_of("work", id_)) for id_ in told} == dict.fromkeys(request_ids(), 1)
    copies = Counter((one.request_id, one.sequence) for one in map(read, heard.all))
    assert max(copies.values()) == 1


def read(message: Any) -> PipelineStatus:
    return PipelineStatus.FromString(message.data)


def check(told: dict[str, list[PipelineStatus]], engine: str) -> None:
    assert set(told) == set(request_ids())
    for request_id, all_ in told.items():
        assert [one.sequence for one in all_] == list(range(1, len(all_) + 1)), request_id
        ranks = [RANKS[one.status] for one in all_]
        assert ranks == sorted(ranks), request_id
        end = "failed" if engine == "argo" and request_id in bad_ones() else "succeeded"
        assert list(dict.fromkeys(one.status for one in all_)) == ["submitted", "pending", "running", end]
        assert [one.status for one in all_].count(end) == 1
