"""Which base images stand on; the programs that fetch or make it are stand-ins."""

from __future__ import annotations

from pathlib import Path

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.images.base import DEBIAN, chosen, debian, python_org

ROOT = Path(__file__).resolve().parents[4]
MAKES = 'for word in "$@"; do case "$word" in *.tar) echo "$SOURCE_DATE_EPOCH" > "$word";; esac; done\n'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.delenv("BASE", raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}")
    (folder / name).chmod(0o755)


def base() -> str:
    return chosen(ROOT, "skopeo", "inspect", "--raw", "docker://")


def test_the_base_that_is_said_is_taken_and_nobody_is_asked(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE", "registry.example.com/python:3.13")
    program(programs, "skopeo", f"touch {programs}/asked\n")
    assert base() == "registry.example.com/python:3.13"
    assert not (programs / "asked").exists()


def test_the_image_that_the_dockerfile_names_is_taken_where_a_registry_gives_it(programs: Path) -> None:
    named = f"docker.io/library/{python_org(ROOT)}"
    assert named.startswith("docker.io/library/python:3.13")
    program(programs, "skopeo", f'[ "$3" = docker://{named} ]\n')
    assert base() == named


def test_debian_is_taken_and_said_where_no_registry_answers(
    programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(programs, "skopeo", "exit 1\n")
    program(programs, "mmdebstrap", "")
    assert base() == DEBIAN
    assert f"no registry gives docker.io/library/{python_org(ROOT)}" in capsys.readouterr().err


def test_debian_is_taken_where_nothing_can_ask(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(programs, "mmdebstrap", "")
    monkeypatch.setenv("PATH", str(programs))
    assert base() == DEBIAN


def test_where_no_base_can_be_made_the_registry_is_left_to_the_builder(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs))
    assert base() == f"docker.io/library/{python_org(ROOT)}"


def test_a_dockerfile_that_names_no_base_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(DeliveryError, match="ARG BASE"):
        python_org(tmp_path)


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
