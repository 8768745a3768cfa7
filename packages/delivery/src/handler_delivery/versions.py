"""The next version, from what the commits since the last one say of themselves.

`major:` or `BREAKING CHANGE` (also the `!` of `feat!:`) is a major step, `feat:` or `minor:` a minor one, all else a patch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from handler_delivery.git import Repository

_PREFIX = re.compile(r"(?P<type>[A-Za-z]+)(\((?P<scope>[^()]*)\))?(?P<breaking>!)?:\s+(?P<text>\S.*)")
_BREAKING = re.compile(r"^BREAKING[ -]CHANGE\b:?\s*(?P<text>.*)", re.MULTILINE)
_TAG = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_RELEASE = re.compile(r"Release \d+\.\d+\.\d+\b")


class Step(IntEnum):
    """How far a commit moves the version."""

    PATCH = 0
    MINOR = 1
    MAJOR = 2


@dataclass(frozen=True, order=True)
class Version:
    """X.Y.Z."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Return a version from `1.2.3` or `v1.2.3`.

        Raises:
            DeliveryError: If the text is none.
        """
        match = _TAG.fullmatch(text)
        if match is None:
            raise DeliveryError(f"{text!r} is no version X.Y.Z")
        return cls(*(int(part) for part in match.groups()))

    def after(self, step: Step) -> Version:
        """Return the next version."""
        if step is Step.MAJOR:
            return Version(self.major + 1, 0, 0)
        if step is Step.MINOR:
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class Change:
    """What one commit says.

    Attributes:
        commit: Its full name.
        type: The word before the colon in lower case, `feat`; empty when there is none.
        scope: What stands in brackets behind it.
        text: The subject without all that.
        breaking: What it breaks, in its own words; empty when it breaks nothing.
    """

    commit: str
    type: str
    scope: str
    text: str
    breaking: str

    @property
    def step(self) -> Step:
        """How far it moves the version."""
        if self.breaking:
            return Step.MAJOR
        return Step.MINOR if self.type in {"feat", "minor"} else Step.PATCH


_TYPES = {
    "build", "chore", "ci", "deps", "docs", "feat", "fix", "major", "minor", "patch", "perf", "refactor", "revert",
    "style", "test",
}  # fmt: skip


def read_change(commit: str, message: str) -> Change:
    """Return what a commit message says."""
    subject, _, body = message.strip().partition("\n")
    match = _PREFIX.fullmatch(subject)
    kind = match["type"].lower() if match else ""
    if match is None or kind not in _TYPES:  # `Makefile: say more` is no type, just a subject with a colon
        kind, scope, text, bang = "", "", subject, False
    else:
        scope, text, bang = match["scope"] or "", match["text"], bool(match["breaking"])
    said = _BREAKING.search(body) or _BREAKING.match(subject)
    breaking = said["text"].strip() or text if said else text if bang or kind == "major" else ""
    return Change(commit, kind, scope, text, breaking)


def changes_since(repository: Repository, base: str, head: str = "HEAD") -> list[Change]:
    """Return what the commits after `base` say, newest first; merges and releases say nothing of their own."""
    span = f"{base}..{head}" if base else head
    said = repository.run("log", "--no-merges", "-z", "--format=%H%n%B", span)
    changes: list[Change] = []
    for record in said.split("\0"):
        commit, _, message = record.partition("\n")
        if message.strip() and not _RELEASE.match(message):
            changes.append(read_change(commit, message))
    return changes


def last_release(repository: Repository, head: str = "HEAD") -> str:
    """Return the tag of the highest version that `head` stands on; empty before the first release."""
    tags = repository.run("tag", "--merged", head).splitlines()
    return max((tag for tag in tags if _TAG.fullmatch(tag)), key=Version.parse, default="")


def next_version(current: Version, changes: Iterable[Change]) -> Version:
    """Return the version after these changes."""
    return current.after(max(change.step for change in changes))
