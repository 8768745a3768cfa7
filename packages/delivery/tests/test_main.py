"""The command `delivery`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from handler_delivery.__main__ import VERBS, main

if TYPE_CHECKING:
    from conftest import Checkout

WITH_PYTHON_ALONE = ["affected", "tag", "release", "wheels", "publish", "notify"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_takes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert len(capsys.readouterr().out.split()) > 10


def test_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(verb in said for verb in VERBS)


def test_an_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["deploy-it"])
    assert end.value.code == 2
    assert "deploy-it" in capsys.readouterr().err


@pytest.mark.parametrize("verb", WITH_PYTHON_ALONE)
def test_what_plans_and_tells_needs_python_alone(verb: str, checkout: Checkout) -> None:
    environ = {**os.environ, "PYTHONPATH": "packages/delivery/src"}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "handler_delivery", verb, "--help"],
        cwd=checkout.root, env=environ, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_went_wrong_is_said_in_a_line_not_a_traceback(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/")
    assert main(["tag"]) == 2
    assert (
        capsys.readouterr().err
        == "delivery: / is in no workspace: no pyproject.toml above it has [tool.uv.workspace]\n"
    )
