"""The pipelines that can be triggered: the shipped ones, and what operators say in files of their own.

A catalogue is TOML, one table per pipeline. Later files are laid over earlier ones, key by key, so that a file names
just what it changes.
"""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from handler_base.errors import ConfigError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SHIPPED = Path(__file__).with_name("catalogue.toml")
"""The catalogue that comes with the service."""

EngineName = Literal["argo", "kubeflow", "local"]

MAX_VALUE_CHARS = 8192
"""Longest value of a parameter."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RATE = re.compile(r"([1-9][0-9]*) */ *(second|minute|hour|day)")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
# int() and float() take more than engines do: underscores, and the digits of other scripts.
_INTEGER = re.compile(r"[+-]?[0-9]{1,100}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
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
            value = self._number(value)
        if self.allowed and value not in self.allowed:
            raise ValueError(f"is {value[:64]!r}, not one of {', '.join(self.allowed)}")
        return value

    def problems(self) -> list[str]:
        """Return what is wrong with what a catalogue says here."""
        found: list[str] = []
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if bounds and self.type not in {"integer", "number"}:
            found.append(f"has a minimum or maximum, but is a {self.type}")
        elif not all(math.isfinite(bound) for bound in bounds) or bounds != sorted(bounds):
            found.append("has a minimum above its maximum, or one that is no number")
        if self.required and self.default:
            found.append("is required, so that its default is never used: say `required = false`")
        for value in self.allowed:
            try:
                self.check(value)
            except ValueError as error:
                found.append(f"allows what {error}")
        if self.default:
            try:
                self.check(self.default)
            except ValueError as error:
                found.append(f"has a default that {error}")
        return found

    def _number(self, value: str) -> str:
        whole = self.type == "integer"
        if not (_INTEGER if whole else _NUMBER).fullmatch(value):
            raise ValueError(f"is {value[:64]!r}, not {'a whole number' if whole else 'a number'}")
        number = int(value) if whole else float(value)
        if not float("-inf") < number < float("inf"):
            raise ValueError(f"is {value[:64]!r}, not a finite number")
        if self.minimum is not None and number < self.minimum:
            raise ValueError(f"is {value[:64]}, less than {self.minimum:.15g}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"is {value[:64]}, more than {self.maximum:.15g}")
        return str(number) if whole else value.removeprefix("+")


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
        command: Local: program and arguments, without a shell; `{parameter}` stands for its value within an argument, `{{` and
            `}}` for braces. The program `python` is the bridge's own interpreter.
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

    def problems(self) -> list[str]:
        """Return what is wrong with what a catalogue says here."""
        found: list[str] = []
        if self.rate and self.limit is None:
            found.append(f"rate {self.rate!r} is not like `30/hour` (second, minute, hour, day)")
        found += [
            f"{name} is below 0"
            for name in ("max_concurrent", "memory_mb", "cpu_seconds")
            if getattr(self, name) < 0
        ]
        if not 0 < self.timeout < math.inf:
            found.append("timeout is not a number of seconds above 0")
        found += self._command_problems()
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                found.append(f"its environment cannot have {name!r}")
        for name, parameter in self.parameters.items():
            if not _PARAMETER_NAME.fullmatch(name):
                found.append(f"parameter {name!r} may have letters, digits, dashes and underscores")
            found += [f"parameter {name} {problem}" for problem in parameter.problems()]
        return found

    def _command_problems(self) -> Iterator[str]:
        if self.enabled and self.engine == "local" and not self.command:
            yield "a local pipeline needs a command"
        if self.command and (not self.command[0].strip() or placeholders(self.command[:1])):
            yield "its command begins with a program, which is no parameter"
        if any("\0" in argument for argument in self.command):
            yield "its command has a NUL character"
        if unknown := sorted(placeholders(self.command) - set(self.parameters)):
            yield (
                f"its command names parameters that it does not have: {', '.join(unknown)}"
                " (braces that are meant so are doubled)"
            )

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
    tables: dict[str, Any] = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    for path in paths:
        try:
            for file in _files(Path(path)):
                _lay_over(tables, tomllib.loads(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(f"PIPELINES_FILE: cannot use {path}: {reason}")
    pipelines: list[Pipeline] = []
    for name, table in tables.items():
        wrong = list(_shape_problems(name, table))
        if not wrong:
            pipelines.append(msgspec.convert({**table, "name": name}, Pipeline))
            wrong = pipelines[-1].problems()
        problems += [f"pipeline {name}: {problem}" for problem in wrong]
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


def _shape_problems(name: str, table: object) -> Iterator[str]:
    """Yield what does not fit into a `Pipeline`."""
    if not _NAME.fullmatch(name):
        yield "its name may have 63 lower-case letters, digits and dashes"
    if not isinstance(table, dict):
        yield "is not a table"
        return
    fields = cast("dict[str, Any]", table)
    if "name" in fields:
        yield "its name is that of its table"
    if "engine" not in fields:
        yield "has no engine"
    parameters = fields.get("parameters")
    if isinstance(parameters, dict):
        fields = {key: value for key, value in fields.items() if key != "parameters"}
        for parameter, its in cast("dict[str, object]", parameters).items():
            yield from (f"parameter {parameter}: {problem}" for problem in _misfits(its, Parameter, {}))
    yield from _misfits(fields, Pipeline, {"engine": "argo"})


def _misfits(fields: object, struct: type[msgspec.Struct], required: dict[str, str]) -> Iterator[str]:
    """Yield why fields do not fit: one after the other, since a conversion ends at the first that does not."""
    each = cast("dict[str, Any]", fields).items() if isinstance(fields, dict) else ()
    for some in [required | {key: value} for key, value in each] or [fields]:
        try:
            msgspec.convert(some, struct)
        except msgspec.ValidationError as error:
            yield str(error)


def placeholders(command: Iterable[str]) -> set[str]:
    """Return the parameters that a command names."""
    return {
        match[1] for argument in command for match in _PLACEHOLDER.finditer(argument) if match[1] is not None
    }


def filled(command: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Return a command with the values of its parameters; each argument stays one argument."""

    def value(match: re.Match[str]) -> str:
        return match[0][0] if match[1] is None else values[match[1]]

    return [_PLACEHOLDER.sub(value, argument) for argument in command]
