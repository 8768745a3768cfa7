"""What the names of the catalogue stand for in Kubeflow: ids of a pipeline, a version and an experiment.

Ids rarely change, so they are remembered for a while: a new version is taken up within `REMEMBERED` seconds.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from handler_base.errors import UpstreamRejected
from pipeline_bridge.engines.kubeflow.wire import NEVER, Pipeline, Specification, Version

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline_bridge import catalogue
    from pipeline_bridge.engines.kubeflow.api import Api

REMEMBERED = 60.0
"""Seconds that ids are remembered."""

MAX_NAMED = 20
"""Most names of what there is, in an error."""


class Reference(msgspec.Struct, frozen=True):
    """What to run, and where.

    Attributes:
        pipeline_id: The pipeline.
        version_id: Its version.
        experiment_id: What runs are grouped by; "" for the default one.
        parameters: Names of what that version takes; None if it does not say.
    """

    pipeline_id: str
    version_id: str
    experiment_id: str
    parameters: frozenset[str] | None


class References:
    """Finds them, and remembers what it found.

    Args:
        api: Who is asked.
        namespace: Where pipelines and experiments are; "" where Kubeflow does not have many users.
        clock: Tells seconds.
    """

    def __init__(self, api: Api, namespace: str, clock: Callable[[], float]) -> None:
        self._api = api
        self._namespace = namespace
        self._clock = clock
        self._known: dict[str, tuple[float, Reference]] = {}

    async def find(self, pipeline: catalogue.Pipeline) -> Reference:
        """Return what a pipeline of the catalogue stands for.

        Raises:
            UpstreamRejected: If it stands for nothing; says what there is.
            UpstreamError: If that cannot be found out.
        """
        since, reference = self._known.get(pipeline.name, (0.0, None))
        if reference is None or self._clock() - since > REMEMBERED:
            reference = await self._ask(pipeline)
            self._known[pipeline.name] = self._clock(), reference
        return reference

    def forget(self, pipeline: catalogue.Pipeline) -> None:
        """Ask again next time."""
        self._known.pop(pipeline.name, None)

    async def _ask(self, pipeline: catalogue.Pipeline) -> Reference:
        name = pipeline.pipeline or pipeline.name
        found = await self._api.get(f"/pipelines/names/{quote(name, safe='')}", Pipeline, here=True)
        if found is None:
            raise await self._missing("pipeline", name, "/pipelines")
        versions = f"/pipelines/{quote(found.pipeline_id, safe='')}/versions"
        version = await (
            self._named(versions, pipeline) if pipeline.version else self._newest(versions, name)
        )
        return Reference(
            found.pipeline_id,
            version.pipeline_version_id,
            await self._experiment(pipeline.experiment),
            _parameters(version.pipeline_spec),
        )

    async def _named(self, versions: str, pipeline: catalogue.Pipeline) -> Version:
        for field in ("name", "display_name"):  # people call a version by either
            equals = field, pipeline.version
            for page in [page async for page in self._api.pages(versions, equals=equals)]:
                for one in page.pipeline_versions:
                    if pipeline.version in {one.name, one.display_name}:
                        return one
        what = f"version of the pipeline {pipeline.pipeline or pipeline.name} called"
        raise await self._missing(what, pipeline.version, versions)

    async def _newest(self, versions: str, name: str) -> Version:
        async with aclosing(self._api.pages(versions, sort_by="created_at desc", size=5)) as pages:
            async for page in pages:
                for one in page.pipeline_versions:
                    if one.created_at != NEVER:  # one without a time is one that Kubeflow itself cannot read
                        return one
        raise UpstreamRejected(f"Kubeflow's pipeline {name} has no version", endpoint="kubeflow")

    async def _experiment(self, name: str) -> str:
        # where Kubeflow has many users, each has a default experiment of their own, and it must be said
        name = name or ("Default" if self._namespace else "")
        if not name:
            return ""
        equals = "display_name", name
        for page in [page async for page in self._api.pages("/experiments", here=True, equals=equals)]:
            for one in page.experiments:
                if one.display_name == name:
                    return one.experiment_id
        raise await self._missing("experiment", name, "/experiments")

    async def _missing(self, what: str, name: str, path: str) -> UpstreamRejected:
        within = path.endswith("/versions")
        async with aclosing(
            self._api.pages(path, here=not within, sort_by="created_at desc", size=MAX_NAMED)
        ) as pages:
            page = await anext(pages)
        there = [one.called for one in (*page.pipelines, *page.pipeline_versions, *page.experiments)]
        more = f" and {page.total_size - len(there)} more" if page.total_size > len(there) else ""
        where = f" in {self._namespace}" if self._namespace else ""
        return UpstreamRejected(
            f"Kubeflow has no {what} {name}{where}; there are: {', '.join(there) or 'none'}{more}",
            endpoint="kubeflow",
            status=404,
        )


def _parameters(specification: Specification) -> frozenset[str] | None:
    while specification.pipeline_spec is not None:
        specification = specification.pipeline_spec
    return frozenset(specification.root.inputs.parameters) if specification.root else None
