"""Images without a daemon: buildah builds them with chroot isolation, podman runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cached_property
from typing import TYPE_CHECKING

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
from handler_delivery.images.registry import copy
from handler_delivery.process import missing, output
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from handler_delivery.workspace import Member


class Buildah:
    """See `Engine`. Keeps its images apart from the user's own.

    Args:
        root: The workspace.
        cache: Where it keeps its images and the base; by default `.cache/images/` of the workspace.

    Raises:
        DeliveryError: If its programs are not installed.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.workspace = Workspace(root)
        self._cache = cache or root / ".cache" / "images"
        self._base = ""
        if absent := missing(["buildah", "podman", "skopeo", "runc", "mmdebstrap"]):
            raise DeliveryError(
                f"{', '.join(absent)}: not installed; `make image-tools` installs what is missing"
            )

    @cached_property
    def _store(self) -> list[str]:
        return [
            "--root", str(self._cache / "store"), "--runroot", str(self._cache / "run"),
            "--storage-driver", os.environ.get("STORAGE_DRIVER") or self._driver(),
        ]  # fmt: skip

    def _driver(self) -> str:
        """Return `overlay` where the kernel lets us mount one, else `vfs`, which copies every layer."""
        scratch = self._cache / "probe"
        folders = [scratch / name for name in ("lower", "upper", "work", "merged")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        lower, upper, work, merged = map(str, folders)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        try:
            output("mount", "-t", "overlay", "overlay", "-o", options, merged)
            output("umount", merged)
        except DeliveryError:
            return "vfs"
        return "overlay"

    def run(self) -> list[str]:
        """See `Engine`."""
        return ["podman", *self._store, "--cgroup-manager", "cgroupfs", "--runtime", "runc"]

    def host_network(self) -> str:
        """See `Engine`."""
        return "host"

    def build(
        self, members: Sequence[Member], folder: Path, *, debug: bool = False, fresh: bool = False
    ) -> None:
        """See `Engine`."""
        self._stages(fresh=fresh, wanted=[BUILDER, RUNTIME, DEBUG] if debug else [BUILDER, RUNTIME])
        for member in members:
            self.write(
                name_of(member, debug=debug),
                f"{member.folder}/Dockerfile",
                folder / f"{member.name}.tar",
                runtime=DEBUG if debug else RUNTIME,
                labelled=labels(self.workspace, member),
                fresh=fresh,
            )

    def write(
        self,
        name: str,
        dockerfile: str,
        archive: Path,
        *,
        runtime: str = RUNTIME,
        labelled: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> None:
        """See `Engine`. The builder and the runtime must have been built, as `build` does."""
        arguments = {"BUILDER": f"localhost/{BUILDER}", "RUNTIME": f"localhost/{runtime}"}
        bare = f"{name}-bare" if labelled else name
        self._bud(bare, dockerfile, arguments, fresh=fresh)
        if labelled:
            self._put_labels(bare, name, labelled)
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.unlink(missing_ok=True)
        output(
            "buildah", *self._store, "push", "--quiet", "--format", "oci", "--compression-level", "9",
            f"localhost/{name}", f"oci-archive:{archive}:{name}:latest",
        )  # fmt: skip

    def _put_labels(self, bare: str, name: str, labelled: Mapping[str, str]) -> None:
        """Give an image its labels, apart from its build.

        A build with labels puts all of them on every image in between, which later builds take from the cache: what
        an image is called by its digest would then depend on what was built before it.
        """
        output("buildah", *self._store, "bud", "--quiet", "--isolation", "chroot", "--layers", "--no-cache",
               "--timestamp", "0", "--identity-label=false", "--format", "oci", "--tag", name,
               *(f"--label={key}={value}" for key, value in labelled.items()),
               "--file", "-", str(self.workspace.root), text=f"FROM localhost/{bare}\n")  # fmt: skip

    def push(self, member: Member, registry: str, tags: Sequence[str], folder: Path) -> None:
        """See `Engine`."""
        for suffix, archive in (("", folder), ("-debug", folder / "debug")):
            for tag in tags:
                copy(archive / f"{member.name}.tar", f"{registry}/{member.name}:{tag}{suffix}")

    def with_files(self, name: str, files: Path) -> str:
        """See `Engine`."""
        derived = f"{name}-check"
        dockerfile = f"FROM localhost/{name}\nCOPY . /check/\n"
        output("buildah", *self._store, "bud", "--quiet", "--isolation", "chroot", "--tag", derived,
               "--file", "-", str(files), text=dockerfile)  # fmt: skip
        return f"localhost/{derived}"

    def _stages(self, *, fresh: bool, wanted: Sequence[str]) -> None:
        if not self._base:
            self._base = base.chosen(self.workspace.root, "skopeo", "inspect", "--raw", "docker://")
            if self._base == base.DEBIAN:
                self._import_debian()
                self._base = f"localhost/{OS}"
        for name in wanted:
            arguments = {"BASE": self._base}
            self._bud(name, "images/Dockerfile", arguments, target=STAGES[name], fresh=fresh)

    def _import_debian(self) -> None:
        tar = base.debian(self._cache)
        stamp = str(tar.stat().st_mtime_ns)
        if self._label(OS, "stamp") == stamp:
            return
        dockerfile = f"FROM scratch\nADD {tar.name} /\n"
        output("buildah", *self._store, "bud", "--quiet", "--isolation", "chroot", "--timestamp", "0", "--tag", OS,
               "--label", f"stamp={stamp}", "--file", "-", str(tar.parent), text=dockerfile)  # fmt: skip

    def _label(self, name: str, label: str) -> str:
        try:
            return output("buildah", *self._store, "inspect", "--type", "image", "--format",
                          f'{{{{index .OCIv1.Config.Labels "{label}"}}}}', f"localhost/{name}").strip()  # fmt: skip
        except DeliveryError:
            return ""

    def _bud(
        self,
        name: str,
        dockerfile: str,
        arguments: Mapping[str, str],
        *,
        target: str = "",
        fresh: bool = False,
    ) -> None:
        command = ["buildah", *self._store, "bud", "--isolation", "chroot", "--layers", "--timestamp", "0"]
        command += ["--identity-label=false", "--format", "oci", "--tag", name, "--file", dockerfile]
        command += [f"--build-arg={key}={value}" for key, value in arguments.items()]
        if target:
            command.append(f"--target={target}")
        if fresh:
            command.append("--no-cache")
        if certificates := trusted_certificates():
            command.append(f"--secret=id=ca,src={certificates}")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PIP_", "PYTHON"))}
        sys.stderr.write(f"building {name}\n")
        done = subprocess.run(
            [*command, "."], cwd=self.workspace.root, env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
            raise DeliveryError(f"{dockerfile} could not be built:\n{said}")
