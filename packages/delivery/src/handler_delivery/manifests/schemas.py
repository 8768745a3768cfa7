"""Schemas: Kubernetes' own, strictly; the CRDs of Flux and KEDA; what Argo says of its API; ours where there is no file.

A field that a schema does not know is an error, as is a kind without a schema. Rules in CEL
(`x-kubernetes-validations`) are left to the API server.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, cast

import jsonschema
import kubernetes_validate  # pyright: ignore[reportMissingTypeStubs]
import yaml

from handler_delivery.manifests.flux_schemas import FLUX
from handler_delivery.manifests.render import WORKFLOW

if TYPE_CHECKING:
    from pathlib import Path

    from handler_delivery.manifests.render import Object

KUBERNETES = ("1.32", "1.37")
"""The oldest and the newest version that manifests must fit."""

_CUSTOM = ("fluxcd.io/", "keda.sh/", "argoproj.io/")

_ARGO = "argo-workflows.swagger.json"
_WORKFLOW = "io.argoproj.workflow.v1alpha1.WorkflowTemplate"


class Schemas:
    """All schemas there are.

    Args:
        contracts: The folder with the CRDs and descriptions; None to leave their kinds unchecked.
    """

    def __init__(self, contracts: Path | None) -> None:
        self._known: dict[tuple[str, str], dict[str, Any]] = dict(FLUX)
        self._lenient = contracts is None
        for file in sorted(contracts.glob("*.crd.yaml")) if contracts is not None else ():
            self._known |= _crd(file)
        if contracts is not None and (contracts / _ARGO).is_file():
            self._known["argoproj.io/v1alpha1", WORKFLOW] = _argo(contracts / _ARGO)

    def problems(self, item: Object) -> list[str]:
        """Return what is wrong with one object."""
        if any(name in item.api for name in _CUSTOM):
            schema = self._known.get((item.api, item.kind))
            if schema is None:
                known = [] if self._lenient else [f"there is no schema of {item.api} {item.kind}"]
            else:
                known = [*_failures(schema, item.body), *_kubernetes(_as_config_map(item))]
            return known if item.template is None else [*known, *_kubernetes(_as_pods(item))]
        return _kubernetes(json.dumps(item.body, sort_keys=True))


def _as_config_map(item: Object) -> str:
    """Return an object of Kubernetes with the same metadata, whose form CRDs leave open."""
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": item.at("metadata")})


def _as_pods(item: Object) -> str:
    """Return the pods that an object of another kind makes, as an object of Kubernetes."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": item.name},
            "template": item.template,
        },
        sort_keys=True,
    )


@functools.cache
def _kubernetes(text: str) -> list[str]:
    problems: list[str] = []
    body = json.loads(text)
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(body, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"Kubernetes {version}: {_said(cast('jsonschema.ValidationError', error))}")
        except kubernetes_validate.SchemaNotFoundError:
            problems.append(f"Kubernetes {version} has no {body.get('apiVersion')} {body.get('kind')}")
    return problems


def _failures(schema: dict[str, Any], body: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    return [_said(error) for error in validator.iter_errors(body)]  # pyright: ignore[reportUnknownMemberType]


def _said(error: jsonschema.ValidationError) -> str:
    where = ".".join(map(str, error.absolute_path))
    return f"{where or 'the object'}: {error.message[:300]}"


@functools.cache
def _crd(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    body = yaml.safe_load(file.read_text())
    spec = body["spec"]
    return {
        (f"{spec['group']}/{version['name']}", spec["names"]["kind"]): _strict(
            version["schema"]["openAPIV3Schema"]
        )
        for version in spec["versions"]
        if version["served"]
    }


@functools.cache
def _argo(file: Path) -> dict[str, Any]:
    """Return the schema of a WorkflowTemplate out of the description of Argo's API."""
    described: dict[str, dict[str, Any]] = json.loads(file.read_bytes())["definitions"]
    definitions = {name: _strict(schema) for name, schema in described.items()}
    return {"$ref": f"#/definitions/{_WORKFLOW}", "definitions": definitions}


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a structural schema of Kubernetes as a JSON schema in which unknown fields are errors."""
    strict = dict(schema)
    properties: dict[str, Any] = schema.get("properties", {})
    strict["properties"] = {name: _strict(inner) for name, inner in properties.items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            strict[name] = _strict(schema[name])
    if properties and "additionalProperties" not in schema:
        strict["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if schema.get("x-kubernetes-int-or-string"):
        strict["type"] = ["integer", "string"]
    if schema.get("nullable") and isinstance(strict.get("type"), str):
        strict["type"] = [strict["type"], "null"]
    return strict
