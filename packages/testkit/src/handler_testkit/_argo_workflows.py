"""The workflows behind a scripted Argo Server: what Kubernetes keeps, in order of their changes.

As there, every change has a resource version; a watch goes on after one as long as it is remembered, and a change
is told by whether an object came to fit the watch's selectors, still does, or ceased to
(https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes).
"""

from __future__ import annotations

import asyncio
import bisect
import datetime as dt
import itertools
import re
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Json = dict[str, Any]

ENDED = frozenset({"Succeeded", "Failed", "Error"})
COMPLETED = "workflows.argoproj.io/completed"
PHASE = "workflows.argoproj.io/phase"
FIRST_VERSION = 1000

_REQUIREMENT = re.compile(r"(!?)([\w./-]+)(?:(==|=|!=)([\w.-]*)| (in|notin) \(([\w., -]*)\))?")


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow at one moment.

    Attributes:
        name: Its name.
        template: The template that it was made of.
        cluster: Whether that is a ClusterWorkflowTemplate.
        parameters: Its arguments.
        labels: Its labels.
        annotations: Its annotations.
        service_account: What its pods run as.
        version: Its resource version.
        phase: "", Pending, Running, Succeeded, Failed or Error.
        progress: For instance `1/3`.
        message: What is wrong, or why it waits.
        outputs: Global output parameters.
        started: When the controller first saw it.
        finished: When it ended.
        shutdown: "Stop" or "Terminate" once it was told to.
        created: When it was made.
    """

    name: str
    template: str
    cluster: bool
    parameters: Mapping[str, str]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account: str = ""
    version: int = 0
    phase: str = ""
    progress: str = ""
    message: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict[str, str])
    started: str | None = None
    finished: str | None = None
    shutdown: str = ""
    created: str = ""

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.phase in ENDED

    def object(self, namespace: str) -> Json:
        """Return it as the Argo Server writes it."""
        spec: Json = {
            "arguments": {"parameters": [{"name": k, "value": v} for k, v in self.parameters.items()]},
            "workflowTemplateRef": {"name": self.template} | ({"clusterScope": True} if self.cluster else {}),
        }
        status: Json = {"startedAt": self.started, "finishedAt": self.finished}
        if self.service_account:
            spec["serviceAccountName"] = self.service_account
        if self.shutdown:
            spec["shutdown"] = self.shutdown
        for name in ("phase", "progress", "message"):
            if value := getattr(self, name):
                status[name] = value
        if self.outputs:
            status["outputs"] = {"parameters": [{"name": k, "value": v} for k, v in self.outputs.items()]}
        return {
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "uid": str(uuid.uuid5(uuid.NAMESPACE_URL, self.name)),
                "resourceVersion": str(self.version),
                "generation": 1,
                "creationTimestamp": self.created,
                "labels": dict(self.labels),
                "annotations": dict(self.annotations),
            },
            "spec": spec,
            "status": status,
        }


class Change(NamedTuple):
    """One change of one workflow.

    Attributes:
        version: Its resource version.
        before: None for a new one.
        after: None for one that was deleted.
    """

    version: int
    before: Workflow | None
    after: Workflow | None

    def told(self, fits: Callable[[Workflow], bool]) -> tuple[str, Workflow] | None:
        """Return how a watch for what `fits` is told of it, or None if it is not its business."""
        before = self.before if self.before is not None and fits(self.before) else None
        after = self.after if self.after is not None and fits(self.after) else None
        if after is not None:
            return ("MODIFIED" if before is not None else "ADDED"), after
        if before is not None:
            return "DELETED", replace(before, version=self.version)
        return None


class Workflows:
    """All of them.

    Attributes:
        live: Those that Kubernetes has, by name.
        archived: Those that only the archive has, by name.
        created: How many were ever made, by name: what a test of exactly once looks at.
        version: The newest resource version.
        oldest: Versions before this one are forgotten.
    """

    def __init__(self) -> None:
        self.live: dict[str, Workflow] = {}
        self.archived: dict[str, Workflow] = {}
        self.created: Counter[str] = Counter()
        self.version = self.oldest = FIRST_VERSION
        self._changes: list[Change] = []
        self._ticks = itertools.count()
        self._changed = asyncio.Event()

    def find(self, name: str) -> Workflow | None:
        """Return a workflow, from the archive if need be."""
        return self.live.get(name) or self.archived.get(name)

    def add(self, workflow: Workflow) -> Workflow:
        """Make a workflow and return it as it is kept."""
        self.created[workflow.name] += 1
        return self._change(None, replace(workflow, created=self._now()))

    def change(self, name: str, **fields: object) -> Workflow:
        """Change some fields of a workflow; the labels that follow from them, and its times, are set."""
        before = self.live[name]
        after: Workflow = replace(before, **fields)  # pyright: ignore[reportArgumentType]
        if after.phase and after.started is None:
            after = replace(after, started=self._now())
        if after.phase:
            labels = {**after.labels, PHASE: after.phase}
            if after.ended:
                labels[COMPLETED] = "true"
                after = replace(after, finished=after.finished or self._now())
            after = replace(after, labels=labels)
        return self._change(before, after)

    def remove(self, name: str, *, archive: bool) -> None:
        """Delete a workflow, or leave it to the archive."""
        gone = self.live[name]
        if archive:
            self.archived[name] = gone
        self._change(gone, None)

    def forget(self) -> None:
        """Forget all changes: whoever wants to go on after one must list."""
        self._changes.clear()
        self.version += 1
        self.oldest = self.version

    def since(self, version: int) -> list[Change]:
        """Return the changes after a version."""
        return self._changes[bisect.bisect_right(self._changes, version, key=lambda one: one.version) :]

    async def moved(self) -> None:
        """Wait for the next change, or for `wake`."""
        await self._changed.wait()

    def wake(self) -> None:
        """Let everyone look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _change(self, before: Workflow | None, after: Workflow | None) -> Workflow:
        self.version += 1
        kept = after or before
        if kept is None:
            raise ValueError("a change is one of something")
        if after is not None:
            kept = after = self.live[after.name] = replace(after, version=self.version)
        else:
            del self.live[kept.name]
        self._changes.append(Change(self.version, before, after))
        self.wake()
        return kept

    def _now(self) -> str:
        """Return a time that no clock decides: a second later at each call."""
        at = dt.datetime(2026, 11, 29, tzinfo=dt.UTC) + dt.timedelta(seconds=next(self._ticks))
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def selecting(labels: str, fields: str) -> Callable[[Workflow], bool]:
    """Return whether a workflow fits a label selector and a field selector.

    Raises:
        ValueError: If one cannot be understood.
    """
    wanted = [_requirement(part) for part in re.split(r",(?![^(]*\))", labels) if part]
    name = ""
    if fields:
        key, _, name = fields.partition("=")
        if key != "metadata.name":
            raise ValueError(f"field label not supported: {key}")

    def fits(workflow: Workflow) -> bool:
        return (not name or workflow.name == name) and all(one(workflow.labels) for one in wanted)

    return fits


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    match = _REQUIREMENT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"unable to parse requirement: {text}")
    absent, key, sign, value, word, several = match.groups()
    if word:
        values = {one.strip() for one in several.split(",")}
        return lambda labels: (labels.get(key) in values) is (word == "in")
    if sign:
        return lambda labels: (labels.get(key) == value) is (sign != "!=")
    return lambda labels: (key in labels) is not bool(absent)


