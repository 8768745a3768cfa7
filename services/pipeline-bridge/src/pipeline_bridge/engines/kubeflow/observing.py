"""What Kubeflow says of a run, in our words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_bridge.engines import Observation
from pipeline_bridge.engines.kubeflow.wire import NEVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_bridge.engines.kubeflow.wire import Run, RuntimeStatus, Status, Task

MAX_QUOTE = 500
"""Longest quotation of what went wrong, in characters."""

_FINISHED = frozenset({"SUCCEEDED", "SKIPPED"})
_STARTED = frozenset({"RUNNING", "SUCCEEDED", "FAILED"})


def observed(run: Run) -> Observation:
    """Return how far a run is."""
    steps = [task for task in run.run_details.task_details if not _is_added(task)]
    started = _has_started(run, steps)
    match run.state:
        case "SUCCEEDED":
            return Observation("succeeded", _progress(steps))
        case "SKIPPED":
            return Observation("succeeded", "skipped by Kubeflow", started)
        case "FAILED":
            return Observation("failed", _reason(run, steps), started)
        case "CANCELED":
            return Observation("failed", "cancelled in Kubeflow", started)
        case _:
            said = {"CANCELING": "being cancelled", "PAUSED": "paused"}.get(run.state, "")
            return Observation("running" if started else "pending", said or _progress(steps), started)


def _is_added(task: Task) -> bool:
    """Whether a task is none of the pipeline's, but one of those that Kubeflow adds to carry them out."""
    name = task.display_name
    if name in {"root", "executor"} or name.endswith("-driver"):
        return True
    # the workflow itself; whatever is below it is called after it
    return any(child.pod_name.startswith(f"{name}-") for child in task.child_tasks)


def _has_started(run: Run, steps: Sequence[Task]) -> bool:
    return (
        run.state == "RUNNING"
        or any(status.state in _STARTED - {"FAILED"} for status in run.state_history)
        or any(task.state in _STARTED and task.start_time > NEVER for task in steps)
    )


def _progress(steps: Sequence[Task]) -> str:
    if not steps:
        return ""
    done = sum(task.state in _FINISHED for task in steps)
    return f"{done} of {len(steps)} step{'s' if len(steps) > 1 else ''}"


def _reason(run: Run, steps: Sequence[Task]) -> str:
    failed = [task for task in steps if task.state == "FAILED"]
    added = [task for task in run.run_details.task_details if task.state == "FAILED" and _is_added(task)]
    said = next(filter(None, map(_said, (*failed, *added))), "") or _latest(run.error, run.state_history)
    names = ", ".join(task.display_name for task in failed)
    if not said:
        return (
            f"{names} failed; the log in Kubeflow says why" if names else "failed; Kubeflow does not say why"
        )
    said = " ".join(said.split())
    said = said if len(said) <= MAX_QUOTE else f"{said[: MAX_QUOTE - 1].rstrip()}…"
    return f"{names}: {said}" if names else said


def _said(task: Task) -> str:
    return _latest(task.error, task.state_history)


def _latest(error: Status, history: Sequence[RuntimeStatus]) -> str:
    said = [status.error.message for status in reversed(history) if status.error.message]
    return error.message or "".join(said[:1])
