"""What git knows: commits, what changed, files as they were."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError
from handler_delivery.process import output

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Repository:
    """One checkout.

    Args:
        root: Its top folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *arguments: str) -> str:
        """Return what a git command prints, without the last newline."""
        return output("git", *arguments, cwd=self.root).rstrip("\n")

    def commit(self, revision: str = "HEAD") -> str:
        """Return the full name of a commit."""
        return self.run("rev-parse", "--verify", f"{revision}^{{commit}}")

    def exists(self, revision: str) -> bool:
        """Say whether this checkout has that commit."""
        try:
            self.commit(revision)
        except DeliveryError:
            return False
        return True

    def committed_at(self, revision: str = "HEAD") -> dt.datetime:
        """Return when a commit was made, in UTC."""
        seconds = int(self.run("show", "--no-patch", "--format=%ct", revision))
        return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)

    def changed(self, base: str, head: str = "HEAD") -> list[str]:
        """Return the paths that differ between two commits; a renamed file counts under both names."""
        return [
            path
            for path in self.run("diff", "--name-only", "--no-renames", "-z", base, head).split("\0")
            if path
        ]

    def merge_base(self, revision: str, head: str = "HEAD") -> str:
        """Return the last commit that two lines of history share; empty when they share none."""
        try:
            return self.run("merge-base", revision, head)
        except DeliveryError:
            return ""

    def contains(self, revision: str, head: str = "HEAD") -> bool:
        """Say whether a commit is `head` or one before it; false for one that is not here."""
        return self.exists(revision) and self.merge_base(revision, head) == self.commit(revision)

    def uncommitted(self, paths: Sequence[str]) -> list[str]:
        """Return what below these paths is not committed."""
        return self.run("status", "--porcelain", "--untracked-files=all", "--", *paths).splitlines()

    def last_commit(self, paths: Sequence[str], head: str = "HEAD") -> str:
        """Return the last commit up to `head` that touched one of the paths; empty when none did."""
        return self.run("log", "-1", "--format=%H", head, "--", *paths)

    def text(self, path: str, revision: str = "HEAD") -> str:
        """Return a file as it was at a commit; empty when it was not there."""
        try:
            return self.run("show", f"{revision}:{path}")
        except DeliveryError:
            return ""
