"""The next version, from what the commits say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.versions import (
    Step,
    Version,
    changes_since,
    last_release,
    next_version,
    read_change,
)

if TYPE_CHECKING:
    from conftest import Checkout


@pytest.mark.parametrize(
    ("message", "step"),
    [
        ("Fix the reconnect", Step.PATCH),
        ("fix: reconnect", Step.PATCH),
        ("docs: say more", Step.PATCH),
        ("feat: greet in the user's language", Step.MINOR),
        ("feat(chat-handler): greet", Step.MINOR),
        ("Feat: greet", Step.MINOR),
        ("minor: greet", Step.MINOR),
        ("major: drop MessagePack", Step.MAJOR),
        ("feat!: drop MessagePack", Step.MAJOR),
        ("fix(wire)!: drop MessagePack", Step.MAJOR),
        ("fix: reconnect\n\nBREAKING CHANGE: NATS_URL is required now.", Step.MAJOR),
        ("Reconnect\n\nBREAKING-CHANGE: NATS_URL is required now.", Step.MAJOR),
        ("BREAKING CHANGE: drop MessagePack", Step.MAJOR),
        ("Say that this is no BREAKING CHANGE at all", Step.PATCH),
        ("Makefile: name the targets", Step.PATCH),
        ("feature: greet", Step.PATCH),
        ("feat:greet", Step.PATCH),
        ("A major: piece of work", Step.PATCH),
    ],
)
def test_a_message_says_how_far_it_moves_the_version(message: str, step: Step) -> None:
    assert read_change("c" * 40, message).step is step


def test_a_message_is_taken_apart() -> None:
    change = read_change("c" * 40, "feat(wire): one more field\n\nBREAKING CHANGE: old clients\nfail.")
    assert (change.type, change.scope, change.text, change.breaking) == (
        "feat",
        "wire",
        "one more field",
        "old clients",
    )
    plain = read_change("c" * 40, "Makefile: name the targets")
    assert (plain.type, plain.text, plain.breaking) == ("", "Makefile: name the targets", "")


def test_the_largest_step_of_all_changes_counts_once() -> None:
    said = ["fix: a", "feat: b", "feat: c", "d"]
    assert str(next_version(Version(1, 2, 3), [read_change("c", text) for text in said])) == "1.3.0"
    assert str(next_version(Version(1, 2, 3), [read_change("c", "fix: a")])) == "1.2.4"
    assert str(next_version(Version(0, 2, 3), [read_change("c", "major: a")])) == "1.0.0"


def test_a_version_reads_with_and_without_its_v_and_nothing_else() -> None:
    assert Version.parse("v1.2.3") == Version.parse("1.2.3") == Version(1, 2, 3)
    for text in ("1.2", "v1.2.3-rc1", "main-20260101000000-abcdefa", ""):
        with pytest.raises(DeliveryError, match=r"no version X\.Y\.Z"):
            Version.parse(text)


def test_the_last_release_is_the_highest_that_this_commit_stands_on(checkout: Checkout) -> None:
    assert last_release(checkout.repository) == ""
    for tag in ("v0.9.0", "v0.10.0", "nightly", "v2"):
        checkout.git("tag", tag)
    checkout.git("switch", "--quiet", "-c", "aside")
    checkout.commit()
    checkout.git("tag", "v7.0.0")
    checkout.git("switch", "--quiet", "main")
    assert last_release(checkout.repository) == "v0.10.0"


def test_merges_and_releases_say_nothing_of_their_own(checkout: Checkout) -> None:
    checkout.git("tag", "v1.0.0")
    checkout.git("switch", "--quiet", "-c", "aside")
    checkout.commit("feat: greet\n\nIn the body: several\nlines.")
    checkout.git("switch", "--quiet", "main")
    checkout.commit("Release 1.0.1 [skip ci]")
    checkout.commit("fix: Grüße")
    checkout.git("merge", "--quiet", "--no-ff", "-m", "feat: a merge", "aside")
    assert {change.text for change in changes_since(checkout.repository, "v1.0.0")} == {"greet", "Grüße"}
    assert changes_since(checkout.repository, "HEAD") == []
