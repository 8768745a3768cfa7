"""The pinned kubectl: what is fetched is what was pinned, or nothing runs."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.manifests.kubectl import KUBECTL, unpack
from handler_delivery.process import output

if TYPE_CHECKING:
    from pathlib import Path


def archive(folder: Path) -> tuple[Path, str]:
    """Write an archive of the package's form; return it and its hash."""
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as zipped:
        zipped.writestr("kubectl/kubectl", "#!/bin/sh\n")
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = len(layer.getvalue())
        tar.addfile(entry, io.BytesIO(layer.getvalue()))
    return path, base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def test_the_binary_is_taken_out_of_the_archive(tmp_path: Path) -> None:
    path, sha512 = archive(tmp_path)
    unpack(path, tmp_path, sha512)
    assert (tmp_path / "kubectl" / "kubectl").read_text() == "#!/bin/sh\n"


def test_an_archive_that_is_not_the_pinned_one_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path, sha512 = archive(tmp_path)
    with pytest.raises(DeliveryError, match=r"is not what was pinned: its sha512 is"):
        unpack(path, tmp_path)
    path.write_bytes(b"not even an archive")
    with pytest.raises(DeliveryError, match="is not what was pinned"):
        unpack(path, tmp_path, sha512)
    assert not (tmp_path / "kubectl").exists()


def test_it_is_the_version_that_it_is_called_after(tool: Path) -> None:
    assert f"v{KUBECTL}" in output(str(tool), "version", "--client")
