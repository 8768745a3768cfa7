"""The tags of the images of a commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_delivery.__main__ import main
from handler_delivery.tags import MAIN_TAG, main_tag

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from conftest import Checkout


def commit_at(checkout: Checkout, when: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GIT_COMMITTER_DATE", when)
    return checkout.commit()


def test_a_tag_says_when_the_commit_was_made_in_utc_and_which_it_is(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = commit_at(checkout, "2026-03-01T00:30:05+02:00", monkeypatch)
    tag = main_tag(checkout.repository)
    assert tag == f"main-20260228223005-{commit[:7]}"
    assert MAIN_TAG.fullmatch(tag)


def test_tags_sort_as_text_in_the_order_of_the_commits(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = []
    for when in ("2026-09-30T23:59:59Z", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"):
        commit_at(checkout, when, monkeypatch)
        tags.append(main_tag(checkout.repository))
    assert sorted(tags) == tags


def test_the_tag_of_a_commit_is_the_same_in_a_second_run(
    checkout: Checkout, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tag"]) == 0
    assert main(["tag"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert outputs.read_text().splitlines()[:3] == [
        f"tags={first}",
        "registry=git.example.com/ada",
        "host=git.example.com",
    ]
