"""`pipeline-bridge`: what comes in, what serves it, what it needs."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING

from handler_base.http import HttpPool
from handler_base.messaging.context import MAX_TIMEOUT
from handler_base.messaging.keyvalue import KeyValue
from handler_base.messaging.streams import Bucket
from handler_base.process import run
from handler_messages import subjects
from pipeline_bridge import __doc__ as description, __version__
from pipeline_bridge.catalogue import load
from pipeline_bridge.config import PipelineBridgeSettings
from pipeline_bridge.engines.registry import Engines
from pipeline_bridge.keeper import Keeper
from pipeline_bridge.places import PlaceKeeper
from pipeline_bridge.replicas import Replicas
from pipeline_bridge.requests import Requests
from pipeline_bridge.runs import Runs
from pipeline_bridge.statuses import Statuses

if TYPE_CHECKING:
    from handler_base.service import Service


def assemble(service: Service, settings: PipelineBridgeSettings) -> None:
    """Declare the handlers of pipeline-bridge."""
    catalogue = load(settings.runs.catalogue, settings.runs.engines)
    http = HttpPool(settings.http)
    engines = Engines(http, settings)
    values = KeyValue(service.connection, Bucket(settings.runs.bucket, settings.runs.kept))
    runs = Runs(values)
    statuses = Statuses(service.connection, service.name)
    keeper = Keeper(
        runs,
        Replicas(values, uuid.uuid4().hex, settings.runs.lease),
        statuses,
        catalogue=catalogue,
        engines=engines,
        places=PlaceKeeper(values, runs),
        settings=settings.runs,
    )
    requests = Requests(catalogue, runs, keeper, statuses)

    # A trigger waits for as long as too many runs are under way.
    service.handle(subjects.PIPELINE_TRIGGER, requests.trigger, failed=requests.refused, timeout=MAX_TIMEOUT)
    service.handle(subjects.PIPELINE_CANCEL, requests.cancel)
    service.handle(subjects.PIPELINE_LIST, requests.pipelines)
    service.handle(subjects.PIPELINE_RUNS_LIST, requests.list_runs)
    service.publishes(subjects.PIPELINE_STATUS)

    service.background(keeper.run)
    service.on_start(values.prepare)
    service.on_start(keeper.prepare)
    service.on_stop(keeper.release)
    service.on_stop(engines.aclose)
    service.on_stop(http.aclose)


def main() -> None:
    """Run the service."""
    sys.exit(
        run(
            "pipeline-bridge",
            __version__,
            PipelineBridgeSettings,
            assemble,
            description=description or "",
        )
    )


if __name__ == "__main__":
    main()
