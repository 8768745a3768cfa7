"""The two kinds of Flux whose CRDs are not among the contracts, with the fields that we use or may come to use.

Sources: https://fluxcd.io/flux/components/kustomize/kustomizations/ and
https://fluxcd.io/flux/components/source/gitrepositories/, API versions v1.
"""

from __future__ import annotations

from typing import Any

_DURATION = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _kind(spec: dict[str, Any]) -> dict[str, Any]:
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion=_TEXT,
        kind=_TEXT,
        metadata={"type": "object"},
        spec=spec,
    )


_SECRET = _object(("name",), name=_TEXT)

_KUSTOMIZATION = _object(
    ("interval", "prune", "sourceRef"),
    sourceRef=_object(
        ("kind", "name"),
        apiVersion=_TEXT,
        kind={"enum": ["OCIRepository", "GitRepository", "Bucket"]},
        name=_TEXT,
        namespace=_TEXT,
    ),
    path=_TEXT,
    interval=_DURATION,
    retryInterval=_DURATION,
    timeout=_DURATION,
    prune=_FLAG,
    wait=_FLAG,
    force=_FLAG,
    suspend=_FLAG,
    targetNamespace=_TEXT,
    serviceAccountName=_TEXT,
    deletionPolicy={"enum": ["MirrorPrune", "Delete", "WaitForTermination", "Orphan"]},
    dependsOn=_list(_object(("name",), name=_TEXT, namespace=_TEXT)),
    healthChecks=_list(_object(("kind", "name"), apiVersion=_TEXT, kind=_TEXT, name=_TEXT, namespace=_TEXT)),
    decryption=_object(("provider",), provider={"enum": ["sops"]}, secretRef=_SECRET),
)

_GIT_REPOSITORY = _object(
    ("interval", "url"),
    url={"type": "string", "pattern": "^(http|https|ssh)://.*$"},
    interval=_DURATION,
    timeout=_DURATION,
    ref=_object(branch=_TEXT, tag=_TEXT, semver=_TEXT, commit=_TEXT, name=_TEXT),
    secretRef=_SECRET,
    ignore=_TEXT,
    suspend=_FLAG,
    sparseCheckout=_list(_TEXT),
)

FLUX: dict[tuple[str, str], dict[str, Any]] = {
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"): _kind(_KUSTOMIZATION),
    ("source.toolkit.fluxcd.io/v1", "GitRepository"): _kind(_GIT_REPOSITORY),
}
"""By `apiVersion` and `kind`."""
