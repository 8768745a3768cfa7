"""The base that images are assembled from: python.org's image, or Debian's own Python where no registry answers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from handler_delivery.errors import DeliveryError
from handler_delivery.process import output

DEBIAN = "debian"
"""Said as BASE: make the base from Debian's packages."""

SUITE = "trixie"
"""The Debian release whose python3 is 3.13."""

PACKAGES = ("binutils", "busybox-static", "ca-certificates", "patchelf", "python3", "python3-pip")
ARCHIVES = (
    f"deb http://deb.debian.org/debian {SUITE} main",
    f"deb http://deb.debian.org/debian {SUITE}-updates main",
    f"deb http://deb.debian.org/debian-security {SUITE}-security main",
)


def python_org(root: Path) -> str:
    """Return the base that images/Dockerfile names when it is told nothing else."""
    match = re.search(r"^ARG BASE=(\S+)$", (root / "images" / "Dockerfile").read_text(), re.MULTILINE)
    if match is None:
        raise DeliveryError("images/Dockerfile has no line ARG BASE=…")
    return match[1]


def chosen(root: Path, *ask: str) -> str:
    """Return what BASE says, else the Dockerfile's own if a registry answers, else `debian`.

    Args:
        root: The workspace.
        ask: The command that fails where the registry cannot be reached; the image is added to it.
    """
    if base := os.environ.get("BASE"):
        return base
    image = python_org(root)
    wanted = image if "/" in image else f"docker.io/library/{image}"
    command = [*ask[:-1], f"{ask[-1]}{wanted}"]
    try:
        reached = subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        reached = False
    if reached or shutil.which("mmdebstrap") is None:
        return wanted
    sys.stderr.write(f"base: Debian {SUITE}, since no registry gives {wanted}\n")
    return DEBIAN


def debian(cache: Path) -> Path:
    """Return the root of a Debian system with Python as a tar file, made once by mmdebstrap.

    It stays in `cache`: two builds of one commit stand on the same base. `make clean` forgets it.
    """
    file = cache / f"{SUITE}.tar"
    if not file.exists():
        sys.stderr.write(f"making the base from Debian {SUITE}, once\n")
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            fresh = Path(scratch) / file.name
            try:
                output(
                    "mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}",
                    '--aptopt=APT::Install-Recommends "false"', SUITE, str(fresh), *ARCHIVES,
                    environ={**os.environ, "SOURCE_DATE_EPOCH": "0"},
                )  # fmt: skip
            except DeliveryError as error:
                raise DeliveryError(f"the base could not be made: {error}") from error
            fresh.rename(file)
    return file
