"""`delivery images`: build, write one OCI archive a service, start each and check it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handler_delivery.images.archive import Archive
from handler_delivery.images.engine import engine
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from handler_delivery.workspace import Member

FOLDER = "dist/images"
"""Where the archives go, from the root; those with a shell one folder below, in `debug`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("services", nargs="*", help="the services (default: every one that has a Dockerfile)")
    parser.add_argument("--no-check", dest="check", action="store_false", help="build only, start nothing")
    parser.add_argument(
        "--no-debug", dest="debug", action="store_false", help="leave out the images with a shell"
    )
    parser.add_argument("--fresh", action="store_true", help="build everything anew, whatever is cached")


def run(options: argparse.Namespace) -> int:
    """Build and check; 1 when a check failed."""
    from handler_delivery.images.check import check

    workspace = Workspace.find()
    members = chosen(workspace, options.services)
    machine = engine(workspace.root)
    folder = workspace.root / FOLDER
    machine.build(members, folder, fresh=options.fresh)
    if options.debug:
        machine.build(members, folder / "debug", debug=True)
    problems = 0
    for member in members:
        with Archive(folder / f"{member.name}.tar") as archive:
            sys.stdout.write(f"{member.name}: {describe(archive)}\n")
        if not options.check:
            continue
        for debug in (False, True) if options.debug else (False,):
            found = check(machine, member, folder / "debug" if debug else folder, debug=debug)
            problems += len(found)
            kind = f"{member.name}{'-debug' if debug else ''}"
            sys.stdout.writelines(f"{kind}: FAIL {problem}\n" for problem in found)
            if not found:
                sys.stdout.write(f"{kind}: every check passed\n")
    return 1 if problems else 0


def chosen(workspace: Workspace, names: Sequence[str]) -> list[Member]:
    """Return the services of these names, or all when none is named."""
    return [workspace.member(name) for name in names] if names else workspace.images


def describe(archive: Archive) -> str:
    """Return one line: sizes and digest."""
    return f"{archive.unpacked / 1e6:.1f} MB, {archive.compressed / 1e6:.1f} MB compressed, {archive.digest}"


def archive_of(root: Path, member: Member) -> Path:
    """Return where the archive of a service is."""
    return root / FOLDER / f"{member.name}.tar"
