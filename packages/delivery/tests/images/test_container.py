"""Containers, run for real: what they print, how they end, that none is left."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.images import container as room
from handler_delivery.images.container import container, python
from handler_delivery.images.work import work

if TYPE_CHECKING:
    from conftest import Yard

    from handler_delivery.images.buildah import Buildah
    from handler_delivery.images.container import Container

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGE = "localhost/chat-handler"
INTERPRETER = ["--entrypoint=/usr/bin/python3"]
TELLS = "import os, sys; print('to stdout', flush=True); print('to stderr', file=sys.stderr, flush=True)"
WAITS = f"import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); {TELLS}; signal.pause()"


@pytest.fixture
def machine(yard: Yard) -> Buildah:
    yard.build("chat-handler")
    return yard.machine


def exists(machine: Buildah, name: str) -> bool:
    return not subprocess.run([*machine.run(), "container", "exists", name], check=False).returncode


def until_it_prints(running: Container, text: str) -> None:
    """Follow what it prints until it is there."""
    command = [*running._command, "logs", "--follow", running.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as following:
        assert following.stdout
        assert any(text in line for line in following.stdout)
        following.terminate()


def test_both_streams_are_in_the_logs_and_the_status_is_its_own(machine: Buildah) -> None:
    code = f"{TELLS}; sys.exit(3)"
    with container(machine, IMAGE, "-c", code, options=INTERPRETER) as running:
        assert running.wait() == 3
        assert sorted(running.logs().splitlines()) == ["to stderr", "to stdout"]
        assert running.stop() == 3, "one that has ended keeps its status"


def test_the_stop_signal_is_sigterm_and_the_status_is_what_it_exits_with(machine: Buildah) -> None:
    with container(machine, IMAGE, "-c", f"import sys; {WAITS}", options=INTERPRETER) as running:
        until_it_prints(running, "to stderr")
        assert running.state("Running") == "true"
        assert running.stop() == 7


def test_one_that_ignores_the_stop_signal_is_killed(
    machine: Buildah, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "GRACE", 1)
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {TELLS}; signal.pause()"
    with container(machine, IMAGE, "-c", code, options=INTERPRETER) as running:
        until_it_prints(running, "to stderr")
        assert running.stop() == 137


def test_one_that_does_not_end_is_an_error_with_what_it_printed(machine: Buildah) -> None:
    with container(machine, IMAGE, "-c", f"import sys; {WAITS}", options=INTERPRETER) as running:
        until_it_prints(running, "to stderr")
        with pytest.raises(DeliveryError, match=r"(?s)still running after 0\.2 s:\n.*to std"):
            running.wait(0.2)


def test_it_is_gone_after_the_block_also_on_an_error(machine: Buildah) -> None:
    names: list[str] = []
    with (
        suppress(ZeroDivisionError),
        container(machine, IMAGE, "-c", f"import sys; {WAITS}", options=INTERPRETER) as running,
    ):
        names.append(running.name)
        assert exists(machine, running.name)
        _ = 1 / 0
    assert len(names) == 1
    assert not exists(machine, names[0])


def test_what_cannot_be_started_is_an_error_and_leaves_nothing(
    machine: Buildah, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    made = room.Container.__init__

    def noting(self: Container, machine: Buildah, name: str) -> None:
        names.append(name)
        made(self, machine, name)

    monkeypatch.setattr(room.Container, "__init__", noting)
    with (
        pytest.raises(DeliveryError, match=r"(?s)podman.*failed.*nothing-like-it"),
        container(machine, IMAGE, options=["--entrypoint=/nothing-like-it"]),
    ):
        pytest.fail("it started")
    assert not exists(machine, names[0])


def test_it_runs_without_privileges_on_a_root_that_is_read_only(machine: Buildah) -> None:
    status = python(machine, IMAGE, "print(open('/proc/self/status').read())")
    said = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert said["Uid"].split() == ["10001"] * 4
    assert said["Gid"].split() == ["10001"] * 4
    assert (said["CapEff"], said["CapBnd"], said["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    mounted = python(
        machine, IMAGE, "print(*(line for line in open('/proc/mounts') if line.split()[1] == '/'))"
    )
    assert "ro" in mounted.split()[3].split(",")


def test_code_that_fails_in_an_image_shows_its_error(machine: Buildah) -> None:
    with pytest.raises(DeliveryError, match="ModuleNotFoundError: No module named 'nothing'"):
        python(machine, IMAGE, "import nothing")


def test_files_come_on_top_of_an_image(machine: Buildah, yard: Yard) -> None:
    folder = yard.root / "dist" / "files"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "text").write_text("hello")
    image = machine.with_files("chat-handler", folder)
    assert python(machine, image, "print(open('/check/below/text').read())") == "hello\n"


async def test_the_real_service_works_and_exits_0_on_its_stop_signal(machine: Buildah, yard: Yard) -> None:
    assert await asyncio.to_thread(work, machine, yard.member("chat-handler"), "chat-handler") == []
