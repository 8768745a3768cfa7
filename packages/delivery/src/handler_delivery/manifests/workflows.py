"""Argo's WorkflowTemplates: what `{{…}}` stands for is there, what can be told is used, and nothing told is run.

Source: https://argo-workflows.readthedocs.io/en/latest/variables/.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from handler_delivery.manifests.render import WORKFLOW, dig, items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_delivery.manifests.render import Body, Object, Rendering

_REFERENCE = re.compile(r"\{\{(.*?)\}\}")
_KNOWN = {"workflow.name", "workflow.namespace", "workflow.uid", "pod.name", "retries"}
_PROGRAM = (("container", "command"), ("script", "command"), ("script", "source"))


def problems(rendering: Rendering) -> Iterator[str]:
    """Yield what is wrong within each WorkflowTemplate."""
    for item in rendering.of_kind(WORKFLOW):
        for problem in _template(item):
            yield f"{item.title}: {problem}"


def _template(item: Object) -> Iterator[str]:
    arguments = _parameters(item.body, "spec", "arguments")
    steps = items(item.body, "spec", "templates")
    entry = next((step for step in steps if step.get("name") == item.at("spec", "entrypoint")), None)
    if entry is None:
        yield f"there is no template {item.at('spec', 'entrypoint')} to begin with"
        return
    inputs = _parameters(entry, "inputs")
    for name in inputs.keys() - arguments.keys():
        if "value" not in inputs[name]:
            yield f"{entry['name']} needs {name}, which is none of the arguments"
    for step in steps:
        for problem in _step(step, arguments):
            yield f"{step['name']}: {problem}"
    anywhere = set[str]().union(*map(_references, steps))
    for name in arguments.keys() - inputs.keys():
        if f"workflow.parameters.{name}" not in anywhere:
            yield f"the argument {name} is never used"


def _step(step: Body, arguments: dict[str, Body]) -> Iterator[str]:
    inputs = {f"inputs.parameters.{name}": name for name in _parameters(step, "inputs")}
    references = _references(step)
    for reference in sorted(references - inputs.keys() - _KNOWN):
        if reference not in {f"workflow.parameters.{name}" for name in arguments}:
            yield f"{{{{{reference}}}}} stands for nothing"
    for name in inputs.keys() - references:
        yield f"{inputs[name]} is never used"
    for path in _PROGRAM:
        if _references(dig(step, *path)):
            yield f"{'.'.join(path)} holds {{{{…}}}}: what a run is told would be run"


def _references(part: Any) -> set[str]:
    return set(_REFERENCE.findall(json.dumps(part)))


def _parameters(body: Body, *path: str) -> dict[str, Body]:
    return {str(one.get("name")): one for one in items(body, *path, "parameters")}
