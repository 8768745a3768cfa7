"""pipeline-bridge in this process, between the real nats-server and an engine that does what a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.config import load
from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from handler_base.service import Service
from handler_messages import CancelRequest, PipelineStatus, PipelineTrigger
from handler_messages.statuses import PIPELINE_ENDS
from handler_testkit.services import Client, running
from pipeline_bridge import __main__ as program
from pipeline_bridge.config import PipelineBridgeSettings
from pipeline_bridge.engines import ENDS, Observation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from handler_testkit.nats import NatsServer
    from handler_testkit.services import Heard
    from pipeline_bridge.engines import Order

CATALOGUE = """
[work]
engine = "argo"
description = "Does something"
[work.parameters.what]
required = true
description = "what to do"
[work.parameters.often]
type = "integer"
default = "1"
minimum = 1

[alone]
engine = "argo"
max_concurrent = 1

[rare]
engine = "argo"
rate = "2/hour"

[short]
engine = "argo"
timeout = 1
"""


class PlayedEngine:
    """An engine whose runs a test moves.

    Attributes:
        runs: Observations of each run, by its name, the newest last.
        submits: Names in the order in which they were submitted, repeated ones too.
        stops: Names that were stopped, with the reason.
        failing: Raised by every call while it is set.
        gate: Submissions wait for it, after they had their effect.
        automatic: What each new run goes through by itself.
    """

    name = "argo"

    def __init__(self) -> None:
        self.runs: dict[str, list[Observation]] = {}
        self.orders: dict[str, Order] = {}
        self.submits: list[str] = []
        self.stops: list[tuple[str, str]] = []
        self.failing: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.automatic: tuple[Observation, ...] = ()
        self.followers = 0
        self.asked = 0
        self._moved = asyncio.Event()

    def run_id(self, order: Order) -> str:
        return order.name

    def _call(self) -> None:
        self.asked += 1
        if self.failing is not None:
            raise self.failing

    async def submit(self, order: Order) -> str:
        self._call()
        self.submits.append(order.name)
        if order.name not in self.runs:
            self.orders[order.name] = order
            self.runs[order.name] = [Observation("pending"), *self.automatic]
            self._move()
        await self.gate.wait()
        self._call()
        return order.name

    async def follow(self, order: Order, run_id: str) -> AsyncGenerator[Observation]:
        self.followers += 1
        try:
            seen = 0
            while True:
                self._call()
                if run_id not in self.runs:
                    raise UpstreamRejected(f"argo does not know {run_id}")
                for observation in self.runs[run_id][seen:]:
                    seen += 1
                    yield observation
                    if observation.state in ENDS:
                        return
                await self._moved.wait()
        finally:
            self.followers -= 1

    async def stop(self, order: Order, run_id: str, reason: str) -> bool:
        self._call()
        run_id = run_id or order.name
        if run_id not in self.runs:
            return True
        if self.runs[run_id][-1].state in ENDS:
            return False
        self.stops.append((run_id, reason))
        self.runs[run_id].append(Observation("failed", "stopped"))
        self._move()
        return True

    async def aclose(self) -> None:
        assert self.followers == 0

    # -- for tests ---------------------------------------------------------------------------------------------

    def tell(self, name: str, *observations: Observation) -> None:
        """Move a run on."""
        self.runs[name].extend(observations)
        self._move()

    def fail(self, error: Exception | None = None) -> None:
        """Fail every call from now on, also those under way."""
        self.failing = error or UpstreamUnavailable("argo at 127.0.0.1:1 (ARGO_HOST) refused the connection")
        self._move()

    def recover(self) -> None:
        """Work again."""
        self.failing = None
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class PlayedEngines:
    """Gives the played engine for whatever is asked."""

    def __init__(self, engine: PlayedEngine) -> None:
        self._engine = engine

    def get(self, name: str) -> PlayedEngine:
        return self._engine

    async def aclose(self) -> None:
        await self._engine.aclose()


class Stack:
    """What a test plays with: an engine and a client."""

    def __init__(self, nats: NatsServer, folder: Path) -> None:
        self.nats = nats
        self.engine = PlayedEngine()
        self.client = Client(nats.url)
        self.catalogue = folder / "pipelines.toml"
        self.catalogue.write_text(CATALOGUE)

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a bridge of this stack."""
        return {
            "NATS_URL": self.nats.url,
            "HEALTH_PORT": "0",
            "PIPELINES_FILE": str(self.catalogue),
            "RUN_LEASE": "1",
            "ENGINE_RETRY_DELAY": "0.01",
            "ENGINE_RETRY_DELAY_MAX": "0.05",
            "PROGRESS_INTERVAL": "0",
            "RETRY_DELAY": "0.05",
            "MAX_ATTEMPTS": "3",
            "SHUTDOWN_GRACE": "0.5",
            "NATS_RECONNECT_WAIT": "0.02",
            "NATS_RECONNECT_WAIT_MAX": "0.1",
            **more,
        }

    @contextlib.asynccontextmanager
    async def bridge(
        self, engine: PlayedEngine | None = None, *, ready: bool = True, **environ: str
    ) -> AsyncGenerator[asyncio.Event]:
        """Run a bridge; yields what stops it."""
        settings = load(PipelineBridgeSettings, self.environ(**environ))
        service = Service("pipeline-bridge", "0", settings)
        made = program.Engines
        program.Engines = lambda *_: PlayedEngines(engine or self.engine)  # type: ignore[assignment,misc]
        try:
            program.assemble(service, settings)
        finally:
            program.Engines = made  # type: ignore[misc]
        async with running(service, ready=ready) as stop:
            yield stop

    async def trigger(self, request_id: str, pipeline: str = "work", **parameters: str) -> Told:
        """Trigger a pipeline, and listen to what is told of it."""
        told = await self.listen(request_id)
        await self.send(request_id, pipeline, **parameters)
        return told

    async def send(self, request_id: str, pipeline: str = "work", **parameters: str) -> None:
        """Trigger a pipeline."""
        await self.client.send("ai.pipeline.trigger", self.request(request_id, pipeline, **parameters))

    @staticmethod
    def request(request_id: str, pipeline: str = "work", **parameters: str) -> PipelineTrigger:
        """Return a trigger."""
        if pipeline == "work":
            parameters.setdefault("what", "something")
        return PipelineTrigger(request_id=request_id, pipeline=pipeline, parameters=parameters)

    async def listen(self, request_id: str) -> Told:
        """Listen to what is told of a request."""
        return Told(await self.client.listen(f"ai.pipeline.status.{request_id}"))

    async def stored(self, request_id: str) -> list[PipelineStatus]:
        """Return what the stream has of a request, oldest first."""
        found: list[PipelineStatus] = []
        sequence, subject = 0, f"ai.pipeline.status.{request_id}"
        while True:
            stored = await self.client.connection.next_stored("AI_PIPELINE", subject, sequence + 1)
            if stored is None:
                return found
            sequence = stored.sequence
            found.append(PipelineStatus.FromString(stored.data))

    async def cancel(self, request_id: str, reason: str = "") -> None:
        """Cancel a run."""
        await self.client.send(f"ai.pipeline.cancel.{request_id}", CancelRequest(reason=reason))

    def name(self, pipeline: str = "work") -> str:
        """Return the name of the one run of a pipeline that there is."""
        (name,) = [one for one in self.engine.runs if one.startswith(pipeline)]
        return name


