"""Render every overlay of deploy/ and hold each object against schemas, settings, policies and habits of a safe cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from handler_delivery.manifests.check import Checker
from handler_delivery.manifests.kubectl import kubectl
from handler_delivery.manifests.render import render, roots
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    import argparse

CONTRACTS = Path("..") / "shared" / "contracts"
"""Where the CRDs of Flux and KEDA and the description of Argo's API are, from the root of the workspace."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--deploy", type=Path, metavar="DIR", help="the manifests (default: deploy/ of the workspace)"
    )
    parser.add_argument(
        "--contracts", type=Path, metavar="DIR", help=f"folder with the CRDs (default: {CONTRACTS})"
    )
    parser.add_argument("--print", metavar="OVERLAY", help="print one overlay rendered, and check nothing")


def run(options: argparse.Namespace) -> int:
    """Check all; returns 1 when something is wrong."""
    workspace = Workspace.find()
    deploy: Path = options.deploy or workspace.root / "deploy"
    tool = kubectl(workspace.root / ".cache" / "tools")
    if options.print:
        sys.stdout.write(render(tool, deploy / options.print).text)
        return 0
    contracts: Path = options.contracts or workspace.root / CONTRACTS
    checker = Checker(
        workspace=workspace, deploy=deploy, contracts=contracts if contracts.is_dir() else None, tool=tool
    )
    problems = checker.problems()
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if not contracts.is_dir():
        sys.stderr.write(
            f"manifests: {contracts} is not here; objects of Flux, KEDA and Argo were not held against their schemas\n"
        )
    if problems:
        sys.stderr.write(f"manifests: {len(problems)} problems\n")
        return 1
    sys.stdout.write(f"manifests: {checker.objects} objects in {len(roots(deploy))} renderings, no problem\n")
    return 0
