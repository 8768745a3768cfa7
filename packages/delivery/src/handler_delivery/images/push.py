"""`delivery push`: send the images that were built and checked to a registry, under their tags."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handler_delivery.images.build import FOLDER, chosen
from handler_delivery.images.engine import engine
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("services", nargs="*", help="the services (default: every one that has a Dockerfile)")
    parser.add_argument("--registry", required=True, help="host and owner: git.example.com/ai")
    parser.add_argument(
        "--tag", action="append", required=True, dest="tags", help="may be given several times"
    )


def run(options: argparse.Namespace) -> int:
    """Push each image; a registry that refuses one stops it."""
    workspace = Workspace.find()
    machine = engine(workspace.root)
    registry = options.registry.lower().removeprefix("https://").rstrip("/")
    for member in chosen(workspace, options.services):
        machine.push(member, registry, options.tags, workspace.root / FOLDER)
        for tag in options.tags:
            sys.stdout.write(f"pushed {registry}/{member.name}:{tag} and {tag}-debug\n")
    return 0
