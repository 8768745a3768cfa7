"""Argo Workflows, through the Argo Server.

A run is a workflow of a WorkflowTemplate, under a name made of the request: submitting it again meets the first one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_base.errors import UpstreamError
from pipeline_bridge.engines import ENDS
from pipeline_bridge.engines._argo_api import OURS, ArgoApi, Submission, SubmitOptions
from pipeline_bridge.engines._argo_phases import observed
from pipeline_bridge.engines.argo_watch import Following

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from handler_base.http import HttpPool
    from pipeline_bridge.config import ArgoSettings
    from pipeline_bridge.engines import Observation, Order

PIPELINE_LABEL = "pipeline-bridge/pipeline"
REQUEST_ANNOTATION = "pipeline-bridge/request-id"
MAX_REQUEST_ID = 256
"""Longest request id that is written on a workflow."""


class Argo:
    """The engine `argo`.

    Args:
        pool: Where its connections come from.
        settings: Where the Argo Server is.
    """

    name = "argo"

    def __init__(self, pool: HttpPool, settings: ArgoSettings) -> None:
        self._api = ArgoApi(pool, settings)
        self._following = Following(self._api, settings)

    def run_id(self, order: Order) -> str:
        """Return the workflow's name, which is known before it exists."""
        return order.name

    async def submit(self, order: Order) -> str:
        """Submit the workflow unless it was submitted before.

        One that ended long ago may be in the archive alone, where its name is free again: so we look first.

        Raises:
            UpstreamRejected: If the Argo Server will not run it.
        """
        if await self._api.get(order.name) is None:
            await self._api.submit(_submission(order))
        return order.name

    def follow(self, order: Order, run_id: str) -> AsyncGenerator[Observation]:
        """Yield how far a run is, then every change of it; ends after an end.

        Raises:
            UpstreamRejected: If the Argo Server does not know the workflow (any more).
        """
        return self._following.follow(run_id or order.name)

    async def stop(self, order: Order, run_id: str, reason: str) -> bool:
        """Tell a workflow to stop: its exit handlers still run.

        Returns:
            False if it had ended already.
        """
        name = run_id or order.name
        try:
            await self._api.stop(name, reason)
        except UpstreamError as error:
            if error.status not in {400, 404, 500}:
                raise
            found = await self._api.get(name)
            if found is not None and observed(found).state in ENDS:
                return False
            if found is not None or not self._api.missing(error, name):
                raise
        return True

    async def aclose(self) -> None:
        """End the watch; workflows go on."""
        await self._following.aclose()


def _submission(order: Order) -> Submission:
    pipeline = order.pipeline
    # Argo splits labels and annotations at commas and equals signs and knows no escape.
    writable = order.request_id.isprintable() and not set(order.request_id) & set(",=")
    annotate = writable and 0 < len(order.request_id) <= MAX_REQUEST_ID
    return Submission(
        resource_kind="ClusterWorkflowTemplate" if pipeline.cluster_template else "WorkflowTemplate",
        resource_name=pipeline.template or pipeline.name,
        submit_options=SubmitOptions(
            name=order.name,
            parameters=[f"{name}={value}" for name, value in order.parameters.items()],
            labels=f"{OURS},{PIPELINE_LABEL}={pipeline.name}",
            annotations=f"{REQUEST_ANNOTATION}={order.request_id}" if annotate else "",
            service_account=pipeline.service_account,
        ),
    )
