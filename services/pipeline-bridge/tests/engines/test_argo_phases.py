"""What a workflow's status says, in our words."""

from __future__ import annotations

import msgspec
import pytest

from pipeline_bridge.engines import Observation
from pipeline_bridge.engines._argo_api import Workflow
from pipeline_bridge.engines._argo_phases import observed

AT = "2026-11-29T00:00:00Z"


def workflow(status: object) -> Workflow:
    return msgspec.convert({"metadata": {"name": "run-1"}, "status": status}, Workflow)


@pytest.mark.parametrize(
    ("status", "observation"),
    [
        (None, Observation("pending", started=False)),
        ({}, Observation("pending", started=False)),
        ({"phase": None, "startedAt": None, "message": None}, Observation("pending", started=False)),
        ({"phase": "Pending", "message": "waiting"}, Observation("pending", "waiting", started=False)),
        ({"phase": "Pending", "startedAt": AT}, Observation("pending")),
        ({"phase": "Running", "progress": "2/5"}, Observation("running", "2 of 5 steps")),
        ({"phase": "Running", "progress": "0/0"}, Observation("running")),
        ({"phase": "Running", "progress": "many"}, Observation("running")),
        (
            {"phase": "Running", "progress": "2/5", "message": "waiting for a lock"},
            Observation("running", "2 of 5 steps; waiting for a lock"),
        ),
        ({"phase": "Succeeded"}, Observation("succeeded")),
        ({"phase": "Succeeded", "message": "all well"}, Observation("succeeded", "all well")),
        (
            {
                "phase": "Succeeded",
                "outputs": {
                    "parameters": [{"name": "score", "value": "0.83"}, {"name": "why", "value": "a\n b"}]
                },
            },
            Observation("succeeded", "score=0.83, why=a b"),
        ),
        ({"phase": "Succeeded", "outputs": {"parameters": None}}, Observation("succeeded")),
        ({"phase": "Failed", "startedAt": AT, "message": "exit 1"}, Observation("failed", "exit 1")),
        (
            {"phase": "Failed"},
            Observation("failed", "the workflow failed; Argo does not say why", started=False),
        ),
        (
            {"phase": "Error", "message": "no such image"},
            Observation("failed", "error: no such image", started=False),
        ),
        ({"phase": "Error", "startedAt": AT}, Observation("failed", "error: Argo does not say which")),
        ({"phase": "Running", "nodes": {"a": {}}, "whatever": 1}, Observation("running")),
    ],
)
def test_a_status_in_our_words(status: object, observation: Observation) -> None:
    assert observed(workflow(status)) == observation


def test_an_unknown_phase_leaves_what_was_known() -> None:
    before = Observation("running", "1 of 2 steps")
    assert observed(workflow({"phase": "Dreaming"}), before) is before
    assert observed(workflow({"phase": "Dreaming"})) == Observation("pending", started=False)


def test_outputs_are_shortened() -> None:
    parameters = [{"name": f"p{number}", "value": "x" * 500} for number in range(12)]
    said = observed(workflow({"phase": "Succeeded", "outputs": {"parameters": parameters}})).message
    assert said.count("=") == 10
    assert said.endswith("x…, …")
    assert len(said) < 1100
