"""The pipelines, versions and experiments of the scripted Kubeflow server."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from handler_testkit._kubeflow_runs import stamp
from handler_testkit._kubeflow_specs import spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Json = dict[str, Any]


class Pipelines:
    """What there is to run, and where runs are kept.

    Args:
        namespace: Where all of it is; "" where Kubeflow does not have many users.

    Attributes:
        now: Tells the time.
        pipelines: By id.
        versions: By id.
        experiments: By id.
    """

    def __init__(self, namespace: str) -> None:
        self.pipelines: dict[str, Json] = {}
        self.versions: dict[str, Json] = {}
        self.experiments: dict[str, Json] = {}
        self._namespace: Json = {"namespace": namespace} if namespace else {}
        self.now: Callable[[], float] = time.time
        self._ids = itertools.count(1)

    def add_pipeline(self, name: str, *versions: str, parameters: Mapping[str, str] | None = None) -> str:
        """Add a pipeline and return its id.

        Args:
            name: Its name.
            versions: Names of its versions, oldest first.
            parameters: The types of what it takes, by name, as Kubeflow has them (`NUMBER_INTEGER`); `?` after a type
                for one with a default. None takes anything.
        """
        pipeline_id = f"pipeline-{next(self._ids)}"
        self.pipelines[pipeline_id] = {
            "pipeline_id": pipeline_id,
            "name": name,
            "display_name": name,
            "created_at": stamp(self.now()),
            **self._namespace,
        }
        for index, version in enumerate(versions):
            self.add_version(name, version, parameters=parameters, age=len(versions) - index)
        return pipeline_id

    def add_version(
        self, pipeline: str, name: str, *, parameters: Mapping[str, str] | None = None, age: int = 0
    ) -> str:
        """Add a version to a pipeline, made so many seconds ago, and return its id."""
        parent = next(one for one in self.pipelines.values() if one["name"] == pipeline)
        version_id = f"version-{next(self._ids)}"
        self.versions[version_id] = {
            "pipeline_id": parent["pipeline_id"],
            "pipeline_version_id": version_id,
            "name": name,
            "display_name": name,
            "created_at": stamp(self.now() - age),
        }
        if parameters is not None:
            self.versions[version_id]["pipeline_spec"] = spec(pipeline, parameters)
        return version_id

    def remove_pipeline(self, name: str) -> None:
        """Take a pipeline and its versions away."""
        gone = {key for key, one in self.pipelines.items() if one["name"] == name}
        for key in gone:
            del self.pipelines[key]
        for key in [key for key, one in self.versions.items() if one["pipeline_id"] in gone]:
            del self.versions[key]

    def add_experiment(self, name: str) -> str:
        """Add an experiment and return its id."""
        experiment_id = f"experiment-{next(self._ids)}"
        self.experiments[experiment_id] = {
            "experiment_id": experiment_id,
            "display_name": name,
            "created_at": stamp(self.now()),
            "last_run_created_at": stamp(0),
            "storage_state": "AVAILABLE",
            **self._namespace,
        }
        return experiment_id