def cleaned(value: Any, fields: str, prefix: str = "") -> Any:
    """Return an object with the fields that a caller asked for, as the Argo Server picks them.

    Args:
        value: The object.
        fields: Paths with a comma between, all left out instead where a `-` stands in front.
        prefix: What is struck from the paths first.
    """
    if not fields:
        return value
    exclude = fields.startswith("-")
    paths = {path.removeprefix(prefix) for path in fields.removeprefix("-").split(",")}
    return _picked(value, paths, "", exclude=exclude)


def filled(value: Json) -> Json:
    """Return a workflow with what Go writes for fields that were left out."""
    return {
        "metadata": {"creationTimestamp": None, **value.get("metadata", {})},
        "spec": {"arguments": {}, **value.get("spec", {})},
        "status": {"startedAt": None, "finishedAt": None, **value.get("status", {})},
    }


def _picked(value: Any, paths: set[str], at: str, *, exclude: bool) -> Any:
    if isinstance(value, list):
        return [_picked(one, paths, at, exclude=exclude) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, dict):
        return value
    kept: Json = {}
    for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
        path = f"{at}.{key}" if at else str(key)  # pyright: ignore[reportUnknownArgumentType]
        if path in paths:
            if not exclude:
                kept[str(key)] = inner  # pyright: ignore[reportUnknownArgumentType]
        elif exclude or any(one.startswith(path) for one in paths):
            kept[str(key)] = _picked(inner, paths, path, exclude=exclude)  # pyright: ignore[reportUnknownArgumentType]
    return kept
