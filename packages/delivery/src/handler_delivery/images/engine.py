"""What builds and runs images: buildah with podman where no daemon is, Docker where one is."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from handler_delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handler_delivery.workspace import Member

BUILDER, RUNTIME, DEBUG = "handler-builder", "handler-runtime", "handler-runtime-debug"
"""Names of the images that services are built from; the stages of images/Dockerfile."""

OS = "handler-os"
"""The base made from Debian's packages, where no registry answers."""

STAGES = {BUILDER: "builder", RUNTIME: "runtime", DEBUG: "debug"}


class Engine(Protocol):
    """Builds images from the Dockerfiles of a workspace and runs containers."""

    def build(
        self, members: Sequence[Member], folder: Path, *, debug: bool = False, fresh: bool = False
    ) -> None:
        """Build services and write one OCI archive each, `folder/<service>.tar`.

        Args:
            members: The services.
            folder: Where the archives go.
            debug: Whether they stand on the runtime that has a shell.
            fresh: Whether to build everything anew, whatever is cached.
        """
        ...

    def write(self, name: str, dockerfile: str, archive: Path) -> None:
        """Build one more Dockerfile of the workspace on the builder, and write it as an OCI archive.

        Args:
            name: What to call the image.
            dockerfile: Where it is, from the root.
            archive: The .tar file.
        """
        ...

    def push(self, member: Member, registry: str, tags: Sequence[str], folder: Path) -> None:
        """Send a service's image, and its variant with a shell, to a registry one has logged in to.

        Args:
            member: The service.
            registry: Host and owner, `git.example.com/ai`; the service's name is added.
            tags: Under which names; the variant with a shell gets them with `-debug`.
            folder: Where `build` wrote the archives.
        """
        ...

    def run(self) -> list[str]:
        """Return the command that takes `run`, `inspect`, `logs`, `stop`, `rm`, as podman and docker both do."""
        ...

    def host_network(self) -> str:
        """Return the network in which 127.0.0.1 is ours."""
        ...

    def with_files(self, name: str, files: Path) -> str:
        """Return the name of an image that also holds the files of a folder, as `/check/…`."""
        ...


def engine(workspace_root: Path) -> Engine:
    """Return the engine that ENGINE names: `buildah` (the default) or `docker`.

    Raises:
        DeliveryError: For another name.
    """
    name = os.environ.get("ENGINE") or "buildah"
    if name == "buildah":
        from handler_delivery.images.buildah import Buildah

        return Buildah(workspace_root)
    if name == "docker":
        from handler_delivery.images.docker import Docker

        return Docker(workspace_root)
    raise DeliveryError(f"ENGINE={name}: expected buildah or docker")


def trusted_certificates() -> Path | None:
    """Return the certificates this machine trusts; builds use them and images do not keep them."""
    paths = ssl.get_default_verify_paths()
    for name in (os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", paths.cafile):
        if name and Path(name).exists():
            return Path(name)
    return None


def name_of(member: Member, *, debug: bool) -> str:
    """Return what an image is called in the engine's own store."""
    return f"{member.name}-debug" if debug else member.name
