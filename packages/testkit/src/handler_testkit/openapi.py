"""Requests and replies held against a Swagger 2.0 description, so that a scripted server cannot be lenient by accident.

    contract = described("argo-workflows")            # None where the descriptions are not at hand
    contract.request("GET", "/api/v1/workflows/argo?listOptions.limit=5")
    contract.reply("GET", "/api/v1/workflows/argo", 200, body)
    contract.streamed("GET", "/api/v1/workflow-events/argo", line)

Each returns what is wrong, one sentence per problem. It is stricter than Swagger: a property that a described object
does not have is a problem, as is null, which Swagger 2.0 has no word for, save where the caller says otherwise.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft4Validator, FormatChecker
from jsonschema.exceptions import best_match  # pyright: ignore[reportUnknownVariableType]

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jsonschema import ValidationError

Json = dict[str, Any]

FOLDER = Path(__file__).parents[4].parent / "shared" / "contracts"
"""Where the descriptions are: beside the repository, never in it."""

MAX_QUOTE = 300
"""Longest quotation of what is wrong, in characters."""

_FLOATING = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")


class _Operation(NamedTuple):
    method: str
    template: str
    path: re.Pattern[str]
    detail: Json

    def parameters(self, where: str) -> dict[str, Json]:
        found: list[Json] = self.detail.get("parameters", [])
        return {one["name"]: one for one in found if one["in"] == where}


class Contract:
    """One API.

    Args:
        document: Its Swagger 2.0 description.
        nullable: Definitions that may be null all the same, as `Name`, and properties, as `Name.property`: what
            the real server is known to send.
    """

    def __init__(self, document: Json, nullable: Iterable[str] = ()) -> None:
        base = str(document.get("basePath", "")).rstrip("/")
        self._operations = [
            _Operation(method.upper(), template, _pattern(base + template), detail)
            for template, methods in document["paths"].items()
            for method, detail in methods.items()
        ]
        self._operations.sort(key=lambda one: -len(re.sub(r"\{[^}]*\}", "", one.template)))
        may_be_null = set(nullable)
        definitions: dict[str, Json] = document.get("definitions", {})
        self._root = Draft4Validator(
            {"definitions": {name: _definition(name, one, may_be_null) for name, one in definitions.items()}},
            format_checker=_FORMATS,
        )
        self._validators: dict[str, Draft4Validator] = {}

    def request(self, method: str, target: str, body: bytes = b"") -> list[str]:
        """Return what is wrong with a request.

        Args:
            method: For instance `POST`.
            target: Path and query as they were sent.
            body: The whole body.
        """
        found = self._find(method, target)
        if isinstance(found, str):
            return [found]
        said = f"{method} {found.template}"
        return [
            f"{said}: {problem}"
            for problem in (*_query(found, urlsplit(target).query), *self._body(found, body))
        ]

    def reply(self, method: str, target: str, status: int, body: bytes) -> list[str]:
        """Return what is wrong with a whole reply."""
        found = self._find(method, target)
        if isinstance(found, str):
            return [found]
        said = f"{method} {found.template}, reply {status}"
        responses: dict[str, Json] = found.detail["responses"]
        response = responses.get(str(status))
        if response is None and not 200 <= status < 300:  # `default` stands for errors
            response = responses.get("default")
        if response is None:
            return [f"{said}: there is no such status; there are: {', '.join(responses)}"]
        schema: Json | None = response.get("schema")
        return [f"{said}: {problem}" for problem in self._json(schema, body)] if schema else []

    def streamed(self, method: str, target: str, line: bytes) -> list[str]:
        """Return what is wrong with one line of a stream, which holds a `result` or an `error`."""
        problems = self.reply(method, target, 200, line)
        if problems:
            return problems
        value = json.loads(line)
        if not isinstance(value, dict) or len({"result", "error"} & set(cast("Json", value))) != 1:
            return [f"{method} {urlsplit(target).path}, a line: it has not one of result and error"]
        return []

    def _find(self, method: str, target: str) -> _Operation | str:
        path = urlsplit(target).path
        others: list[str] = []
        for one in self._operations:
            if one.path.fullmatch(path):
                if one.method == method:
                    return one
                others.append(one.method)
        if others:
            return f"{method} {path}: there is only {', '.join(others)}"
        return f"{method} {path}: there is no such path"

    def _body(self, operation: _Operation, body: bytes) -> list[str]:
        if operation.parameters("formData"):
            return []  # files are not described any closer
        declared = next(iter(operation.parameters("body").values()), None)
        if declared is None:
            return ["it takes no body"] if body else []
        if not body:
            return ["its body is missing"] if declared.get("required") else []
        return self._json(declared["schema"], body)

    def _json(self, schema: Json, body: bytes) -> list[str]:
        try:
            value = json.loads(body)
        except ValueError as error:
            return [f"its body is not JSON: {error}"]
        key = json.dumps(schema, sort_keys=True)
        validator = self._validators.get(key)
        if validator is None:
            evolved = cast("Any", self._root).evolve(schema=_strict(schema))
            validator = self._validators[key] = cast("Draft4Validator", evolved)
        return [_said(error) for error in validator.iter_errors(value)]  # pyright: ignore[reportUnknownMemberType]


def described(name: str, nullable: Iterable[str] = ()) -> Contract | None:
    """Return the API described in `<name>.swagger.json`, or None where that file is not at hand.

    Args:
        name: For instance `argo-workflows`.
        nullable: As `Contract` has it.
    """
    return _described(name, tuple(nullable))


@functools.cache
def _described(name: str, nullable: tuple[str, ...]) -> Contract | None:
    file = FOLDER / f"{name}.swagger.json"
    return Contract(json.loads(file.read_bytes()), nullable) if file.is_file() else None


def _pattern(template: str) -> re.Pattern[str]:
    """Return what matches a path; a value has neither a slash nor the colon before a verb (`{run_id}:terminate`)."""
    return re.compile(
        "".join(
            "[^/:]+" if part.startswith("{") else re.escape(part)
            for part in re.split(r"(\{[^}]*\})", template)
        )
    )


def _query(operation: _Operation, query: str) -> list[str]:
    declared = operation.parameters("query")
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        given.setdefault(name, []).append(value)
    problems = [f"there is no query parameter {name}" for name in given if name not in declared]
    for name, parameter in declared.items():
        values = given.get(name, [])
        if not values and parameter.get("required"):
            problems.append(f"the query parameter {name} is missing")
        several = parameter.get("type") == "array"
        if len(values) > 1 and not several:
            problems.append(f"the query parameter {name} is there {len(values)} times")
        kind: Json = parameter["items"] if several else parameter
        problems += [
            f"the query parameter {name} is {value!r}, not {_kind(kind)}"
            for value in values
            if not _is_of(kind, value)
        ]
    return problems


def _kind(parameter: Json) -> str:
    if parameter.get("enum"):
        return f"one of {', '.join(parameter['enum'])}"
    return parameter.get("format") or parameter["type"]


def _is_of(parameter: Json, text: str) -> bool:
    """Whether the text of a parameter of path or query has its type."""
    if parameter.get("enum") and text not in parameter["enum"]:
        return False
    match parameter["type"]:
        case "boolean":
            return text in {"true", "false"}
        case "integer":
            return _is_whole(text, parameter.get("format", "int64"))
        case "number":
            return _FLOATING.fullmatch(text) is not None
        case _:
            form = parameter.get("format", "")
            return form not in _FORMATS.checkers or _FORMATS.conforms(text, form)


def _definition(name: str, schema: Json, nullable: set[str]) -> Json:
    strict = _strict(schema)
    for key, value in strict.get("properties", {}).items():
        if f"{name}.{key}" in nullable:
            strict["properties"][key] = _or_null(value)
    return _or_null(strict) if name in nullable else strict


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _strict(schema: Json) -> Json:
    """Return a schema in which properties that it does not name are errors.

    One without any properties stands for any object and stays open.
    """
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    strict = dict(schema)
    properties: dict[str, Json] = schema.get("properties", {})
    if properties:
        strict["properties"] = {name: _strict(inner) for name, inner in properties.items()}
        strict.setdefault("additionalProperties", False)
    for name in ("items", "additionalProperties"):
        if isinstance(strict.get(name), dict):
            strict[name] = _strict(strict[name])
    for name in ("allOf", "anyOf", "oneOf"):
        if name in schema:
            strict[name] = [_strict(inner) for inner in schema[name]]
    return strict


def _said(error: ValidationError) -> str:
    error = cast("ValidationError", best_match([error]))  # of several forms, the one that was meant
    where = ".".join(map(str, error.absolute_path))
    text = error.message if len(error.message) <= MAX_QUOTE else f"{error.message[:MAX_QUOTE]}…"
    return f"{where or 'the body'}: {text}"


# Formats


def _is_whole(value: object, form: str) -> bool:
    """Whether a number, or a text as protobuf's JSON mapping has it for 64 bits, fits an integer format."""
    if isinstance(value, str):
        if not re.fullmatch(r"-?[0-9]+", value):
            return False
        value = int(value)
    if not isinstance(value, int):
        return True  # of another type, which is not a matter of format
    bits = 32 if form.endswith("32") else 64
    if form.startswith("u"):
        return 0 <= value < 1 << bits
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1)


def _is_time(value: object) -> bool:
    """Whether a text is a time as RFC 3339 has it: with a T, seconds and an offset."""
    if not isinstance(value, str):
        return True
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value, re.ASCII):
        return False
    try:
        dt.datetime.fromisoformat(re.sub(r"\.\d+", "", value))
    except ValueError:
        return False
    return True


def _is_base64(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error:
        return False
    return True


def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())
    checks = cast("Any", checker.checks)  # a decorator, and typed as one for callers of another kind
    for form in ("int32", "int64", "uint32", "uint64"):
        checks(form)(functools.partial(_is_whole, form=form))
    checks("date-time")(_is_time)
    checks("byte")(_is_base64)
    return checker


_FORMATS = _formats()
