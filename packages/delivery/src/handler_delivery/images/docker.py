"""Images by a Docker engine: BuildKit builds them as one graph (`docker buildx bake`), as CI does."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from typing import TYPE_CHECKING, Any

from handler_delivery.errors import DeliveryError
from handler_delivery.images import base
from handler_delivery.images.engine import (
    BUILDER,
    DEBUG,
    OS,
    RUNTIME,
    STAGES,
    name_of,
    trusted_certificates,
)
from handler_delivery.images.labels import labels
from handler_delivery.process import missing, output
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from handler_delivery.workspace import Member

CACHE_TAG = "buildcache"


class Docker:
    """See `Engine`. Which builder is used is buildx's business; one that keeps attestations is needed to push.

    Args:
        root: The workspace.

    Raises:
        DeliveryError: If there is no Docker command.
    """

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        if missing(["docker"]):
            raise DeliveryError("docker is not installed; ENGINE=buildah builds without it")

    def run(self) -> list[str]:
        """See `Engine`."""
        return ["docker"]

    def host_network(self) -> str:
        """See `Engine`. A CI job that is a container of the same engine shares its own network."""
        ourselves = socket.gethostname()
        try:
            output("docker", "container", "inspect", ourselves)
        except DeliveryError:
            return "host"
        return f"container:{ourselves}"

    def build(
        self, members: Sequence[Member], folder: Path, *, debug: bool = False, fresh: bool = False
    ) -> None:
        """See `Engine`."""
        targets = self._stages(fresh=fresh)
        for member in members:
            targets[member.name] = {
                **self._service(member, debug=debug, fresh=fresh),
                **_to_archive(folder / f"{member.name}.tar"),
                "tags": [name_of(member, debug=debug)],
            }
        services = [member.name for member in members]
        self._bake(targets, services)
        # Into the engine as well, which cannot always read such an archive; by now it all comes from the cache.
        loaded = {
            name: {**target, "no-cache": False, **({"output": ["type=docker"]} if name in services else {})}
            for name, target in targets.items()
        }
        self._bake(loaded, services)

    def write(self, name: str, dockerfile: str, archive: Path) -> None:
        """See `Engine`."""
        target = {
            **self._on_the_builder(fresh=False, runtime=RUNTIME),
            **_to_archive(archive),
            "dockerfile": dockerfile,
        }
        self._bake({**self._stages(fresh=False), name: target}, [name])

    def push(self, member: Member, registry: str, tags: Sequence[str], folder: Path) -> None:  # noqa: ARG002
        """See `Engine`. Builds again, from the cache, since what is pushed carries its bill of materials.

        CACHE=1 keeps the cache of the build in the registry; SBOM=0 leaves the bill of materials out; PLATFORMS names
        other machines than this one, `linux/amd64,linux/arm64`.
        """
        image = f"{registry}/{member.name}"
        targets = self._stages(fresh=False)
        # The engine's own builder unpacks what it pushes, and then cannot set the times of folders.
        own = re.search(r"^Driver:\s+docker$", output("docker", "buildx", "inspect"), re.MULTILINE)
        times = "" if own else ",rewrite-timestamp=true"
        for debug in (False, True):
            target = self._service(member, debug=debug, fresh=False)
            suffix = "-debug" if debug else ""
            target["tags"] = [f"{image}:{tag}{suffix}" for tag in tags]
            target["output"] = [f"type=registry,compression-level=9,oci-mediatypes=true{times}"]
            target["attest"] = ["type=provenance,mode=max"]
            if os.environ.get("SBOM") != "0":
                target["attest"].append("type=sbom")
            if platforms := os.environ.get("PLATFORMS"):
                target["platforms"] = platforms.split(",")
            if os.environ.get("CACHE") == "1":
                cache = f"type=registry,ref={image}:{CACHE_TAG}"
                target["cache-from"] = [cache]
                target["cache-to"] = (
                    [] if debug else [f"{cache},mode=max,image-manifest=true,oci-mediatypes=true"]
                )
            targets[f"{member.name}{suffix}"] = target
        self._bake(targets, [member.name, f"{member.name}-debug"])

    def with_files(self, name: str, files: Path) -> str:
        """See `Engine`."""
        derived = f"{name}-check"
        # The engine's own builder: others do not see the engine's images.
        output("docker", "buildx", "build", "--builder", "default", "--quiet", "--tag", derived, "--file", "-", str(files),
               text=f"FROM {name}\nCOPY . /check/\n")  # fmt: skip
        return derived

    def _stages(self, *, fresh: bool) -> dict[str, Any]:
        reference = base.chosen(self.workspace.root, "docker", "buildx", "imagetools", "inspect", "")
        if reference == base.DEBIAN:
            tar = base.debian(self.workspace.root / ".cache" / "images")
            reference = f"{OS}:{tar.stat().st_mtime_ns}"
            if not output("docker", "images", "--quiet", reference).strip():
                output("docker", "import", str(tar), reference)
        return {
            name: {**self._common(fresh=fresh), "dockerfile": "images/Dockerfile", "target": stage,
                   "args": {"BASE": reference, "SOURCE_DATE_EPOCH": "0"}, "tags": [name]}
            for name, stage in STAGES.items()
        }  # fmt: skip

    def _service(self, member: Member, *, debug: bool, fresh: bool) -> dict[str, Any]:
        return {
            **self._on_the_builder(fresh=fresh, runtime=DEBUG if debug else RUNTIME),
            "dockerfile": f"{member.folder}/Dockerfile",
            "labels": labels(self.workspace, member),
        }

    def _on_the_builder(self, *, fresh: bool, runtime: str) -> dict[str, Any]:
        return {
            **self._common(fresh=fresh),
            "args": {"SOURCE_DATE_EPOCH": "0"},
            "contexts": {BUILDER: f"target:{BUILDER}", RUNTIME: f"target:{runtime}"},
        }

    def _common(self, *, fresh: bool) -> dict[str, Any]:
        common: dict[str, Any] = {"context": ".", "no-cache": fresh}
        if certificates := trusted_certificates():
            common["secret"] = [f"id=ca,src={certificates}"]
        return common

    def _bake(self, targets: dict[str, Any], wanted: Sequence[str]) -> None:
        sys.stderr.write(f"building {', '.join(wanted)}\n")
        definition = json.dumps({"target": targets})
        output("docker", "buildx", "bake", "--progress", "plain", "--file", "-", *wanted,
               cwd=self.workspace.root, text=definition)  # fmt: skip


def _to_archive(archive: Path) -> dict[str, Any]:
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    return {
        "output": [f"type=oci,dest={archive},rewrite-timestamp=true,compression-level=9"],
        "attest": ["type=provenance,disabled=true"],
    }
