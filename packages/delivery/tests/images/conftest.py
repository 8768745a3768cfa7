"""Images for tests: archives made by hand, and real ones that buildah builds from a clone of this repository."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handler_delivery.images.archive import Archive
from handler_delivery.images.buildah import Buildah
from handler_delivery.workspace import Member, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[4]
BASE = os.environ.get("BASE") or "debian"
"""What real images stand on; said before a test's environment is cleaned."""

PROGRAMS = ("buildah", "podman", "skopeo", "runc", "mmdebstrap")
INDEX, MANIFEST = "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
TITLE = "org.opencontainers.image"


@dataclass(frozen=True)
class Entry:
    """One file of a layer."""

    name: str
    content: str = ""
    mode: int = 0o644
    mtime: int = 0
    kind: bytes = tarfile.REGTYPE
    pax: tuple[tuple[str, str], ...] = ()


class Oci:
    """Writes OCI archives by hand."""

    Entry = Entry

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs: dict[str, bytes] = {}

    def blob(self, content: bytes, media: str, **more: Any) -> dict[str, Any]:
        """Keep a blob and return what points to it."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[f"blobs/{digest.replace(':', '/')}"] = content
        return {"mediaType": media, "digest": digest, "size": len(content), **more}

    def document(self, value: object, media: str, **more: Any) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), media, **more)

    def layer(self, *entries: Entry, media: str = GZIP) -> dict[str, Any]:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry in entries:
                info = tarfile.TarInfo(entry.name)
                info.type, info.mode, info.mtime = entry.kind, entry.mode, entry.mtime
                info.pax_headers = dict(entry.pax)
                if entry.kind == tarfile.REGTYPE:
                    info.size = len(entry.content.encode())
                else:
                    info.linkname = entry.content
                tar.addfile(info, io.BytesIO(entry.content.encode()))
        return self.blob(gzip.compress(plain.getvalue(), mtime=0), media)

    def image(self, *layers: dict[str, Any], config: dict[str, Any] | None = None) -> dict[str, Any]:
        made = {"architecture": "amd64", "os": "linux", "config": config or {}}
        made["rootfs"] = {
            "type": "layers",
            "diff_ids": [
                f"sha256:{hashlib.sha256(gzip.decompress(self.blobs[name])).hexdigest()}"
                for layer in layers
                if layer["mediaType"] == GZIP
                for name in [f"blobs/{layer['digest'].replace(':', '/')}"]
            ],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.document(made, CONFIG),
            "layers": list(layers),
        }
        return self.document(manifest, MANIFEST)

    def index(self, *manifests: dict[str, Any]) -> dict[str, Any]:
        return self.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, INDEX)

    def write(self, *manifests: dict[str, Any], to: Path | None = None) -> Path:
        path = to or self.folder / "image.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        files = {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
            **self.blobs,
        }
        with tarfile.open(path, "w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path


@pytest.fixture
def oci(tmp_path: Path) -> Oci:
    """Return what writes OCI archives by hand."""
    return Oci(tmp_path)


GOOD = (
    Entry("etc/ssl/certs/ca-certificates.crt", "certificates"),
    Entry("var/lib/dpkg/status.d/libc6", "Package: libc6"),
    Entry("app/protobuf-7.0.dist-info/METADATA", "Name: protobuf"),
    Entry("app/__main__.pyc", "byte code"),
)


@dataclass(frozen=True)
class Sample:
    """An image that has nothing wrong with it, made by hand; a test spoils one thing."""

    oci: Oci
    member: Member
    files: tuple[Entry, ...] = GOOD

    @property
    def config(self) -> dict[str, Any]:
        return {
            "User": "10001:10001",
            "StopSignal": "SIGTERM",
            "Entrypoint": ["/usr/bin/python3", "-ESs", "/app/__main__.pyc"],
            "Labels": {
                f"{TITLE}.title": self.member.name,
                f"{TITLE}.version": self.member.version,
                f"{TITLE}.revision": "0123456789abcdef0123456789abcdef01234567",
            },
        }

    def archive(
        self, *more: Entry, files: Sequence[Entry] | None = None, config: dict[str, Any] | None = None
    ) -> Archive:
        """Return it with a layer more, other files, or parts of the configuration replaced."""
        layers = [self.oci.layer(*(self.files if files is None else files))]
        if more:
            layers.append(self.oci.layer(*more))
        image = self.oci.image(*layers, config={**self.config, **(config or {})})
        return Archive(self.oci.write(image))


@pytest.fixture
def sample(oci: Oci) -> Sample:
    """Return an image that has nothing wrong with it."""
    member = Member("chat-handler", "services/chat-handler", "1.2.3", is_service=True, has_image=True)
    return Sample(oci, member)


# ---- real images ----------------------------------------------------------------------------------------------------


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Yard:
    """A clone of this repository in which real images are built, in the store that `make images` uses."""

    root: Path
    built: set[str]
    """The services whose image in the store is that of the clean clone."""

    @property
    def machine(self) -> Buildah:
        return Buildah(self.root, cache=ROOT / ".cache" / "images")

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    @property
    def folder(self) -> Path:
        return self.root / "dist" / "images"

    def member(self, name: str) -> Member:
        return self.workspace.member(name)

    def build(self, *names: str) -> None:
        """Build those services of the clean clone that are not built yet."""
        wanted = [self.member(name) for name in names if name not in self.built]
        if wanted:
            self.machine.build(wanted, self.folder)
            self.built.update(names)

    def commit(self, path: str, line: str) -> str:
        """Commit one more line in a file; return the commit."""
        file = self.root / path
        file.write_text(f"{file.read_text()}{line}\n")
        run("git", "commit", "--quiet", "--all", "-m", "Change one line", cwd=self.root)
        return run("git", "rev-parse", "HEAD", cwd=self.root)

    def back(self) -> None:
        """Take the last commit back."""
        run("git", "reset", "--quiet", "--hard", "HEAD~1", cwd=self.root)


@pytest.fixture(scope="session")
def _yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)}: not installed; `make image-tools` installs what is missing")
    if os.geteuid():
        pytest.skip("buildah with chroot isolation and podman with its own store need root here")
    root = tmp_path_factory.mktemp("yard") / "clone"
    run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(root), cwd=ROOT)
    return Yard(root, set())


@pytest.fixture
def yard(_yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """Return a clean clone of the committed state; what a test changes there is taken back."""
    monkeypatch.setenv("BASE", BASE)
    revision = run("git", "rev-parse", "HEAD", cwd=_yard.root)
    yield _yard
    if revision != run("git", "rev-parse", "HEAD", cwd=_yard.root) or run(
        "git", "status", "--porcelain", cwd=_yard.root
    ):
        run("git", "reset", "--quiet", "--hard", revision, cwd=_yard.root)
        _yard.built.clear()
