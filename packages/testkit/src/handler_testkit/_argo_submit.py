"""How Argo makes a workflow of a submit request, and what it finds wrong with one (workflow/util, workflow/validate)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from handler_testkit._argo_workflows import Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
Templates = dict[bool, dict[str, "Mapping[str, str | None]"]]
"""Parameters with their defaults by the name of a template, of cluster templates under True."""

_KINDS = {
    **dict.fromkeys(("WorkflowTemplate", "workflowtemplate", "workflowtemplates", "wftmpl"), False),
    **dict.fromkeys(("ClusterWorkflowTemplate", "clusterworkflowtemplate", "clusterworkflowtemplates"), True),
}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", re.ASCII)


class Refused(Exception):
    """An error by its gRPC code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def submitted(body: Json, templates: Templates) -> Workflow:
    """Return the workflow that a request describes.

    Raises:
        Refused: If Argo would not take it.
    """
    kind, template = body.get("resourceKind", ""), str(body.get("resourceName", ""))
    if kind not in _KINDS:
        raise Refused(3, f"Resource kind '{kind}' is not supported for submitting")
    options: Json = body.get("submitOptions", {})
    workflow = Workflow(
        name=str(options.get("name", "")),
        template=template,
        cluster=_KINDS[kind],
        parameters=_parameters(options.get("parameters", [])),
        labels={"workflows.argoproj.io/workflow-template": template, **_pairs("labels", options)},
        annotations=_pairs("annotations", options),
        service_account=str(options.get("serviceAccount", "")),
    )
    _check_arguments(workflow, templates)
    _check_metadata(workflow)
    return workflow


def _check_arguments(workflow: Workflow, templates: Templates) -> None:
    if len(workflow.name) > 63:
        raise Refused(3, f'workflow name "{workflow.name}" must not be more than 63 characters long')
    known = templates[workflow.cluster].get(workflow.template)
    if known is None:
        plural = "clusterworkflowtemplates" if workflow.cluster else "workflowtemplates"
        raise Refused(5, f'{plural}.argoproj.io "{workflow.template}" not found')
    for name, default in known.items():  # arguments that a template does not have are taken along
        if default is None and name not in workflow.parameters:
            prefix = f"spec.arguments.{name}"
            raise Refused(3, f"{prefix}.value or {prefix}.valueFrom is required")


def _check_metadata(workflow: Workflow) -> None:
    """Check what Kubernetes checks when the workflow is created."""
    invalid = f'Workflow.argoproj.io "{workflow.name}" is invalid'
    if not _NAME.fullmatch(workflow.name):
        raise Refused(3, f"{invalid}: metadata.name: Invalid value")
    for key, value in workflow.labels.items():
        if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise Refused(3, f"{invalid}: metadata.labels: Invalid value: {key}={value}")
    for key in workflow.annotations:
        if not _KEY.fullmatch(key):
            raise Refused(3, f"{invalid}: metadata.annotations: Invalid value: {key}")


def _pairs(what: str, options: Json) -> dict[str, str]:
    """Read labels or annotations as Argo does: no comma and no equals sign within."""
    text = str(options.get(what, ""))
    pairs: dict[str, str] = {}
    for part in text.split(",") if text else []:
        key, *values = part.split("=")
        if len(values) != 1 or not key:
            raise Refused(13, f"expected {what} of the form: NAME1=VALUE2,NAME2=VALUE2. Received: {text}")
        pairs[key] = values[0]
    return pairs


def _parameters(given: list[str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for one in given:
        key, sign, value = one.partition("=")
        if not sign:
            raise Refused(13, f"expected parameter of the form: NAME=VALUE. Received: {one}")
        parameters[key] = value
    return parameters
