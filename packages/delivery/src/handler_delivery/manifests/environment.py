"""Environment variables against the settings that a service really has, both ways.

The settings are those of the class in `<service>.config` that no other class there is nested in. They are loaded with
the rendered values, as the service itself would at its start.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from handler_base.config import Setting, Settings, load, settings_of
from handler_base.errors import ConfigError
from handler_base.service import ServiceSettings
from handler_delivery.errors import DeliveryError
from handler_delivery.manifests.pods import PROBES, probe_port
from handler_delivery.manifests.render import dig, items

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from handler_delivery.manifests.render import Body, Object, Rendering
    from handler_delivery.workspace import Member

STOPPING = 10
"""Seconds that a service takes at most to end after SHUTDOWN_GRACE (docs/architecture.md)."""

OTEL = {
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    *(f"OTEL_{signal}_EXPORTER" for signal in ("TRACES", "METRICS", "LOGS")),
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{what}"
        for signal in ("", "TRACES_", "METRICS_", "LOGS_")
        for what in ("ENDPOINT", "HEADERS", "TIMEOUT", "COMPRESSION", "PROTOCOL", "CERTIFICATE")
    ),
}
"""The variables of OpenTelemetry that `handler_base.telemetry` and the SDK below it read."""

RUNTIME = {"nats": {"GOMEMLIMIT"}}
"""What a program that is not ours reads beside its configuration file, by the name of its image."""

SERVICE = "/app/__main__.pyc"
"""What the entrypoint of every image of ours starts (images/Dockerfile)."""

_LOCAL = re.compile(r"127\.0\.0\.1|localhost")
_VARIABLE = re.compile(r"(?<![\w\".$])\$([A-Z][A-Z0-9_]*)")
_QUOTED = re.compile(r'"([A-Z][A-Z0-9_]*)"')
_SECRET = "from-a-secret"


@dataclass(frozen=True)
class Environment:
    """What one container of ours is told.

    Attributes:
        values: Its variables; those from a Secret hold a stand-in.
        settings: Its settings, loaded from them; None when they cannot be.
    """

    values: Mapping[str, str]
    settings: Any

    @cached_property
    def addresses(self) -> list[str]:
        """The URLs it is told to call."""
        found = [
            value for name, value in self.values.items() if "://" in value and not name.endswith("_FILE")
        ]
        vectors: Any = getattr(self.settings, "vectors", None)
        if vectors is not None and vectors.kind == "milvus":
            found.append(vectors.milvus_url)
        return found


class Environments:
    """Reads and judges the variables of the containers of one rendering.

    Args:
        rendering: Has the ConfigMaps that they come from.
        services: The services of the workspace by name.
    """

    def __init__(self, rendering: Rendering, services: Mapping[str, Member]) -> None:
        self._rendering = rendering
        self._services = services

    def of(self, container: Body) -> Environment | None:
        """Return what a container is told; None for one whose image is not ours."""
        if image_name(str(container.get("image", ""))) not in self._services:
            return None
        values, _ = self._values(container)
        member = self._member(container)
        if member is None:
            return Environment(values, None)
        cls = settings_class(member.module)
        try:
            return Environment(values, load(cls, _without_files(values, _known(cls))))
        except ConfigError:
            return Environment(values, None)

    def problems(self, item: Object) -> Iterator[str]:
        """Yield what is wrong with the variables of an object's containers."""
        for container in item.containers:
            name = container.get("name")
            member = self._member(container)
            found = self._foreign(item, container) if member is None else self._ours(item, container, member)
            for problem in found:
                yield f"container {name}: {problem}"

    def _member(self, container: Body) -> Member | None:
        """Return the service that a container runs; None for another program, even one in the image of a service."""
        if SERVICE not in container.get("command", [SERVICE]):
            return None
        return self._services.get(image_name(str(container.get("image", ""))))

    # -- our services ------------------------------------------------------------------------------------------

    def _ours(self, item: Object, container: Body, member: Member) -> Iterator[str]:
        values, problems = self._values(container)
        yield from problems
        cls = settings_class(member.module)
        known = _known(cls)
        plain = _without_files(values, known)
        for name, value in values.items():
            if name.removesuffix("_FILE") in plain and name not in plain:
                yield from _file(item, container, name, value)
            elif name not in known and not (name in OTEL and issubclass(cls, ServiceSettings)):
                near = difflib.get_close_matches(name, [*known, *OTEL], 1)
                yield f"{name} is no setting of {member.name}" + (f"; {near[0]} is" if near else "")
        try:
            settings = load(cls, plain)
        except ConfigError as error:
            yield from error.problems
            return
        for setting in settings_of(cls):
            local = isinstance(setting.default, str) and _LOCAL.search(setting.default)
            if local and not any(name in plain for name in setting.names):
                yield f"{setting.names[0]} must be set: its default, {setting.default}, is this machine"
        for name, value in plain.items():
            if _LOCAL.search(value):
                yield f"{name}={value} is the pod itself"
        yield from _fits(item, container, settings)

    def _values(self, container: Body) -> tuple[dict[str, str], list[str]]:
        values: dict[str, str] = {}
        problems: list[str] = []
        for source in items(container, "envFrom"):
            name = dig(source, "configMapRef", "name")
            if name is None:
                problems.append("envFrom takes a ConfigMap only: each variable from a Secret is named in env")
                continue
            prefix = str(source.get("prefix", ""))
            for key, value in self._rendering.config(name).items():
                values[prefix + key] = value
        seen: set[str] = set()
        for variable in items(container, "env"):
            name = str(variable.get("name"))
            if name in seen:
                problems.append(f"{name} is set twice")
            seen.add(name)
            values[name] = self._value(variable)
        return values, problems

    def _value(self, variable: Body) -> str:
        reference = dig(variable, "valueFrom", "configMapKeyRef")
        if reference is not None:
            return self._rendering.config(str(reference.get("name"))).get(str(reference.get("key")), "")
        if dig(variable, "valueFrom", "secretKeyRef") is not None:
            return _SECRET
        return str(variable.get("value", "from-the-pod"))

    # -- programs of others ------------------------------------------------------------------------------------

    def _foreign(self, item: Object, container: Body) -> Iterator[str]:
        """Hold the variables of another program against what is mounted into it.

        A configuration names them as `$NAME`, and needs them all; a Python program names them in quotes, and says
        itself which it needs.
        """
        values, problems = self._values(container)
        yield from problems
        used: set[str] = set()
        quoted: set[str] = set()
        for volume in items(item.pod, "volumes"):
            for file, text in self._rendering.config(str(dig(volume, "configMap", "name"))).items():
                lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
                if file.endswith(".py"):
                    quoted |= set(_QUOTED.findall("\n".join(lines)))
                else:
                    used |= set(_VARIABLE.findall("\n".join(lines)))
        for name in sorted(used - values.keys()):
            yield f"{name} must be set: its configuration names ${name}"
        allowed = used | quoted | RUNTIME.get(image_name(str(container.get("image", ""))), set())
        for name in sorted(values.keys() - allowed):
            yield f"{name} is set, and its configuration does not name it"


