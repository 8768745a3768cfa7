"""What is asked of the service: triggers, cancellations, and what there is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from handler_base import telemetry
from handler_base.errors import InvalidRequest
from handler_base.messaging import wire
from handler_base.messaging.context import TIMEOUT_HEADER, timeout_of
from handler_messages import (
    PipelineInfo,
    PipelineListResponse,
    PipelineParameter,
    PipelineRun,
    PipelineRunListResponse,
)
from pipeline_bridge.runs import RANKS, Run, name_of, now

if TYPE_CHECKING:
    from handler_base.messaging.context import Context
    from handler_messages import CancelRequest, ErrorResponse, PipelineRunListRequest, PipelineTrigger
    from pipeline_bridge.catalogue import Catalogue
    from pipeline_bridge.keeper import Keeper
    from pipeline_bridge.runs import Runs
    from pipeline_bridge.statuses import Statuses

log = logging.getLogger(__name__)

LISTED = 50
"""Runs in a list where none is said."""

LISTED_MAX = 500
"""Most runs in a list."""

ACTIVE = "active"
"""Asked for as a status: every run that has not ended."""


class Requests:
    """Serves the subjects of pipelines.

    Args:
        catalogue: The pipelines.
        runs: The runs of all replicas.
        keeper: Sees runs through.
        statuses: Where statuses go.
    """

    def __init__(self, catalogue: Catalogue, runs: Runs, keeper: Keeper, statuses: Statuses) -> None:
        self._catalogue = catalogue
        self._runs = runs
        self._keeper = keeper
        self._statuses = statuses

    async def trigger(self, context: Context, request: PipelineTrigger) -> None:
        """Put a run on record and begin to see it through; a request that has one is left alone.

        Raises:
            NotFound: If there is no such pipeline.
            InvalidRequest: If its parameters do not fit.
            MessagingError: If the bucket does not answer.
        """
        request_id = context.request_id
        stored = await self._runs.load(request_id)
        if stored is not None and stored.run.pipeline:
            log.info("triggered before", extra={"request_id": request_id})
            return
        pipeline = self._catalogue.find(request.pipeline)
        parameters = pipeline.check(request.parameters)
        patience = pipeline.timeout
        if wire.header(context.headers, TIMEOUT_HEADER) is not None:
            patience = min(patience, timeout_of(context.headers, patience))
        trace: dict[str, str] = {}
        telemetry.inject(trace)
        at = now()
        await self._keeper.begin(
            Run(
                request_id=request_id,
                pipeline=pipeline.name,
                engine=pipeline.engine,
                name=name_of(pipeline.name, request_id),
                parameters=parameters,
                user_id=request.user_id,
                kind=context.kind,
                trace=trace,
                created=at,
                deadline=(context.published or at) + patience,
                status="submitted",
                sequence=await self._statuses.told(request_id) + 1,
                updated=at,
            )
        )

    async def refused(self, context: Context, error: ErrorResponse) -> None:
        """Tell the sender of a trigger that starts nothing why, unless its request has a run from another trigger.

        Raises:
            MessagingError: If it could not be stored.
        """
        stored = await self._runs.load(context.request_id)
        if stored is None or not stored.run.pipeline:
            await self._statuses.refuse(error, context.kind, now())

    async def cancel(self, context: Context, request: CancelRequest) -> None:
        """Cancel a run, wherever it is and whether it is there yet.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        await self._keeper.cancel(context.request_id, request.reason)

    async def pipelines(self, _context: Context, _: CancelRequest) -> PipelineListResponse:
        """Answer which pipelines there are and what they can be told."""
        return PipelineListResponse(
            pipelines=[
                PipelineInfo(
                    name=one.name,
                    engine=one.engine,
                    description=one.description,
                    parameters=[
                        PipelineParameter(
                            name=name,
                            type=parameter.type,
                            description=parameter.description,
                            required=parameter.required,
                            default_value=parameter.default,
                            allowed=parameter.allowed,
                        )
                        for name, parameter in one.parameters.items()
                    ],
                )
                for one in self._catalogue.pipelines.values()
            ]
        )

    async def list_runs(self, _context: Context, request: PipelineRunListRequest) -> PipelineRunListResponse:
        """Answer which runs there are, newest first.

        Raises:
            InvalidRequest: If there is no such status.
            MessagingError: If the bucket does not answer.
        """
        if request.status and request.status not in {ACTIVE, *RANKS}:
            raise InvalidRequest(
                f"there is no status {request.status[:64]!r}; there are: {ACTIVE}, {', '.join(RANKS)}"
            )
        if request.run_request_id:
            stored = await self._runs.load(request.run_request_id)
            every = [] if stored is None else [stored]
        else:
            every = await self._runs.all()
        found = sorted(
            (one.run for one in every if _asked_for(one.run, request)), key=lambda run: -run.created
        )
        limit = min(request.limit if request.limit > 0 else LISTED, LISTED_MAX)
        return PipelineRunListResponse(runs=[_shown(run) for run in found[:limit]], total=len(found))


def _asked_for(run: Run, request: PipelineRunListRequest) -> bool:
    if not run.pipeline or (request.pipeline and run.pipeline != request.pipeline):
        return False
    return not request.status or run.status == request.status or (request.status == ACTIVE and not run.ended)


def _shown(run: Run) -> PipelineRun:
    return PipelineRun(
        request_id=run.request_id,
        pipeline=run.pipeline,
        engine=run.engine,
        run_id=run.run_id,
        status=run.status,
        message=run.message,
        user_id=run.user_id,
        parameters=run.parameters,
        created=run.created,
        updated=run.updated,
    )
