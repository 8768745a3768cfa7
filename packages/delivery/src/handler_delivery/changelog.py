"""CHANGELOG.md: what each release brought, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_delivery.versions import Step

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from handler_delivery.versions import Change, Version

TITLE = "# Changelog"

FIRST = "The first release."


def notes(changes: Sequence[Change]) -> str:
    """Return what a release brought, grouped: what breaks, what is new, what is fixed, the rest."""
    if not changes:
        return FIRST
    groups = {
        "Breaking changes": [_line(change, change.breaking) for change in changes if change.breaking],
        "New": [_line(change) for change in changes if change.step is Step.MINOR],
        "Fixed": [_line(change) for change in changes if change.type == "fix" and not change.breaking],
        "Changed": [
            _line(change) for change in changes if change.step is Step.PATCH and change.type != "fix"
        ],
    }
    parts = [f"### {title}\n\n" + "\n".join(lines) for title, lines in groups.items() if lines]
    return "\n\n".join(parts)


def _line(change: Change, text: str = "") -> str:
    scope = f"**{change.scope}:** " if change.scope else ""
    return f"- {scope}{' '.join((text or change.text).split())} ({change.commit[:7]})"


def add_release(changelog: str, version: Version, date: dt.date, text: str) -> str:
    """Return the changelog with a release on top.

    Args:
        changelog: As it was; may be empty.
        version: What is released.
        date: When.
        text: Its notes.
    """
    older = changelog.removeprefix(TITLE).strip("\n")
    entry = f"{TITLE}\n\n## {version} ({date:%Y-%m-%d})\n\n{text}\n"
    return f"{entry}\n{older}\n" if older else entry
