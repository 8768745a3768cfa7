"""The tags of the images of a commit: `main-<time>-<commit>`, sorted by time, the same however often it is built."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from handler_delivery.git import Repository
from handler_delivery.gitea import image_registry
from handler_delivery.outputs import hand_on, say
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    import argparse

MAIN_TAG = re.compile(r"main-\d{14}-[0-9a-f]{7}")
"""What Flux sorts by: the time of the commit in UTC, then what tells two commits of a second apart."""


def main_tag(repository: Repository, revision: str = "HEAD") -> str:
    """Return the tag of a commit of main."""
    return f"main-{repository.committed_at(revision):%Y%m%d%H%M%S}-{repository.commit(revision)[:7]}"


def hand_on_tags(*tags: str) -> None:
    """Tell the jobs after this one where images go and what they are called there."""
    registry = image_registry(os.environ)
    hand_on(tags=" ".join(tags), registry=registry, host=registry.split("/")[0])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: the checked out commit says it all."""
    del parser


def run(options: argparse.Namespace) -> int:
    """Print the tag of the checked out commit."""
    del options
    tag = main_tag(Repository(Workspace.find().root))
    say(tag)
    if os.environ.get("GITHUB_OUTPUT"):
        hand_on_tags(tag)
    return 0
