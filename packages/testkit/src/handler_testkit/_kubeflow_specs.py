"""What a pipeline of the scripted Kubeflow server takes, and what its API refuses to run it with.

The rules are those of `validatePipelineJobInputs` (kubeflow/pipelines, backend/src/apiserver/template/v2_template.go):
types are exact, nothing that the pipeline does not have, everything that has no default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

_KINDS: dict[str, type | tuple[type, ...]] = {
    "STRING": str,
    "BOOLEAN": bool,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "LIST": list,
    "STRUCT": dict,
}
_SAID = {
    "STRING": ("string", "string"),
    "BOOLEAN": ("bool", "bool"),
    "NUMBER_INTEGER": ("double or integer", "number"),
    "NUMBER_DOUBLE": ("double or integer", "number"),
    "LIST": ("list", "list"),
    "STRUCT": ("struct", "struct"),
}


def spec(pipeline: str, parameters: Mapping[str, str]) -> Json:
    """Return a pipeline's specification, as far as it matters here.

    Args:
        pipeline: Its name.
        parameters: Types by name; `?` after one that has a default.
    """
    definitions: Json = {}
    for name, type_ in parameters.items():
        definitions[name] = {"parameterType": type_.removesuffix("?")}
        if type_.endswith("?"):
            definitions[name]["isOptional"] = True
    root: Json = {"dag": {}}
    if definitions:
        root["inputDefinitions"] = {"parameters": definitions}
    return {"pipelineInfo": {"name": pipeline}, "schemaVersion": "2.1.0", "root": root}


def refusal(spec: Json, given: Json) -> str:
    """Return why a pipeline does not run with these values; "" if it does."""
    known: Json = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, definition in known.items():
        type_: str = definition["parameterType"]
        if name not in given:
            if not definition.get("isOptional"):
                return (
                    f"parameter {name} is not optional, yet has neither default value nor user provided value"
                )
        elif not _fits(given[name], type_):
            wanted, kind = _SAID[type_]
            return f"input parameter {name} requires type {wanted}, but the parameter value is not of {kind} value type"
    if extra := [name for name in given if name not in known]:
        return f"parameter(s) provided are not required by pipeline: {', '.join(extra)}"
    return ""


def _fits(value: object, type_: str) -> bool:
    return isinstance(value, _KINDS[type_]) and (type_ == "BOOLEAN") == isinstance(value, bool)
