"""The base that images are assembled from: python.org's image, or Debian's own Python where no registry answers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from handler_delivery.errors import DeliveryError
from handler_delivery.process import output

PYTHON_ORG = "docker.io/library/python:3.13-slim-trixie"
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


def chosen() -> str:
    """Return what BASE says, else python.org's image if a registry answers, else `debian`."""
    if base := os.environ.get("BASE"):
        return base
    try:
        done = subprocess.run(
            ["skopeo", "inspect", "--raw", f"docker://{PYTHON_ORG}"],
            capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        reached = done.returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        reached = False
    if reached:
        return PYTHON_ORG
    sys.stderr.write(f"base: Debian {SUITE}, since no registry gives {PYTHON_ORG}\n")
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
