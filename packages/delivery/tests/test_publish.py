"""Uploading wheels to a real package index, and installing them back."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from handler_delivery.__main__ import main
from handler_delivery.wheels import build, uv
from handler_delivery.workspace import Workspace
from handler_testkit.nats import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Checkout

SERVE = """
import sys
from wsgiref.simple_server import make_server
import pypiserver
roots, port = [sys.argv[1]], int(sys.argv[2])
app = pypiserver.app(
    roots=roots, authenticate=["update", "list", "download"], disable_fallback=True, auther=lambda user, password: (user, password) == ("ada", "t0ken")
)
make_server("127.0.0.1", port, app).serve_forever()
"""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """Return the address of a package index that is private: one login may list, install and upload."""
    (tmp_path / "index").mkdir()
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(tmp_path / "index"), str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                break
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def built(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheels."""
    folder = tmp_path_factory.mktemp("wheels")
    build(Workspace(template), folder)
    return folder


@pytest.fixture
def wheels(built: Path, checkout: Checkout, tmp_path: Path) -> Path:
    """Return a copy of that folder, in which a test may change a wheel."""
    return Path(shutil.copytree(built, tmp_path / "wheels"))


def publish(wheels: Path, index: str) -> int:
    return main(["publish", "--from", str(wheels), "--upload", f"{index}/", "--index", f"{index}/simple/"])


def test_wheels_are_uploaded_once_and_install_from_there(
    checkout: Checkout, wheels: Path, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_USER", "ada")
    monkeypatch.setenv("REGISTRY_TOKEN", "t0ken")
    assert publish(wheels, index) == 0
    there = {file.name: file.read_bytes() for file in (tmp_path / "index").iterdir()}
    assert there == {file.name: file.read_bytes() for file in wheels.glob("*.whl")}
    assert publish(wheels, index) == 0
    target = tmp_path / "target"
    subprocess.run(
        [uv(checkout.workspace), "pip", "install", "--quiet", "--no-deps", "--no-config", "--no-cache", "--target", str(target),
         "--default-index", f"{index.replace('://', '://ada:t0ken@')}/simple/", "handler-base==0.1.0", "handler-messages==0.1.0"],
        cwd=tmp_path, check=True, timeout=60,
    )  # fmt: skip
    names = ["handler_base", "handler_messages"]
    code = f"from importlib.util import find_spec; print([find_spec(name).origin for name in {names}])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count(str(target)) == 2


def test_another_content_under_the_same_name_is_an_error(
    wheels: Path, index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGISTRY_USER", "ada")
    monkeypatch.setenv("REGISTRY_TOKEN", "t0ken")
    assert publish(wheels, index) == 0
    wheel = next(wheels.glob("handler_base*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0" * 22)
    assert publish(wheels, index) == 2
    assert f"{wheel.name} was not uploaded" in capsys.readouterr().err


def test_a_wrong_password_is_an_error_that_does_not_repeat_it(
    wheels: Path,
    index: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REGISTRY_USER", "ada")
    monkeypatch.setenv("REGISTRY_TOKEN", "wr0ng")
    assert publish(wheels, index) == 2
    said = capsys.readouterr().err
    assert "was not uploaded" in said
    assert "403" in said or "401" in said
    assert "wr0ng" not in said
    assert not list((tmp_path / "index").iterdir())


def test_without_a_login_or_wheels_or_an_address_one_is_told_what_is_missing(
    checkout: Checkout, wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(wheels, "http://127.0.0.1:1") == 2
    assert "set REGISTRY_USER and REGISTRY_TOKEN" in capsys.readouterr().err
    assert main(["publish", "--from", str(tmp_path / "none")]) == 2
    assert "make wheels" in capsys.readouterr().err
    assert main(["publish", "--from", str(wheels)]) == 2
    assert "UPLOAD=https://git.example.com" in capsys.readouterr().err
