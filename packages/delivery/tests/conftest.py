"""A checkout of this workspace that a test may change: a real git repository of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from handler_delivery.git import Repository
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
OF_CI = (
    "GITHUB_",
    "GITEA_",
    "REGISTRY",
    "NTFY_",
    "RELEASE_",
    "DRY_RUN",
    "AGAIN",
    "IMAGES_TOGETHER",
    "NEEDS",
    "BASE",
)
WITH_IMAGE = (
    "chat-handler",
    "document-ingestion",
    "local-inference",
    "pipeline-bridge",
    "stt-module",
    "tts-module",
    "voice-assistant",
)
KEPT = shutil.ignore_patterns("tests", "__pycache__", "*.pyc", "node_modules")


@dataclass
class Checkout:
    """A checkout and what a person does in it."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    @property
    def repository(self) -> Repository:
        return Repository(self.root)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def append(self, path: str, text: str = "\n# one more line\n") -> None:
        self.write(path, (self.root / path).read_text() + text)

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert text.count(old) == 1, f"{path}: {old!r} is there {text.count(old)} times"
        self.write(path, text.replace(old, new))

    def commit(self, message: str = "Change something") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture(autouse=True, scope="session")
def _our_uv() -> Iterator[None]:
    """Let a checkout of a test use the uv of this one."""
    own = ROOT / ".uv" / "bin" / "uv"
    with pytest.MonkeyPatch.context() as patch:
        if own.exists() and not os.environ.get("UV"):
            patch.setenv("UV", str(own))
        yield


@pytest.fixture(autouse=True)
def _outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that wants a runner's environment says so; git knows nobody but the person of the test."""
    for name in os.environ:
        if name.startswith(OF_CI):
            monkeypatch.delenv(name)
    for name, value in {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This workspace without its tests, with a Dockerfile for each service that has an image."""
    root = tmp_path_factory.mktemp("template") / "checkout"
    root.mkdir()
    for name in ("pyproject.toml", "uv.lock", "README.md", "Makefile", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    for folder in ("packages", "services"):
        shutil.copytree(ROOT / folder, root / folder, ignore=KEPT)
    for service in WITH_IMAGE:
        (root / "services" / service / "Dockerfile").write_text("FROM scratch\n")
    (root / "images").mkdir()
    (root / "images" / "Dockerfile").write_text("FROM scratch\n")
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for command in (
        ["init", "--quiet", "-b", "main"],
        ["add", "--all"],
        [*who, "commit", "--quiet", "-m", "Begin"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True, env=environ)
    return root


@pytest.fixture
def checkout(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """Return a fresh checkout; it is the current folder."""
    root = tmp_path / "checkout"
    shutil.copytree(template, root)
    monkeypatch.chdir(root)
    return Checkout(root)


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that a runner names in `GITHUB_OUTPUT`, on a server of our own example."""
    file = tmp_path / "outputs"
    file.touch()
    monkeypatch.setenv("GITHUB_OUTPUT", str(file))
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "Ada/handlers")
    return file
