"""A stand-in for pipeline-bridge: a service as the real one is, that does with a trigger what a test tells it."""

from __future__ import annotations

import asyncio
import io
import time
from typing import TYPE_CHECKING

import pytest

from handler_base.config import load
from handler_base.messaging import wire
from handler_base.messaging.streams import ensure_streams
from handler_base.service import Service, ServiceSettings
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    PipelineInfo,
    PipelineListResponse,
    PipelineParameter,
    PipelineRun,
    PipelineRunListRequest,
    PipelineRunListResponse,
    PipelineStatus,
    PipelineTrigger,
    subjects,
)
from handler_testkit.services import Client, running, until
from handlers_cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from google.protobuf.message import Message

    from handler_base.messaging.context import Context
    from handler_testkit.nats import NatsServer


class Text(io.StringIO):
    def __init__(self, *, tty: bool = False) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


class Recorded(Terminal):
    """A terminal that is two strings."""

    def __init__(self, *, tty: bool = False) -> None:
        super().__init__(Text(tty=tty), Text(), {"NO_COLOR": "1"})

    @property
    def said(self) -> str:
        return self.out.getvalue()

    @property
    def noted(self) -> str:
        return self.err.getvalue()

    async def says(self, text: str) -> None:
        await until(lambda: text in self.said + self.noted)


INFOS = [
    PipelineInfo(
        name="document-ingestion",
        engine="local",
        description="Reads documents",
        parameters=[
            PipelineParameter(name="source-url", type="string", description="what to read", required=True),
            PipelineParameter(name="collection", type="string", description="where to"),
        ],
    ),
    PipelineInfo(
        name="model-evaluation",
        engine="argo",
        description="Scores answers",
        parameters=[
            PipelineParameter(
                name="metric", type="string", default_value="f1", allowed=["exact", "f1"], description="how"
            )
        ],
    ),
]


class Bridge:
    """What runs a test's script for each trigger.

    Attributes:
        triggers: Those that came.
        cancels: Those that came.
        script: Called with each trigger.
        runs: What is told of runs.
        asked: What was asked about runs.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Client(url)
        self.triggers: list[PipelineTrigger] = []
        self.cancels: list[CancelRequest] = []
        self.asked: list[PipelineRunListRequest] = []
        self.infos = list(INFOS)
        self.runs: list[PipelineRun] = []
        self.refuses: ErrorResponse | None = None
        self.script: Callable[[PipelineTrigger], Awaitable[None]] | None = None
        self.cancelled = asyncio.Event()
        self._sequences: dict[str, int] = {}
        self.service = Service(
            "pipeline-bridge", "0", load(ServiceSettings, {"NATS_URL": url, "HEALTH_PORT": "0"})
        )
        self.service.handle(subjects.PIPELINE_TRIGGER, self._trigger)
        self.service.handle(subjects.PIPELINE_CANCEL, self._cancel)
        self.service.handle(subjects.PIPELINE_LIST, self._list)
        self.service.handle(subjects.PIPELINE_RUNS_LIST, self._list_runs)

    async def status(
        self, request_id: str, status: str, message: str = "", *, sequence: int = 0, **fields: object
    ) -> None:
        """Tell the next status, or another one than the next."""
        number = sequence or self._sequences.get(request_id, 0) + 1
        self._sequences[request_id] = max(number, self._sequences.get(request_id, 0))
        told = PipelineStatus(
            request_id=request_id, status=status, message=message, sequence=number, **{"timestamp": time.time(), **fields}
        )  # fmt: skip
        await self.client.connection.store(
            subjects.PIPELINE_STATUS.build(request_id=request_id),
            wire.encode(told),
            msg_id=f"{request_id}-{number}-{status}-{time.monotonic()}",
        )

    async def refused(self, request_id: str, kind: str, message: str) -> None:
        error = ErrorResponse(error=True, type=kind, message=message)
        await self.status(request_id, "error", message, error=error)

    async def _trigger(self, _context: Context, request: PipelineTrigger) -> None:
        self.triggers.append(request)
        if self.script is not None:
            await self.script(request)

    async def _cancel(self, _context: Context, request: CancelRequest) -> None:
        self.cancels.append(request)
        self.cancelled.set()

    async def _list(self, _context: Context, _request: object) -> Message:
        return self.refuses or PipelineListResponse(pipelines=self.infos)

    async def _list_runs(self, _context: Context, request: PipelineRunListRequest) -> Message:
        self.asked.append(request)
        found = [run for run in self.runs if request.run_request_id in {"", run.request_id}]
        return self.refuses or PipelineRunListResponse(runs=found[: request.limit or 50], total=len(found))


@pytest.fixture
async def bridge(nats: NatsServer) -> AsyncIterator[Bridge]:
    bridge = Bridge(nats.url)
    async with bridge.client, running(bridge.service):
        yield bridge


@pytest.fixture
async def absent(nats: NatsServer) -> AsyncIterator[Bridge]:
    """A bridge that ran once, so that its stream is there, and is away now."""
    bridge = Bridge(nats.url)
    async with bridge.client:
        await ensure_streams(bridge.client.connection.jetstream, ["AI_PIPELINE"])
        yield bridge


@pytest.fixture
def terminal() -> Recorded:
    return Recorded()


@pytest.fixture
def tty() -> Recorded:
    return Recorded(tty=True)
