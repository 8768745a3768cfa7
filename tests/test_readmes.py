"""Every command of every README does what it says, on a local stack of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from handler_testkit.nats import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
READMES = sorted([ROOT / "README.md", *ROOT.glob("packages/*/README.md"), *ROOT.glob("services/*/README.md")])
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPOKEN = re.compile(r"handlers (say|talk|transcribe|voices)\b")
RUNS_UNTIL_STOPPED = re.compile(r"handlers watch|--package (\S+) \1\s*(#|$)", re.MULTILINE)


class Command(NamedTuple):
    readme: str
    text: str


def commands() -> list[Command]:
    """Return the commands of all `sh` blocks; one may go over several lines."""
    found = []
    for readme in READMES:
        for block in BLOCK.findall(readme.read_text()):
            pending = ""
            for line in block.splitlines():
                pending += f"{line}\n"
                try:
                    words = shlex.split(pending, comments=True)
                except ValueError:
                    continue  # a quotation goes on
                if words:
                    found.append(Command(readme.relative_to(ROOT).as_posix(), pending.strip()))
                pending = ""
            assert not pending.strip(), f"{readme}: {pending}"
    return found


COMMANDS = commands()


class Stack(NamedTuple):
    environ: dict[str, str]
    inference: int

    def said_here(self, text: str) -> str:
        """Return a command with the addresses of this stack in place of the README's examples."""
        here = f"http://127.0.0.1:{self.inference}"
        text = text.replace("http://127.0.0.1:8000", here).replace("http://vllm:8000/v1", f"{here}/llm/v1")
        return text.replace("nats://nats:4222", self.environ["NATS_URL"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    data = tmp_path_factory.mktemp("stack")
    nats, inference, health = free_port(), free_port(), free_port(following=4)
    ports = [f"--nats-port={nats}", f"--inference-port={inference}", f"--health-port={health}"]
    with (data / "out").open("w") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "handlers_cli", "up", "--data", str(data), *ports],
            cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while "The stack is ready" not in (data / "out").read_text():
            assert up.poll() is None, (data / "out").read_text()
            assert time.monotonic() < deadline, (data / "out").read_text()
            time.sleep(0.1)
        url = f"http://127.0.0.1:{inference}"
        environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{ROOT / '.uv' / 'bin'}:{os.environ['PATH']}",
            "NATS_URL": f"nats://127.0.0.1:{nats}",
            "EMBEDDINGS_URL": f"{url}/embeddings",
            "SQLITE_PATH": str(data / "readme.db"),
            "HEALTH_PORT": "0",
            "PORT": str(free_port()),
            "UV_NO_SYNC": "1",
        }
        yield Stack(environ, inference)
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0, (data / "out").read_text()


def test_every_member_has_a_readme_that_says_something() -> None:
    members = sorted([*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
    for member in members:
        assert len((member.parent / "README.md").read_text().split()) > 30, member.parent
    for service in ROOT.glob("services/*/README.md"):
        assert any(c.readme == service.relative_to(ROOT).as_posix() for c in COMMANDS), (
            f"{service}: no command"
        )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.readme}: {c.text.splitlines()[0][:60]}")
def test_a_command_of_a_readme_works(stack: Stack, command: Command) -> None:
    text = stack.said_here(command.text)
    words = shlex.split(text, comments=True)
    if SPOKEN.search(text) and shutil.which("flite") is None:
        pytest.skip("flite is not installed: the stack cannot speak")
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True, timeout=60)
    elif words[:2] == ["handlers", "up"]:
        subprocess.run(
            [*words, "--help"], cwd=ROOT, env=stack.environ, check=True, capture_output=True, timeout=60
        )
    elif RUNS_UNTIL_STOPPED.search(text):
        _runs_until_stopped(stack, text)
    else:
        done = subprocess.run(
            ["bash", "-c", text], cwd=ROOT, env=stack.environ, capture_output=True, text=True, timeout=90, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.strip()


def _runs_until_stopped(stack: Stack, text: str) -> None:
    """Start it, see that it lives, interrupt it as Ctrl-C would, and expect a clean end."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec env {text}" if "=" in text.split(maxsplit=1)[0] else f"exec {text}"],
        cwd=ROOT, env=stack.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)  # it would have ended by now if it could not start
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert process.returncode in {0, 130}, out
        assert "Traceback" not in out
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
