"""The engine, before a scripted Kubeflow; pauses between polls take no time and are written down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from handler_base.http import HttpPool, HttpSettings
from handler_testkit.kubeflow import KubeflowServer
from pipeline_bridge.catalogue import Parameter, Pipeline
from pipeline_bridge.config import KubeflowSettings
from pipeline_bridge.engines import Order
from pipeline_bridge.engines.kubeflow import Kubeflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

RAG = Pipeline(
    engine="kubeflow",
    name="rag-query",
    parameters={
        "query": Parameter(required=True),
        "collection": Parameter(default="documents"),
        "top-k": Parameter(type="integer", default="5"),
        "threshold": Parameter(type="number"),
        "rerank": Parameter(type="boolean"),
        "language": Parameter(),
    },
)
TAKES = {
    "query": "STRING",
    "collection": "STRING",
    "top_k": "NUMBER_INTEGER",
    "threshold": "NUMBER_DOUBLE?",
    "rerank": "BOOLEAN?",
    "language": "STRING?",
}


class Bench:
    """A Kubeflow, and engines before it.

    Attributes:
        server: The scripted Kubeflow.
        pauses: Between polls, of all engines.
        now: What engines' clocks say.
    """

    def __init__(self, server: KubeflowServer, pool: HttpPool) -> None:
        self.server = server
        self.pauses: list[float] = []
        self.now = 0.0
        self._pool = pool

    def engine(self, **settings: Any) -> Kubeflow:
        """Return an engine."""
        return Kubeflow(
            self._pool,
            KubeflowSettings(host=self.server.url, **settings),
            sleep=self._sleep,
            clock=lambda: self.now,
        )

    def order(self, request_id: str = "r-1", pipeline: Pipeline = RAG, **given: str) -> Order:
        """Return an order whose values the catalogue has checked."""
        values = {name.replace("_", "-"): value for name, value in given.items()}
        if "query" in pipeline.parameters:
            values.setdefault("query", "why?")
        return Order(request_id, f"order-{request_id}", pipeline, pipeline.check(values))

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    pool = HttpPool(HttpSettings(), sleep=at_once)
    yield pool
    await pool.aclose()


@pytest.fixture
async def bench(pool: HttpPool) -> AsyncIterator[Bench]:
    """A Kubeflow with the pipeline `rag-query` in two versions."""
    async with KubeflowServer() as server:
        server.add_pipeline("rag-query", "v1", "v2", parameters=TAKES)
        yield Bench(server, pool)


@pytest.fixture
async def shared(pool: HttpPool) -> AsyncIterator[Bench]:
    """The same in a Kubeflow with many users."""
    async with KubeflowServer(namespace="team") as server:
        server.add_pipeline("rag-query", "v1", parameters=TAKES)
        yield Bench(server, pool)


@pytest.fixture
def pipeline() -> Callable[..., Pipeline]:
    """Return the pipeline with some of its fields changed."""

    def changed(**fields: Any) -> Pipeline:
        return msgspec.structs.replace(RAG, **fields)

    return changed
