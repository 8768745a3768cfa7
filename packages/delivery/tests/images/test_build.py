"""`delivery images`: what is built, what is said, how it exits. The engine is a stand-in that writes archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_delivery.__main__ import main
from handler_delivery.images import build as room, check as checks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conftest import Checkout, Oci

    from handler_delivery.workspace import Member

SERVICES = [
    "chat-handler",
    "document-ingestion",
    "local-inference",
    "pipeline-bridge",
    "stt-module",
    "tts-module",
    "voice-assistant",
]


class StandIn:
    """Writes archives made by hand, and notes what it was asked."""

    def __init__(self, oci: Oci) -> None:
        self._oci = oci
        self.built: list[tuple[list[str], str, bool, bool]] = []
        self.checked: list[tuple[str, str, bool]] = []
        self.problems: dict[tuple[str, bool], list[str]] = {}

    def build(
        self, members: Sequence[Member], folder: Path, *, debug: bool = False, fresh: bool = False
    ) -> None:
        self.built.append(([member.name for member in members], folder.name, debug, fresh))
        for member in members:
            self._oci.write(
                self._oci.image(self._oci.layer(self._oci.Entry("a", "x" * 1_500_000))),
                to=folder / f"{member.name}.tar",
            )

    def check(self, machine: object, member: Member, folder: Path, *, debug: bool = False) -> list[str]:
        self.checked.append((member.name, folder.name, debug))
        return self.problems.get((member.name, debug), [])


@pytest.fixture
def machine(checkout: Checkout, oci: Oci, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(oci)
    monkeypatch.setattr(room, "engine", lambda root: stand_in)
    monkeypatch.setattr(checks, "check", stand_in.check)
    return stand_in


def test_every_service_is_built_and_checked_without_a_shell_and_with_one(
    machine: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images"]) == 0
    assert machine.built == [(SERVICES, "images", False, False), (SERVICES, "debug", True, False)]
    assert machine.checked == [
        (name, folder, debug) for name in SERVICES for folder, debug in (("images", False), ("debug", True))
    ]
    said = capsys.readouterr().out
    assert "chat-handler: 1.5 MB, 0.0 MB compressed, sha256:" in said
    assert said.count("every check passed") == 2 * len(SERVICES)


def test_one_problem_makes_it_fail_and_all_are_told(
    machine: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.problems[("chat-handler", True)] = ["there is no shell in the debug image", "and another"]
    assert main(["images", "chat-handler", "document-ingestion"]) == 1
    said = capsys.readouterr().out
    assert "chat-handler-debug: FAIL there is no shell in the debug image\n" in said
    assert "chat-handler-debug: FAIL and another\n" in said
    assert "chat-handler: every check passed\n" in said
    assert "document-ingestion: every check passed\n" in said


def test_the_shell_and_the_checks_can_be_left_out(machine: StandIn) -> None:
    assert main(["images", "--no-debug", "--no-check", "--fresh", "chat-handler"]) == 0
    assert machine.built == [(["chat-handler"], "images", False, True)]
    assert machine.checked == []


def test_a_service_that_is_not_known_is_not_built(
    machine: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", "nothing"]) == 2
    assert "no service 'nothing' with a Dockerfile" in capsys.readouterr().err
    assert machine.built == []
