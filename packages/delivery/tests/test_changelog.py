"""What each release brought, newest first."""

from __future__ import annotations

import datetime as dt

from handler_delivery.changelog import FIRST, add_release, notes
from handler_delivery.versions import Version, read_change

DAY = dt.date(2026, 11, 25)


def test_the_notes_say_first_what_breaks_then_what_is_new() -> None:
    messages = [
        "Tidy up",
        "fix(http): close it",
        "feat: greet",
        "feat!: drop JSON\n\nBREAKING CHANGE: protobuf only",
    ]
    text = notes([read_change(str(number) * 40, message) for number, message in enumerate(messages)])
    assert text == (
        "### Breaking changes\n\n- protobuf only (3333333)\n\n"
        "### New\n\n- greet (2222222)\n\n"
        "### Fixed\n\n- **http:** close it (1111111)\n\n"
        "### Changed\n\n- Tidy up (0000000)"
    )


def test_a_release_goes_on_top_and_what_was_there_stays() -> None:
    first = add_release("", Version(0, 1, 0), DAY, FIRST)
    assert first == f"# Changelog\n\n## 0.1.0 (2026-11-25)\n\n{FIRST}\n"
    second = add_release(first, Version(0, 1, 1), DAY, "- more")
    assert second == f"# Changelog\n\n## 0.1.1 (2026-11-25)\n\n- more\n\n## 0.1.0 (2026-11-25)\n\n{FIRST}\n"


def test_the_first_release_lists_no_history() -> None:
    assert notes([]) == FIRST