def image_name(image: str) -> str:
    """Return the last part of an image's name: `chat-handler` of `git.example.com/ai/chat-handler:0.1.0`."""
    return image.rsplit("/", 1)[-1].split(":", 1)[0].split("@", 1)[0]


def settings_class(module: str) -> type[Settings]:
    """Return the settings of a service: the one class of `<module>.config` that no other there holds.

    Raises:
        DeliveryError: If there is none, or more than one.
    """
    config = importlib.import_module(f"{module}.config")
    classes = [
        cls
        for _, cls in inspect.getmembers(config, inspect.isclass)
        if issubclass(cls, Settings) and cls.__module__ == config.__name__
    ]
    nested: set[type] = {type(default) for cls in classes for default in cls.__struct_defaults__}
    outer = [cls for cls in classes if cls not in nested]
    if len(outer) != 1:
        raise DeliveryError(
            f"{module}.config has {len(outer)} classes of settings that no other holds; expected one"
        )
    return outer[0]


def _known(cls: type[Settings]) -> dict[str, Setting]:
    return {name: setting for setting in settings_of(cls) for name in setting.names}


def _without_files(values: Mapping[str, str], known: Mapping[str, Setting]) -> dict[str, str]:
    """Return the settings among the variables; a secret from a file holds a stand-in under its own name."""
    found = {name: value for name, value in values.items() if name in known}
    for name in values:
        stem = name.removesuffix("_FILE")
        if name not in known and stem in known and known[stem].secret:
            found[stem] = _SECRET
    return found


def _file(item: Object, container: Body, name: str, value: str) -> Iterator[str]:
    """Check that a `<NAME>_FILE` is a key of a Secret that is mounted there."""
    for mount in items(container, "volumeMounts"):
        folder = str(mount.get("mountPath")).rstrip("/") + "/"
        if not value.startswith(folder):
            continue
        for volume in items(item.pod, "volumes"):
            paths = {entry.get("path") for entry in items(volume, "secret", "items")}
            if volume.get("name") == mount.get("name") and value.removeprefix(folder) in paths:
                return
    yield f"{name}={value} is no file of a Secret that is mounted"


def _fits(item: Object, container: Body, settings: Any) -> Iterator[str]:
    """Check that the pod fits its settings: port of the probes, time to end, a place for files."""
    port: int | None = (
        settings.health.port if hasattr(settings, "health") else getattr(settings, "port", None)
    )
    for probe, path in PROBES.items():
        found: object = dig(container, probe, "httpGet", "path")
        if found is not None and found != path:
            yield f"{probe} asks for {found}; it is served at {path}"
        if found is not None and port is not None and probe_port(container, probe) != port:
            yield f"{probe} asks on port {probe_port(container, probe)}; it is served on {port}"
    work: Any = getattr(settings, "work", None)
    grace = item.pod.get("terminationGracePeriodSeconds")
    if work is not None and grace is not None and grace < work.grace + STOPPING:
        yield (
            f"terminationGracePeriodSeconds is {grace}: it must be at least SHUTDOWN_GRACE ({work.grace:g}) and "
            f"{STOPPING} more"
        )
    vectors: Any = getattr(settings, "vectors", None)
    if vectors is not None and vectors.kind == "sqlite":
        writable = [m for m in items(container, "volumeMounts") if not m.get("readOnly")]
        folders = [str(mount.get("mountPath")).rstrip("/") + "/" for mount in writable]
        if not any(vectors.sqlite_path.startswith(folder) for folder in folders):
            yield f"SQLITE_PATH={vectors.sqlite_path} is on no volume that may be written"
