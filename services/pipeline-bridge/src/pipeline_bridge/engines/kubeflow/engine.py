"""The engine: one run of an order, whatever is lost on the way.

Kubeflow makes the id of a run and takes any number of runs of one name, so a lost answer leaves it open whether there is
a run, and two replicas may make one each. What holds then: the run of an order is one that has succeeded, else the
oldest of its name (of two in one second, the smaller id). Everybody who looks comes to the same, whoever made them and
in whatever order they show; the others are terminated and archived. Archived, not deleted: what was done stays on
record, a person can take it back, and the list of runs in Kubeflow's user interface has one of each all the same. It is
looked at before a run is made, after that, while one is followed, and at its end: a request that nobody waits for any
more may still come through.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from handler_base.errors import UpstreamError, UpstreamRejected, UpstreamUnavailable
from pipeline_bridge.engines import ENDS
from pipeline_bridge.engines.kubeflow.api import Api
from pipeline_bridge.engines.kubeflow.observing import observed
from pipeline_bridge.engines.kubeflow.reference import References
from pipeline_bridge.engines.kubeflow.wire import NEVER, NewRun, RuntimeConfig, VersionReference

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from datetime import datetime

    from handler_base.http import HttpPool
    from pipeline_bridge.catalogue import Parameter
    from pipeline_bridge.config import KubeflowSettings
    from pipeline_bridge.engines import Observation, Order
    from pipeline_bridge.engines.kubeflow.wire import Run

log = logging.getLogger(__name__)

LOOK = 30.0
"""Seconds of polling after which it is looked again whether there is more than one run of an order."""

GROWTH = 1.5
"""How much longer each pause between polls is than the one before, while nothing changes."""


class Kubeflow:
    """Kubeflow Pipelines.

    Args:
        pool: Where its connections come from.
        settings: Where it is.
        sleep: Waits between polls; a test passes its own.
        clock: Tells seconds; a test passes its own.
    """

    name = "kubeflow"

    def __init__(
        self,
        pool: HttpPool,
        settings: KubeflowSettings,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._api = Api(pool, settings)
        self._references = References(self._api, settings.namespace, clock)
        self._sleep = sleep

    def run_id(self, order: Order) -> str:
        """Return "": Kubeflow makes the id."""
        del order
        return ""

    async def submit(self, order: Order) -> str:
        """Start the run unless it was started before; return its id.

        Raises:
            UpstreamRejected: If Kubeflow will not run it.
            UpstreamError: If it cannot be told to, or did not say; there may be a run all the same, which the next call
                finds.
        """
        run = await self._settled(order)
        if run is not None:
            return run.run_id
        new = await self._new(order)
        try:
            made = await self._api.create(new)
        except UpstreamRejected:
            self._references.forget(order.pipeline)
            raise
        except UpstreamError:
            # it answers 500 where an id that we remember is no longer right
            self._references.forget(order.pipeline)
            run = await self._settled(order)
            if run is None:
                raise
            return run.run_id
        return (await self._settled(order) or made).run_id

    async def follow(self, order: Order, run_id: str) -> AsyncGenerator[Observation]:
        """Yield how far the run is, then every change of it; ends after an end.

        Where it turns out that the run of the order is another one than `run_id`, that one is followed.

        Raises:
            UpstreamRejected: If Kubeflow does not know the run any more.
            UpstreamError: If it cannot be asked.
        """
        seen: Observation | None = None
        pause = self._settings.poll
        unlooked = LOOK
        while True:
            if unlooked >= LOOK:
                run_id, unlooked = await self._right(order, run_id), 0.0
            observation = await self._observe(order, run_id)
            if observation.state in ENDS:
                right = await self._right(order, run_id)
                if right != run_id:
                    run_id = right
                    continue
                yield observation
                return
            if observation != seen:
                yield observation
                seen, pause = observation, self._settings.poll
            await self._sleep(pause)
            unlooked += pause
            pause = min(pause * GROWTH, self._settings.poll_max)

    async def stop(self, order: Order, run_id: str, reason: str) -> bool:
        """Stop the run, and every other of its name.

        Returns:
            False if it had ended already; True if it was told to stop, or does not exist.

        Raises:
            UpstreamError: If Kubeflow cannot be told.
        """
        del reason  # there is no place for it in Kubeflow's records
        runs = await self._api.runs(order.name)
        if run_id and all(run.run_id != run_id for run in runs):
            run = await self._api.run(run_id)
            runs += [run] if run else []
        told = [await self._api.terminate(run) for run in runs]
        return any(told) or not runs

    async def aclose(self) -> None:
        """Let go of what is open: nothing, connections are the pool's."""

    async def _settled(self, order: Order) -> Run | None:
        """Return the run of an order, the only one that goes on from here; None if there is none."""
        runs = await self._api.runs(order.name)
        if not runs:
            return None
        run = min(runs, key=_precedence)
        for other in runs:
            if other is not run:
                await self._put_aside(other, run)
        return run

    async def _put_aside(self, other: Run, run: Run) -> None:
        ends = await self._api.terminate(other)
        if other.storage_state != "ARCHIVED":
            await self._api.archive(other)
            what = "terminated and archived" if ends else "archived"
            log.warning("run %s is one too many beside %s; it was %s", other.run_id, run.run_id, what)

    async def _right(self, order: Order, run_id: str) -> str:
        run = await self._settled(order)
        return run_id if run is None else run.run_id

    async def _observe(self, order: Order, run_id: str) -> Observation:
        run = await self._api.run(run_id) if run_id else None
        if run is None:
            raise UpstreamRejected(
                f"Kubeflow does not know run {run_id or order.name} any more", endpoint=self.name, status=404
            )
        if not run.state and run.error.message:
            raise UpstreamUnavailable(
                f"Kubeflow cannot read its run {run_id}: {run.error.message}", endpoint=self.name
            )
        return observed(run)

    async def _new(self, order: Order) -> NewRun:
        pipeline = order.pipeline
        reference = await self._references.find(pipeline)
        parameters = {
            _spelled(name, reference.parameters): _typed(parameter, order.parameters[name])
            for name, parameter in pipeline.parameters.items()
            # no number and no truth is empty, and an empty text is what the pipeline's own default is for
            if order.parameters.get(name)
        }
        return NewRun(
            display_name=order.name,
            description=f"request {order.request_id}",
            pipeline_version_reference=VersionReference(reference.pipeline_id, reference.version_id),
            runtime_config=RuntimeConfig(parameters),
            experiment_id=reference.experiment_id,
            service_account=pipeline.service_account,
        )


def _precedence(run: Run) -> tuple[bool, bool, datetime, str]:
    """Return what puts the run of an order first; last is what Kubeflow itself cannot read."""
    unfinished = run.state not in {"SUCCEEDED", "SKIPPED"}
    return unfinished, run.created_at == NEVER, run.created_at, run.run_id


def _typed(parameter: Parameter, value: str) -> str | int | float | bool:
    """Return a checked value in its own type; Kubeflow takes no text for a number."""
    match parameter.type:
        case "integer":
            return int(value)
        case "number":
            return float(value)
        case "boolean":
            return value == "true"
        case _:
            return value


def _spelled(name: str, known: frozenset[str] | None) -> str:
    """Return a parameter's name as the pipeline has it: as an argument in Python it has no dashes."""
    spelled = name.replace("-", "_")
    return spelled if known is not None and name not in known and spelled in known else name
