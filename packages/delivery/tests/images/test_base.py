"""Which base images stand on; the programs that fetch or make it are stand-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.images.base import DEBIAN, PYTHON_ORG, chosen, debian

if TYPE_CHECKING:
    from pathlib import Path

MAKES = 'for word in "$@"; do case "$word" in *.tar) echo "$SOURCE_DATE_EPOCH" > "$word";; esac; done\n'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}")
    (folder / name).chmod(0o755)


def test_the_base_that_is_said_is_taken_and_nobody_is_asked(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE", "registry.example.com/python:3.13")
    program(programs, "skopeo", f"touch {programs}/asked\n")
    assert chosen() == "registry.example.com/python:3.13"
    assert not (programs / "asked").exists()


def test_the_image_of_python_org_is_taken_where_a_registry_gives_it(programs: Path) -> None:
    program(programs, "skopeo", f'[ "$3" = docker://{PYTHON_ORG} ]\n')
    assert chosen() == PYTHON_ORG


def test_debian_is_taken_and_said_where_no_registry_answers(
    programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(programs, "skopeo", "exit 1\n")
    assert chosen() == DEBIAN
    assert f"no registry gives {PYTHON_ORG}" in capsys.readouterr().err


def test_debian_is_taken_where_nothing_can_ask(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs))
    assert chosen() == DEBIAN


def test_the_debian_base_is_made_once(programs: Path, tmp_path: Path) -> None:
    program(programs, "mmdebstrap", f"echo made >> {programs}/made\n{MAKES}")
    first, second = debian(tmp_path / "cache"), debian(tmp_path / "cache")
    assert first == second == tmp_path / "cache" / "trixie.tar"
    assert first.read_text() == "0\n", "its times do not depend on the day"
    assert (programs / "made").read_text() == "made\n"
    assert list((tmp_path / "cache").iterdir()) == [first], "nothing else is left"


def test_a_base_that_cannot_be_made_is_told_and_nothing_half_made_stays(
    programs: Path, tmp_path: Path
) -> None:
    program(programs, "mmdebstrap", f"{MAKES}echo E: no network >&2\nexit 100\n")
    with pytest.raises(DeliveryError, match=r"(?s)the base could not be made: .*E: no network"):
        debian(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
