"""The services whose image a change decides anew, as a matrix for CI; the reasons go to standard error."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError
from handler_delivery.event import read_event
from handler_delivery.git import Repository
from handler_delivery.gitea import image_registry
from handler_delivery.outputs import explain, hand_on, matrix, say
from handler_delivery.pushed import Registry, newest
from handler_delivery.tags import hand_on_tags, main_tag
from handler_delivery.workspace import LOCK, Lock, Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

EVERYTHING = (
    "there is nothing to compare with: a first push, a lost base, a tag, a run by hand or by the clock"
)


def affected(workspace: Workspace, repository: Repository, bases: Mapping[str, str]) -> dict[str, str]:
    """Return the services to build and why.

    Args:
        workspace: The checkout.
        repository: The same, as git knows it.
        bases: For each service the commit to compare the checked out one with; a service without one is built.
    """
    known = {base for base in bases.values() if base and repository.exists(base)}
    changes = {
        base: workspace.reasons(repository.changed(base), Lock(repository.text(LOCK, base))) for base in known
    }
    found: dict[str, str] = {}
    for member in workspace.images:
        base = bases.get(member.name, "")
        if base not in known:
            found[member.name] = EVERYTHING
        elif member.name in changes[base]:
            found[member.name] = f"{changes[base][member.name]} since {base[:7]}"
    return found


def find_bases(workspace: Workspace, repository: Repository, base: str | None) -> dict[str, str]:
    """Return what to compare each service with.

    On main, with a login for the registry at hand, that is the commit of the newest image that was pushed; else the
    base of the event, which for a pull request is where its branch left the target.

    Args:
        workspace: The checkout.
        repository: The same, as git knows it.
        base: What the person asked for, if anything.
    """
    services = [member.name for member in workspace.images]
    event = read_event(os.environ)
    token = os.environ.get("REGISTRY_TOKEN", "")
    if base is None and event.is_push_to_main and token:
        host, _, owner = image_registry(os.environ).partition("/")
        scheme = "http" if os.environ.get("GITHUB_SERVER_URL", "").startswith("http://") else "https"
        registry = Registry(f"{scheme}://{host}", owner, os.environ.get("REGISTRY_USER", ""), token)
        try:
            return {service: newest(registry.tags(service), repository) for service in services}
        except DeliveryError as error:
            explain(f"comparing with the push before instead of the images: {error}")
    start = event.base if base is None else base
    if start and repository.exists(start):
        common = repository.merge_base(start)
        start = common if event.name == "pull_request" and common else repository.commit(start)
    return dict.fromkeys(services, start)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to compare with."""
    parser.add_argument(
        "--base", help="the commit to compare the checked out one with (default: what CI's event says)"
    )


def run(options: argparse.Namespace) -> int:
    """Print the matrix and hand it on."""
    workspace = Workspace.find()
    repository = Repository(workspace.root)
    found = affected(workspace, repository, find_bases(workspace, repository, options.base or None))
    for service, reason in found.items():
        explain(f"{service}: {reason}")
    if not found:
        explain("no image changes")
    services = json.dumps(matrix(found))
    say(services)
    hand_on(services=services, any="true" if found else "false")
    if os.environ.get("GITHUB_OUTPUT"):
        hand_on_tags(main_tag(repository))
    return 0
