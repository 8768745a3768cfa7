"""The workspace as a graph: what of the lock file decides an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_delivery.workspace import Lock

if TYPE_CHECKING:
    from conftest import Checkout

LOCK = """
[[package]]
name = "app"
version = "0.1.0"
source = { editable = "services/app" }
dependencies = [{ name = "web" }]
[package.metadata]
requires-dist = [{ name = "web", specifier = ">=1" }]

[[package]]
name = "web"
version = "1.0"
[package.optional-dependencies]
fast = [{ name = "loop" }]

[[package]]
name = "loop"
version = "1.0"
"""


def test_two_locks_say_the_same_of_a_member_when_only_others_differ() -> None:
    other = LOCK + '\n[[package]]\nname = "other"\nversion = "2.0"\n'
    assert Lock(LOCK).content("app") == Lock(other).content("app")
    assert Lock(LOCK).content("app") != Lock(
        LOCK.replace('"web"\nversion = "1.0"', '"web"\nversion = "1.1"')
    ).content("app")


def test_an_extra_that_the_member_does_not_ask_for_is_not_its_content() -> None:
    with_extra = LOCK.replace(
        'fast = [{ name = "loop" }]', 'fast = [{ name = "loop" }]\nslow = [{ name = "app" }]'
    )
    assert Lock(LOCK).content("app") == Lock(with_extra).content("app")
    assert ("loop", ()) not in Lock(LOCK).closure("app")


def test_an_extra_that_the_member_asks_for_is_its_content() -> None:
    asks = LOCK.replace(
        'dependencies = [{ name = "web" }]', 'dependencies = [{ name = "web", extra = ["fast"] }]'
    )
    assert ("loop", ()) in Lock(asks).closure("app")
    assert Lock(asks).content("app") != Lock(LOCK).content("app")
    moved = asks.replace('fast = [{ name = "loop" }]', 'fast = [{ name = "loop", marker = "os_name" }]')
    assert Lock(asks).content("app") != Lock(moved).content("app")


def test_a_developer_dependency_of_a_member_is_not_its_content() -> None:
    dev = LOCK.replace(
        "[package.metadata]", '[package.dev-dependencies]\ndev = [{ name = "other" }]\n[package.metadata]'
    )
    assert Lock(LOCK).content("app") == Lock(dev).content("app")


def test_the_inputs_of_an_image_are_what_it_stands_on_and_what_the_build_sees(checkout: Checkout) -> None:
    inputs = checkout.workspace.inputs("chat-handler")
    assert {"images", ".dockerignore", "packages/messages/src", "packages/handler-base/src"} <= set(inputs)
    assert "services/chat-handler/Dockerfile" in inputs
    assert not [
        path for path in inputs if "tests" in path or "document-ingestion" in path or "testkit" in path
    ]


def test_touched_says_the_members_of_the_reasons(checkout: Checkout) -> None:
    workspace = checkout.workspace
    changed = ["services/chat-handler/src/chat_handler/answer.py", "docs/ci.md"]
    assert workspace.reasons(changed, workspace.lock) == {"chat-handler": changed[0]}
    assert [member.name for member in workspace.touched(changed, workspace.lock)] == ["chat-handler"]
