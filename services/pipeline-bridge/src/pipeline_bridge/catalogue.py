"""The pipelines that can be triggered: the shipped ones, and what operators say in files of their own.

A catalogue is TOML, one table per pipeline. Later files are laid over earlier ones, key by key, so that a file names
just what it changes.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from handler_base.errors import ConfigError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHIPPED = Path(__file__).with_name("catalogue.toml")
"""The catalogue that comes with the service."""

EngineName = Literal["argo", "kubeflow", "local"]

MAX_VALUE_CHARS = 8192
"""Longest value of a parameter."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RATE = re.compile(r"([1-9][0-9]*) */ *(second|minute|hour|day)")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pipeline can be told.

    Attributes:
        type: What its text must be.
        default: Its value where a trigger says nothing.
        required: Whether a trigger must say it, and not as empty text.
        allowed: The only values it may have; empty for any.
        minimum: Smallest number.
        maximum: Largest number.
        description: One line for people.
    """

    type: Literal["string", "integer", "number", "boolean"] = "string"
    default: str = ""
    required: bool = False
    allowed: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    description: str = ""

    def check(self, value: str) -> str:
        """Return `value` in the form that engines get.

        Raises:
            ValueError: With what is wrong, to be said after the parameter's name.
        """
        if len(value) > MAX_VALUE_CHARS:
            raise ValueError(f"is longer than {MAX_VALUE_CHARS} characters")
        if "\0" in value:
            raise ValueError("has a NUL character")
        if self.type != "string":
            value = value.strip()
        if self.type == "boolean" and value:
            if value.lower() not in _TRUE | _FALSE:
                raise ValueError(f"is {value[:64]!r}, not true or false")
            value = "true" if value.lower() in _TRUE else "false"
        if self.type in {"integer", "number"} and value:
            self._check_number(value)
        if self.allowed and value not in self.allowed:
            raise ValueError(f"is {value[:64]!r}, not one of {', '.join(self.allowed)}")
        return value

    def _check_number(self, value: str) -> None:
        try:
            number = int(value) if self.type == "integer" else float(value)
        except ValueError:
            raise ValueError(f"is {value[:64]!r}, not {_ARTICLE[self.type]}") from None
        if not float("-inf") < number < float("inf"):
            raise ValueError(f"is {value[:64]!r}, not a finite number")
        if self.minimum is not None and number < self.minimum:
            raise ValueError(f"is {value[:64]}, less than {self.minimum:g}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"is {value[:64]}, more than {self.maximum:g}")


_ARTICLE = {"integer": "a whole number", "number": "a number"}


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pipeline.

    Attributes:
        engine: What runs it.
        name: What triggers call it: the name of its table.
        description: One line for people.
        enabled: Whether it can be triggered.
        max_concurrent: Runs at once, over all replicas; 0 for no limit. Further ones wait.
        rate: Runs started per time, for instance `30/hour`; empty for no limit. Further ones wait.
        timeout: Seconds from trigger to end; a run that takes longer is stopped.
        parameters: What it can be told, by name.
        template: Argo: the WorkflowTemplate's name; the pipeline's own when empty.
        cluster_template: Argo: whether that is a ClusterWorkflowTemplate.
        service_account: Argo, Kubeflow: what pods run as; empty for the engine's default.
        pipeline: Kubeflow: the pipeline's name there; the pipeline's own when empty.
        version: Kubeflow: the version's name; the newest when empty.
        experiment: Kubeflow: the experiment's name; the default one when empty.
        command: Local: program and arguments; `{parameter}` stands for its value.
        environment: Local: variables added to the environment.
        directory: Local: the folder to run in; the bridge's own when empty.
        memory_mb: Local: most memory of a process, in MiB; 0 for no limit.
        cpu_seconds: Local: most CPU time of a process, in seconds; 0 for no limit.
    """

    engine: EngineName
    name: str = ""
    description: str = ""
    enabled: bool = True
    max_concurrent: int = 0
    rate: str = ""
    timeout: float = 86400.0
    parameters: dict[str, Parameter] = {}
    template: str = ""
    cluster_template: bool = False
    service_account: str = ""
    pipeline: str = ""
    version: str = ""
    experiment: str = ""
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    directory: str = ""
    memory_mb: int = 0
    cpu_seconds: int = 0

    @property
    def limit(self) -> tuple[int, float] | None:
        """Runs started, and the seconds within which; None for no limit."""
        match = _RATE.fullmatch(self.rate)
        return (int(match[1]), _SECONDS[match[2]]) if match else None

    def check(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the values of all parameters, defaults filled in.

        Raises:
            InvalidRequest: With every problem, and what is allowed.
        """
        problems: list[str] = []
        if unknown := sorted(set(given) - set(self.parameters)):
            known = ", ".join(self.parameters) or "none"
            names = ", ".join(name[:64] for name in unknown[:10])
            problems.append(f"unknown parameters: {names}; there are: {known}")
        values: dict[str, str] = {}
        for name, parameter in self.parameters.items():
            value = given.get(name, "")
            if not value.strip():
                if parameter.required:
                    said = f" ({parameter.description})" if parameter.description else ""
                    problems.append(f"{name} is missing{said}")
                value = value if name in given and not parameter.default else parameter.default
            try:
                values[name] = parameter.check(value) if value else value
            except ValueError as error:
                problems.append(f"{name} {error}")
        if problems:
            raise InvalidRequest(f"pipeline {self.name} cannot be run so: {'; '.join(problems)}")
        return values


class Catalogue:
    """All pipelines, by name.

    Args:
        pipelines: The enabled ones.
        engines: Those that this bridge uses; pipelines of others are known, but cannot be triggered.
    """

    def __init__(self, pipelines: Iterable[Pipeline], engines: Iterable[str]) -> None:
        known = set(engines)
        every = list(pipelines)
        self.pipelines = {one.name: one for one in every if one.engine in known}
        self._elsewhere = {one.name: one for one in every if one.engine not in known}

    def find(self, name: str) -> Pipeline:
        """Return a pipeline.

        Raises:
            InvalidRequest: If none is named.
            NotFound: If there is none of that name; says which there are.
        """
        known = ", ".join(sorted(self.pipelines)) or "none"
        if not name.strip():
            raise InvalidRequest(f"no pipeline is named; there are: {known}")
        if (found := self.pipelines.get(name)) is not None:
            return found
        if (other := self._elsewhere.get(name)) is not None:
            raise NotFound(
                f"pipeline {name} needs the engine {other.engine}, which is not used here "
                f"(PIPELINE_ENGINES); there are: {known}"
            )
        raise NotFound(f"there is no pipeline {name[:64]!r}; there are: {known}")


def load(paths: Iterable[str], engines: Iterable[str]) -> Catalogue:
    """Read the shipped catalogue and those of operators.

    Args:
        paths: Files; of a folder, all its `.toml` files by name.
        engines: Those that this bridge uses.

    Raises:
        ConfigError: With every problem of every file.
    """
    problems: list[str] = []
    tables: dict[str, Any] = tomllib.loads(SHIPPED.read_text())
    for path in paths:
        try:
            for file in _files(Path(path)):
                _lay_over(tables, tomllib.loads(file.read_text()))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(f"PIPELINES_FILE: cannot use {path}: {reason}")
    pipelines: list[Pipeline] = []
    for name, table in tables.items():
        try:
            pipelines.append(_pipeline(name, table))
        except ValueError as error:  # msgspec's is one
            problems.append(f"pipeline {name}: {error}")
    if problems:
        raise ConfigError(problems)
    return Catalogue((one for one in pipelines if one.enabled), engines)


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.toml")) if path.is_dir() else [path]


def _lay_over(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        below: object = under.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            _lay_over(cast("dict[str, Any]", below), cast("dict[str, Any]", value))
        else:
            under[key] = value


def _pipeline(name: str, table: object) -> Pipeline:
    if not isinstance(table, dict):
        raise ValueError("is not a table")  # noqa: TRY004 - one kind of error for what a file may say
    if not _NAME.fullmatch(name):
        raise ValueError("its name may have 63 lower-case letters, digits and dashes")
    found = msgspec.convert({**cast("dict[str, Any]", table), "name": name}, Pipeline)
    _check(found)
    return found


def _check(found: Pipeline) -> None:
    if found.rate and found.limit is None:
        raise ValueError(f"rate {found.rate!r} is not like `30/hour` (second, minute, hour, day)")
    if found.max_concurrent < 0 or found.memory_mb < 0 or found.cpu_seconds < 0:
        raise ValueError("limits are not below 0")
    if found.timeout <= 0:
        raise ValueError("timeout is above 0")
    if found.enabled and found.engine == "local" and not found.command:
        raise ValueError("a local pipeline needs a command")
    if unknown := sorted(placeholders(found.command) - set(found.parameters)):
        raise ValueError(f"its command names parameters that it does not have: {', '.join(unknown)}")
    for parameter_name, parameter in found.parameters.items():
        if parameter.default:
            try:
                parameter.check(parameter.default)
            except ValueError as error:
                raise ValueError(f"the default of {parameter_name} {error}") from None


def placeholders(command: Iterable[str]) -> set[str]:
    """Return the parameters that a command names."""
    return {name for argument in command for name in _PLACEHOLDER.findall(argument)}


def filled(command: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Return a command with the values of its parameters; each argument stays one argument."""
    return [_PLACEHOLDER.sub(lambda match: values[match[1]], argument) for argument in command]
