"""From the folders of deploy/ to objects: what kustomize makes of each overlay and each Flux folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import yaml

from handler_delivery.errors import DeliveryError
from handler_delivery.process import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Body = dict[str, Any]
"""What YAML holds; the schemas say of which form."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_PARTS = {"source", "images"}
"""Folders below flux/ that are parts of its others."""

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}

WORKFLOW = "WorkflowTemplate"
"""The kind of Argo's pipelines."""

_OF_WORKFLOW_PODS = (
    "serviceAccountName",
    "automountServiceAccountToken",
    "securityContext",
    "volumes",
    "hostNetwork",
)
"""Fields of a WorkflowTemplate's `spec` that are those of its pods."""


def dig(body: Any, *path: str) -> Any:
    """Return what is at the end of a path of keys; None where it breaks off."""
    for name in path:
        if not isinstance(body, dict):
            return None
        body = cast("Body", body).get(name)
    return body


def items(body: Any, *path: str) -> list[Body]:
    """Return the list of objects at the end of a path; empty where there is none."""
    found = dig(body, *path)
    return cast("list[Body]", found) if isinstance(found, list) else []


def _workflow_pods(spec: Body) -> Body:
    """Return one template for the pods of all steps of a WorkflowTemplate: each step is a container named as the step."""
    pod = {name: spec[name] for name in _OF_WORKFLOW_PODS if name in spec}
    pod["containers"] = [
        {**container, "name": step.get("name")}
        for step in items(spec, "templates")
        for kind in ("container", "script")
        if (container := dig(step, kind)) is not None
    ]
    patch: object = yaml.load(str(spec.get("podSpecPatch", "")), Loader=_LOADER)
    if isinstance(patch, dict):
        pod |= cast("Body", patch)
    return {"metadata": spec.get("podMetadata") or {}, "spec": pod}


@dataclass(frozen=True)
class Object:
    """One rendered object."""

    body: Body

    @property
    def api(self) -> str:
        """Its `apiVersion`."""
        return str(self.body.get("apiVersion", ""))

    @property
    def kind(self) -> str:
        """Its `kind`."""
        return str(self.body.get("kind", ""))

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.at("metadata", "name") or "")

    @property
    def namespace(self) -> str:
        """Its namespace, "" for none."""
        return str(self.at("metadata", "namespace") or "")

    @property
    def title(self) -> str:
        """What people call it: `Deployment chat-handler`."""
        return f"{self.kind} {self.name}"

    def at(self, *path: str) -> Any:
        """Return what is at the end of a path of keys."""
        return dig(self.body, *path)

    @property
    def template(self) -> Body | None:
        """The template of its pods; None for an object without pods."""
        if self.kind == WORKFLOW:
            return _workflow_pods(self.at("spec") or {})
        path = _TEMPLATES.get(self.kind)
        return None if path is None else self.at(*path)

    @property
    def pod(self) -> Body:
        """The `spec` of its pods."""
        return dig(self.template, "spec") or {}

    @property
    def pod_labels(self) -> dict[str, str]:
        """The labels of its pods."""
        return dig(self.template, "metadata", "labels") or {}

    @property
    def containers(self) -> list[Body]:
        """The containers of its pods, those that run first included."""
        return [*items(self.pod, "initContainers"), *items(self.pod, "containers")]


@dataclass(frozen=True)
class Rendering:
    """What one folder renders to.

    Attributes:
        name: The folder, from deploy/ on.
        objects: The objects, in kustomize's order.
        text: All of it as YAML.
    """

    name: str
    objects: Sequence[Object]
    text: str

    def of_kind(self, *kinds: str) -> Iterator[Object]:
        """Yield the objects of some kinds."""
        return (item for item in self.objects if item.kind in kinds)

    def find(self, kind: str, name: str) -> Object | None:
        """Return one object, None if there is none."""
        return next((item for item in self.of_kind(kind) if item.name == name), None)

    def config(self, name: str) -> dict[str, str]:
        """Return the data of a ConfigMap; empty if there is none."""
        item = self.find("ConfigMap", name)
        return {} if item is None else item.at("data") or {}

    @property
    def with_pods(self) -> Iterator[Object]:
        """Yield the objects that make pods."""
        return (item for item in self.objects if item.template is not None)


def roots(deploy: Path) -> list[Path]:
    """Return the folders that are applied by themselves: overlays, what Flux is told, and each of its channels."""
    found = [
        *deploy.glob("overlays/*/kustomization.yaml"),
        *deploy.glob("flux/*/kustomization.yaml"),
        *deploy.glob("flux/channels/*/kustomization.yaml"),
    ]
    return sorted(file.parent for file in found if file.parent.name not in _PARTS)


def render(tool: Path, folder: Path) -> Rendering:
    """Render one folder.

    Raises:
        DeliveryError: If kustomize refuses it; the message holds what it said.
    """
    text = output(str(tool), "kustomize", str(folder))
    try:
        documents = [item for item in yaml.load_all(text, Loader=_LOADER) if item]
    except yaml.YAMLError as error:
        raise DeliveryError(f"{folder} does not render to YAML: {error}") from error
    name = "/".join(folder.parts[-(3 if folder.parent.name == "channels" else 2) :])
    return Rendering(name, tuple(map(Object, documents)), text)
