"""Wheels of the shared packages, the same bytes for the same commit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError
from handler_delivery.git import Repository
from handler_delivery.outputs import say
from handler_delivery.process import output
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    import argparse

    from handler_delivery.workspace import Member

FOLDER = "dist/wheels"


def shared(workspace: Workspace) -> list[Member]:
    """Return the packages that services stand on: what a handler service of somebody else would install.

    That is what services need of `packages/`; the test kit, the command line and this tool are used from a checkout.
    """
    services = [member.name for member in workspace.members.values() if member.is_service]
    needed = {part.name for service in services for part in workspace.parts(service)}
    return [
        member for member in workspace.members.values() if not member.is_service and member.name in needed
    ]


def uv(workspace: Workspace) -> str:
    """Return the uv that runs this, or the one of PATH, or the one that `make` put into `.uv/`.

    Raises:
        DeliveryError: If there is none.
    """
    own = workspace.root / ".uv" / "bin" / "uv"
    for found in (os.environ.get("UV", ""), shutil.which("uv") or "", str(own)):
        if found and (workspace.root / found).is_file():
            return str(workspace.root / found)
    raise DeliveryError("uv is not installed: `make setup` puts it into .uv/")


def build(workspace: Workspace, folder: Path) -> list[Path]:
    """Build the wheels of the shared packages, after clearing the folder.

    Returns:
        The wheels.
    """
    seconds = int(Repository(workspace.root).committed_at().timestamp())
    shutil.rmtree(folder, ignore_errors=True)
    for member in shared(workspace):
        output(
            uv(workspace), "build", "--quiet", "--wheel", "--package", member.name, "--out-dir", str(folder),
            cwd=workspace.root, environ={**os.environ, "SOURCE_DATE_EPOCH": str(seconds)},
        )  # fmt: skip
    return sorted(folder.glob("*.whl"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where to."""
    parser.add_argument("--out", type=Path, help=f"the folder (default: {FOLDER})")


def run(options: argparse.Namespace) -> int:
    """Build and say what."""
    workspace = Workspace.find()
    for wheel in build(workspace, (options.out or workspace.root / FOLDER).absolute()):
        say(wheel.name)
    return 0