class Told:
    """What is told of one request."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    @property
    def all(self) -> list[PipelineStatus]:
        return [read(message) for message in self.heard.all]

    @property
    def statuses(self) -> list[str]:
        return [one.status for one in self.all]

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [(one.status, one.message) for one in self.all]

    async def until(
        self, condition: Callable[[list[PipelineStatus]], object], timeout: float = 20.0
    ) -> list[PipelineStatus]:
        """Wait until `condition` holds for what was told."""
        await self.heard.until(lambda heard: bool(heard and condition(self.all)), timeout)
        return self.all

    async def status(self, status: str) -> PipelineStatus:
        """Wait for a status, and return the first one."""
        found = await self.until(lambda all_: any(one.status == status for one in all_))
        return next(one for one in found if one.status == status)

    async def ended(self) -> list[PipelineStatus]:
        """Wait for the end, see that everything was told once and in order, and return it."""
        found = await self.until(lambda all_: any(one.status in PIPELINE_ENDS for one in all_))
        assert [one.sequence for one in found] == list(range(1, len(found) + 1))
        return found


def read(message: Any) -> PipelineStatus:
    if (message.headers or {}).get("Content-Type") == "application/json":
        from google.protobuf import json_format

        return json_format.ParseDict(json.loads(message.data), PipelineStatus())
    return PipelineStatus.FromString(message.data)


@pytest.fixture
async def stack(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(nats, tmp_path)
    async with stack.client:
        yield stack
