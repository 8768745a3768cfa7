"""How far a workflow is, in our words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline_bridge.engines import Observation

if TYPE_CHECKING:
    from pipeline_bridge.engines import State
    from pipeline_bridge.engines._argo_api import Status, Workflow

MAX_OUTPUTS = 10
"""Most outputs that a message names."""

MAX_OUTPUT_CHARS = 100
"""Longest value of an output in a message."""

_STATES: dict[str, State] = {
    "": "pending",
    "Pending": "pending",
    "Running": "running",
    "Succeeded": "succeeded",
    "Failed": "failed",
    "Error": "failed",
}
_PROGRESS = re.compile(r"([0-9]+)/([1-9][0-9]*)")


def observed(workflow: Workflow, before: Observation | None = None) -> Observation:
    """Return what a workflow's status says.

    Args:
        workflow: The workflow.
        before: What it said before, which stands where a phase is of a kind that we do not know.
    """
    status = workflow.status
    if status is None:
        return Observation("pending", started=False)
    state = _STATES.get(status.phase or "")
    if state is None:
        return before or Observation("pending", started=bool(status.started_at))
    started = bool(status.started_at) or state in {"running", "succeeded"}
    return Observation(state, _message(status), started=started)


def _message(status: Status) -> str:
    said = status.message or ""
    match status.phase:
        case "Running":
            progress = _PROGRESS.fullmatch(status.progress or "")
            steps = f"{progress[1]} of {progress[2]} steps" if progress else ""
            return "; ".join(filter(None, (steps, said)))
        case "Succeeded":
            return _outputs(status) or said
        case "Error":
            return f"error: {said or 'Argo does not say which'}"
        case "Failed":
            return said or "the workflow failed; Argo does not say why"
        case _:
            return said


def _outputs(status: Status) -> str:
    parameters = (status.outputs.parameters if status.outputs else None) or []
    named = [f"{one.name}={_short(one.value or '')}" for one in parameters[:MAX_OUTPUTS]]
    return ", ".join([*named, *(["…"] if len(parameters) > MAX_OUTPUTS else [])])


def _short(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= MAX_OUTPUT_CHARS else f"{text[: MAX_OUTPUT_CHARS - 1]}…"
