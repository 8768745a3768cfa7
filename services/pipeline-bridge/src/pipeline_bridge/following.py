"""One run, from its record to its end: a place, the engine, every change told, a cancellation, a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from handler_base import telemetry
from handler_base.errors import (
    INTERNAL,
    DeadlineExceeded,
    HandlerError,
    NotFound,
    UpstreamUnavailable,
    cause_of,
)
from handler_base.messaging.backoff import Backoff
from handler_base.messaging.cancellation import cancelled
from pipeline_bridge.engines import ENDS
from pipeline_bridge.runs import Taken, now
from pipeline_bridge.telling import patiently

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.errors import Stopped
    from pipeline_bridge.catalogue import Catalogue, Pipeline
    from pipeline_bridge.config import RunSettings
    from pipeline_bridge.engines import Engine, Observation, Order
    from pipeline_bridge.engines.registry import Engines
    from pipeline_bridge.places import PlaceKeeper
    from pipeline_bridge.runs import Run
    from pipeline_bridge.telling import Teller

log = logging.getLogger(__name__)

_SILENT_FAILURES = 1  # that nobody is told of: one call that fails is no news
_OUR_PROBLEM = "internal error; the log of pipeline-bridge has the details under this request id"


class Follower:
    """Sees one run through.

    Args:
        teller: The run, which is ours.
        catalogue: Where its pipeline is.
        engines: Where its engine is.
        places: Limits of its pipeline.
        settings: Patience.
        sure: Waits until nobody can believe that the run is another's.
    """

    def __init__(
        self,
        teller: Teller,
        *,
        catalogue: Catalogue,
        engines: Engines,
        places: PlaceKeeper,
        settings: RunSettings,
        sure: Callable[[], Awaitable[None]],
    ) -> None:
        self._teller = teller
        self._catalogue = catalogue
        self._engines = engines
        self._places = places
        self._settings = settings
        self._backoff = Backoff(settings.retry_delay, settings.retry_delay_max)
        self._sure = sure
        self._halt = asyncio.Event()
        self._stopping: Stopped | None = None
        self._submitting: asyncio.Task[str] | None = None
        self._failures = 0
        self._failing_since = 0.0
        self._latest: Observation | None = None
        self._observed = asyncio.Event()
        self._cancel = teller.run.cancel
        if self._cancel is not None:
            self._halt.set()

    @property
    def run(self) -> Run:
        """The run as it is on record."""
        return self._teller.run

    def cancel(self, reason: str) -> None:
        """Stop the run, since somebody wrote into its record that it is to be cancelled."""
        self._cancel = reason
        self._halt.set()

    async def see_through(self) -> None:
        """Work until the run has ended and everybody was told.

        Raises:
            Taken: If the run is another replica's now.
        """
        try:
            await self._teller.catch_up()
            if not self.run.ended:
                await self._work()
        except Taken:
            raise
        except HandlerError as error:
            await self._teller.tell("error", error.message, error=error.type)
        except Exception as error:  # the top of a run
            log.error("unexpected %s", type(error).__name__, exc_info=error, extra=self._about())
            await self._teller.tell("error", _OUR_PROBLEM, error=INTERNAL)
        finally:
            await self._end_submitting()
            await self._teller.aclose()
        await self._leave()

    async def _work(self) -> None:
        pipeline = self._pipeline()
        engine = self._engines.get(pipeline.engine)
        if not await self._until_told_to_stop(self._advance(pipeline, engine)):
            await self._stop(pipeline, engine)

    # -- forward -----------------------------------------------------------------------------------------------

    async def _advance(self, pipeline: Pipeline, engine: Engine) -> None:
        if not self.run.placed:
            await patiently(lambda: self._places.take(pipeline, self.run.request_id, self._waits))
            await self._teller.note(placed=True)
        if not self.run.accepted:
            await self._submit(pipeline, engine)
        await self._teller.tell("pending")
        await self._follow(pipeline, engine)

    async def _submit(self, pipeline: Pipeline, engine: Engine) -> None:
        order = self.run.order(pipeline)
        while True:
            await self._sure()
            self._submitting = asyncio.ensure_future(self._submitted(engine, order))
            try:
                # Left alone when we are told to stop: half a submission would leave a run that nobody knows of.
                run_id = await asyncio.shield(self._submitting)
            except HandlerError as error:
                await self._trouble(error)
            else:
                break
        self._failures = 0
        await self._teller.tell("pending", accepted=True, run_id=run_id)

    async def _submitted(self, engine: Engine, order: Order) -> str:
        with telemetry.span(
            "pipeline submit",
            attributes={"pipeline.name": order.pipeline.name, "pipeline.engine": engine.name},
            parent=telemetry.extract(self.run.trace),
        ):
            return await engine.submit(order)

    async def _follow(self, pipeline: Pipeline, engine: Engine) -> None:
        while True:
            self._latest = None
            try:
                async with asyncio.TaskGroup() as tasks:
                    watching = tasks.create_task(self._watch(pipeline, engine))
                    telling = tasks.create_task(self._tell_observations())
                    await telling
                    watching.cancel()
            except BaseExceptionGroup as group:
                error = cause_of(group)
                if not isinstance(error, HandlerError):
                    raise error from group
            else:
                return
            await self._trouble(error)

    async def _watch(self, pipeline: Pipeline, engine: Engine) -> None:
        """Keep the newest observation; what lies between two is told all the same, since a run only goes forward."""
        observations = engine.follow(self.run.order(pipeline), self.run.run_id)
        async with contextlib.aclosing(observations):
            async for observation in observations:
                self._failures = 0
                self._latest = observation
                self._observed.set()
                if observation.state in ENDS:
                    return
        raise UpstreamUnavailable(f"{engine.name} told nothing more of the run")

    async def _tell_observations(self) -> None:
        """Tell what is observed until the end, progress not too often."""
        while True:
            await self._observed.wait()
            self._observed.clear()
            observation = self._latest
            if observation is not None and observation.state == self.run.status:
                await self._let_time_pass()
                observation = self._latest
            if observation is not None and await self._tell(observation):
                return

    async def _let_time_pass(self) -> None:
        """Wait until it is time to tell progress again, or something else is to be told."""
        at = self._teller.last + self._settings.progress
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(at):
                while self._latest is not None and self._latest.state == self.run.status:
                    await self._observed.wait()
                    self._observed.clear()

    async def _tell(self, observation: Observation) -> bool:
        """Tell an observation; returns whether it is the end."""
        state, message = observation.state, observation.message
        if state == "failed" and self._stopping is not None:
            # Told to stop before, by us or by whom we took it over from, or ended by itself just then.
            told = f"{self._stopping.message} ({message})" if message else self._stopping.message
            await self._teller.tell("failed", told, error=self._stopping.type)
            return True
        if state in ENDS and observation.started and self.run.status != "running":
            await self._teller.tell("running")
        await self._teller.tell(state, message, error="pipeline_failed" if state == "failed" else "")
        return state in ENDS

    async def _waits(self, reason: str) -> None:
        await self._teller.tell("pending", reason)

    # -- trouble -----------------------------------------------------------------------------------------------

    async def _trouble(self, error: HandlerError, doing: str = "") -> None:
        """Tell that the engine does not do its part, and wait before the next try.

        Raises:
            HandlerError: If it is not worth one.
        """
        loop = asyncio.get_running_loop()
        if not self._failures:
            self._failing_since = loop.time()
        self._failures += 1
        if not error.retryable:
            raise error
        lasted = loop.time() - self._failing_since
        if lasted >= self._settings.patience:
            raise UpstreamUnavailable(f"given up after {lasted:.0f} s: {error.message}")
        if self._failures > _SILENT_FAILURES:
            status = "pending" if self.run.status == "submitted" else self.run.status
            await self._teller.tell(status, f"{doing}{error.message}; trying again")
        await asyncio.sleep(self._backoff.wait(self._failures))

    # -- stopping ----------------------------------------------------------------------------------------------

    async def _until_told_to_stop(self, work: Awaitable[None]) -> bool:
        """Await `work`; False if a cancellation or the deadline came first."""
        working = asyncio.ensure_future(work)
        halted = asyncio.ensure_future(self._halt.wait())
        left = max(0.0, self.run.deadline - now())
        try:
            await asyncio.wait((working, halted), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                return False
            working.result()
        finally:
            await _end(working, halted)
        return True

    async def _stop(self, pipeline: Pipeline, engine: Engine) -> None:
        """Stop the run at its engine, if that may know it, and tell why; a run that ended before is told as it ended."""
        reason = self._reason()
        await self._end_submitting(patient=True)
        self._failures = 0
        if self.run.placed and not await self._stopped(pipeline, engine, reason):
            self._stopping = reason
            await self._follow(pipeline, engine)
            return
        await self._teller.tell("failed", reason.message, error=reason.type)
        if self.run.placed and not self.run.accepted:
            await self._stop_latecomer(pipeline, engine, reason)

    async def _stop_latecomer(self, pipeline: Pipeline, engine: Engine, reason: Stopped) -> None:
        """Look once more for a run whose submission was given up on: it may have come about only afterwards."""
        await asyncio.sleep(self._settings.retry_delay_max)
        try:
            await engine.stop(self.run.order(pipeline), "", reason.message)
        except HandlerError as error:
            log.warning("not looked for once more: %s", error, extra=self._about())

    async def _stopped(self, pipeline: Pipeline, engine: Engine, reason: Stopped) -> bool:
        while True:
            try:
                return await engine.stop(self.run.order(pipeline), self.run.run_id, reason.message)
            except HandlerError as error:
                await self._trouble(error, f"{reason.message}, but ")

    def _reason(self) -> Stopped:
        if self._cancel is not None:
            return cancelled(self._cancel)
        return DeadlineExceeded(f"not done within its {self.run.deadline - self.run.created:.0f} s")

    async def _end_submitting(self, *, patient: bool = False) -> None:
        """See to it that no submission is under way: its end is awaited, or it is cut off where nobody waits."""
        task, self._submitting = self._submitting, None
        if task is None:
            return
        if not patient:
            task.cancel()
        await asyncio.wait((task,))
        if patient and not self.run.accepted and task.exception() is None:
            await self._teller.note(accepted=True, run_id=task.result())

    # -- the rest ----------------------------------------------------------------------------------------------

    def _pipeline(self) -> Pipeline:
        pipeline = self._catalogue.find(self.run.pipeline)
        if pipeline.engine != self.run.engine:
            raise NotFound(
                f"pipeline {pipeline.name} runs on {pipeline.engine} now, and was triggered for {self.run.engine}"
            )
        return pipeline

    async def _leave(self) -> None:
        telemetry.count(
            "pipeline.runs", pipeline=self.run.pipeline, engine=self.run.engine, status=self.run.status
        )
        log.info("%s ended: %s", self.run.pipeline, self.run.status, extra=self._about())
        pipeline = self._catalogue.pipelines.get(self.run.pipeline)
        if pipeline is not None and self.run.placed:
            await patiently(lambda: self._places.give_back(pipeline, self.run.request_id))
        await self._teller.note(closed=True)

    def _about(self) -> dict[str, str]:
        return {"request_id": self.run.request_id, "pipeline": self.run.pipeline}


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
