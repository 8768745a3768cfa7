"""What set a workflow off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from handler_delivery.event import read_event

if TYPE_CHECKING:
    from pathlib import Path

BEFORE, BASE = "a" * 40, "b" * 40


def environ(tmp_path: Path, name: str, ref: str, payload: dict[str, Any] | None) -> dict[str, str]:
    file = tmp_path / "event.json"
    if payload is not None:
        file.write_text(json.dumps(payload))
    return {"GITHUB_EVENT_NAME": name, "GITHUB_REF": ref, "GITHUB_EVENT_PATH": str(file)}


def test_a_push_starts_from_what_was_there_before(tmp_path: Path) -> None:
    event = read_event(environ(tmp_path, "push", "refs/heads/main", {"before": BEFORE}))
    assert (event.base, event.is_push_to_main) == (BEFORE, True)


def test_the_first_push_of_a_branch_starts_from_nothing(tmp_path: Path) -> None:
    event = read_event(environ(tmp_path, "push", "refs/heads/new", {"before": "0" * 40}))
    assert (event.base, event.is_push_to_main) == ("", False)


def test_a_tag_starts_from_nothing(tmp_path: Path) -> None:
    assert read_event(environ(tmp_path, "push", "refs/tags/v1.0.0", {"before": BEFORE})).base == ""


def test_a_pull_request_starts_from_its_target(tmp_path: Path) -> None:
    event = read_event(
        environ(tmp_path, "pull_request", "refs/pull/7/head", {"pull_request": {"base": {"sha": BASE}}})
    )
    assert (event.base, event.is_push_to_main) == (BASE, False)


def test_a_run_by_hand_or_by_the_clock_starts_from_nothing(tmp_path: Path) -> None:
    for name in ("workflow_dispatch", "schedule"):
        assert read_event(environ(tmp_path, name, "refs/heads/main", {"before": BEFORE})).base == ""


def test_outside_a_workflow_there_is_no_event(tmp_path: Path) -> None:
    assert read_event({}).name == ""
    assert read_event(environ(tmp_path, "push", "refs/heads/main", None)).base == ""
