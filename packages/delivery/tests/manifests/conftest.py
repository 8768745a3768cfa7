"""A copy of deploy/ to break, and the checker that must see it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.manifests import CONTRACTS
from handler_delivery.manifests.check import Checker
from handler_delivery.manifests.kubectl import kubectl
from handler_delivery.workspace import Workspace

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="session")
def tool() -> Path:
    try:
        return kubectl(ROOT / ".cache" / "tools")
    except DeliveryError as error:
        pytest.skip(f"kubectl cannot be had here: {error}")


@pytest.fixture(scope="session")
def contracts() -> Path:
    folder = ROOT / CONTRACTS
    if not folder.is_dir():
        pytest.skip(f"{CONTRACTS} with the CRDs of Flux and KEDA is not here")
    return folder


class Deploy:
    """A copy of deploy/ with one overlay and what Flux is told about it."""

    def __init__(self, folder: Path, tool: Path, overlay: str) -> None:
        self.folder = folder
        self._tool = tool
        shutil.copytree(ROOT / "deploy", folder, dirs_exist_ok=True)
        for other in {"home", "cluster", "cluster-to-zero"} - {overlay}:
            if not (overlay == "cluster-to-zero" and other == "cluster"):
                shutil.rmtree(folder / "overlays" / other)
            shutil.rmtree(folder / "flux" / other, ignore_errors=True)

    def edit(self, file: str, before: str, after: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert before in text, f"{file} has no {before!r}"
        path.write_text(text.replace(before, after, 1))

    def problems(self, contracts: Path | None = None) -> list[str]:
        checker = Checker(workspace=Workspace(ROOT), deploy=self.folder, contracts=contracts, tool=self._tool)
        return checker.problems()


@pytest.fixture
def home(tmp_path: Path, tool: Path) -> Deploy:
    return Deploy(tmp_path / "deploy", tool, "home")


@pytest.fixture
def cluster(tmp_path: Path, tool: Path) -> Deploy:
    return Deploy(tmp_path / "deploy", tool, "cluster")
