"""The API's messages, as far as they are read here. It leaves out what is empty, and times are whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""A time that has not come, as the API has it."""


class Status(msgspec.Struct, frozen=True):
    """What went wrong.

    Attributes:
        message: In words.
    """

    message: str = ""


class RuntimeStatus(msgspec.Struct, frozen=True):
    """A state that a run or task was in.

    Attributes:
        state: Its name.
        error: What went wrong in it.
    """

    state: str = ""
    error: Status = Status()


class ChildTask(msgspec.Struct, frozen=True):
    """What a task stands above.

    Attributes:
        pod_name: Its node in the workflow.
    """

    pod_name: str = ""


class Task(msgspec.Struct, frozen=True):
    """A part of a run: a step, or what Kubeflow adds to the steps.

    Attributes:
        display_name: Its name.
        state: As of runs.
        start_time: When it began.
        error: What went wrong.
        state_history: Its states so far.
        child_tasks: What it stands above.
    """

    display_name: str = ""
    state: str = ""
    start_time: datetime = NEVER
    error: Status = Status()
    state_history: tuple[RuntimeStatus, ...] = ()
    child_tasks: tuple[ChildTask, ...] = ()


class RunDetails(msgspec.Struct, frozen=True):
    """What a run is made of.

    Attributes:
        task_details: Its tasks so far.
    """

    task_details: tuple[Task, ...] = ()


class Run(msgspec.Struct, frozen=True):
    """A run.

    Attributes:
        run_id: Its id.
        display_name: Its name; others may have it, too.
        state: PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED, CANCELING, CANCELED or PAUSED; "" for none yet.
        storage_state: AVAILABLE or ARCHIVED.
        created_at: When it was made.
        error: What went wrong; where the state is missing: with reading it.
        state_history: Its states so far.
        run_details: What it is made of.
    """

    run_id: str
    display_name: str = ""
    state: str = ""
    storage_state: str = ""
    created_at: datetime = NEVER
    error: Status = Status()
    state_history: tuple[RuntimeStatus, ...] = ()
    run_details: RunDetails = RunDetails()


class Pipeline(msgspec.Struct, frozen=True):
    """A pipeline.

    Attributes:
        pipeline_id: Its id.
        name: Its name; older servers have the display name only.
        display_name: What people see.
    """

    pipeline_id: str
    name: str = ""
    display_name: str = ""

    @property
    def called(self) -> str:
        """What it is called."""
        return self.name or self.display_name


class Experiment(msgspec.Struct, frozen=True):
    """What runs are grouped by.

    Attributes:
        experiment_id: Its id.
        display_name: Its name.
    """

    experiment_id: str
    display_name: str = ""

    @property
    def called(self) -> str:
        """What it is called."""
        return self.display_name


class InputDefinitions(msgspec.Struct, frozen=True):
    """What a pipeline takes.

    Attributes:
        parameters: Its parameters by name.
    """

    parameters: dict[str, Any] = {}


class Component(msgspec.Struct, frozen=True, rename={"inputs": "inputDefinitions"}):
    """A part of a pipeline's specification.

    Attributes:
        inputs: What it takes.
    """

    inputs: InputDefinitions = InputDefinitions()


class Specification(msgspec.Struct, frozen=True):
    """A pipeline's specification; one that comes with a platform's holds the pipeline's in `pipeline_spec`.

    Attributes:
        root: The pipeline as a whole; None where it is not here.
        pipeline_spec: The specification itself.
    """

    root: Component | None = None
    pipeline_spec: Specification | None = None


class Version(msgspec.Struct, frozen=True):
    """A version of a pipeline.

    Attributes:
        pipeline_version_id: Its id.
        name: Its name; older servers have the display name only.
        display_name: What people see.
        created_at: When it was made; never where Kubeflow cannot read it.
        pipeline_spec: What it does.
    """

    pipeline_version_id: str
    name: str = ""
    display_name: str = ""
    created_at: datetime = NEVER
    pipeline_spec: Specification = Specification()

    @property
    def called(self) -> str:
        """What it is called."""
        return self.name or self.display_name


class Page(msgspec.Struct, frozen=True):
    """A page of a list, whatever it is a list of.

    Attributes:
        runs: Runs on it.
        pipelines: Pipelines on it.
        pipeline_versions: Versions on it.
        experiments: Experiments on it.
        total_size: How many there are on all pages.
        next_page_token: For the next page; "" after the last.
    """

    runs: tuple[Run, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()
    pipeline_versions: tuple[Version, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    total_size: int = 0
    next_page_token: str = ""


class VersionReference(msgspec.Struct, frozen=True):
    """What a run runs.

    Attributes:
        pipeline_id: The pipeline's id.
        pipeline_version_id: The version's id.
    """

    pipeline_id: str
    pipeline_version_id: str


class RuntimeConfig(msgspec.Struct, frozen=True):
    """What a run is told.

    Attributes:
        parameters: Values by name, each of the type that the pipeline wants.
    """

    parameters: dict[str, str | int | float | bool]


class NewRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run to be made.

    Attributes:
        display_name: Its name.
        description: What it is for.
        pipeline_version_reference: What it runs.
        runtime_config: What it is told.
        experiment_id: What it is grouped by; "" for the default one.
        service_account: What its pods run as; "" for the default one.
    """

    display_name: str
    description: str
    pipeline_version_reference: VersionReference
    runtime_config: RuntimeConfig
    experiment_id: str = ""
    service_account: str = ""
