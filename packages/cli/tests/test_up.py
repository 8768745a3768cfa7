"""`handlers up` as a person runs it: real processes, real ports, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from handler_testkit.nats import free_port
from handler_testkit.services import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 90.0
VOICE = ("stt_module", "tts_module", "voice_assistant")
GUIDE = """# Tower guide

The tower is 120 metres high. It was built in 1889 by three hundred people.

## Tickets

A ticket costs 14 euros. Children under six enter for free.
"""


class Stack:
    """`handlers up` on free ports with a folder of its own."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.ports = {"nats": free_port(), "inference": free_port(), "health": free_port(following=4)}
        self.url = f"nats://127.0.0.1:{self.ports['nats']}"
        self.arguments = arguments
        self.environ = {**os.environ, **environ}
        self.process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        ports = [word for name, port in self.ports.items() for word in (f"--{name}-port", str(port))]
        return [sys.executable, "-m", "handlers_cli", "up", "--data", str(self.data), *ports, *self.arguments]

    def start(self) -> None:
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("w") as err:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, env=self.environ, stdout=out, stderr=err, text=True
            )

    @property
    def said(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def noted(self) -> str:
        return (self.folder / "err").read_text()

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.said}\n{self.noted}"
            time.sleep(0.02)

    def ready(self) -> None:
        self.until(lambda: "The stack is ready" in self.said or self.process.poll() is not None, "not ready")
        assert self.process.poll() is None, self.said + self.noted

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def children(self) -> dict[str, int]:
        """Return the processes of the parts by name, from the kernel's list."""
        found = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):
                command = (folder / "cmdline").read_text().split("\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    name = Path(command[0]).name if "-m" not in command else command[command.index("-m") + 1]
                    found[name] = int(folder.name)
        return found

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.handlers("ask", *arguments)

    def handlers(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "handlers_cli", command, "--nats-url", self.url, *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(DEADLINE)


def gone(pids: list[int]) -> bool:
    return not any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() for pid in pids
    )


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    stacks: list[Stack] = []

    def make(*arguments: str, start: bool = True, voice: bool = False, **environ: str) -> Stack:
        # What is not about the voice does without it, and is quick.
        stack = Stack(tmp_path, *([] if voice else ["--no-voice"]), *arguments, **environ)
        stacks.append(stack)
        if start:
            stack.start()
        return stack

    yield make
    for each in stacks:
        each.close()


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "guide.md").write_text(GUIDE)
    return folder


def test_it_comes_up_answers_from_the_documents_and_stops_cleanly(stack, guide: Path) -> None:
    up = stack("--docs", str(guide), voice=True)
    up.ready()
    assert up.said.count("✓") == 8, up.said
    assert f"--nats-url {up.url}" in up.said
    answer = up.ask("How high is the tower?")
    assert answer.returncode == 0, answer.stderr
    assert "The tower is 120 metres high." in answer.stdout
    assert "Sources" in answer.stdout
    assert "guide.md" in answer.stdout
    stored = up.ask("--user", "ada", "--json", "What does a ticket cost?")
    assert "14 euros" in json.loads(stored.stdout)["response"]
    parts = up.children()
    assert {"nats-server", "local_inference", "chat_handler", *VOICE, "pipeline_bridge"} == set(parts)
    services = ["chat-handler", "stt-module", "tts-module", "voice-assistant", "pipeline-bridge"]
    for number, name in enumerate(services):
        assert f"http://127.0.0.1:{up.ports['health'] + number}/readyz  {name}" in up.said
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 0
    assert gone(list(parts.values()))
    order = [line.split()[1] for line in up.said.splitlines() if "stopped" in line]
    assert order == [*reversed(services), "local-inference", "nats-server"]
    assert up.noted == "" or "flite" in up.noted


def test_a_folder_that_is_triggered_is_answered_from_without_a_restart(
    stack, guide: Path, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "harbour.md").write_text("# Harbour\n\nThe harbour has room for ninety ships.")
    up = stack("--docs", str(guide))
    up.ready()
    assert "trigger" in up.said
    assert "ninety" not in up.ask("For how many ships does the harbour have room?").stdout
    run = up.handlers("trigger", "document-ingestion", "source-url=more", "--jsonl")
    assert run.returncode == 0, run.stdout + run.stderr
    statuses = [json.loads(line)["PipelineStatus"] for line in run.stdout.splitlines()]
    assert [each["sequence"] for each in statuses] == list(range(1, len(statuses) + 1))
    assert (statuses[0]["status"], statuses[-1]["status"]) == ("submitted", "succeeded")
    assert "1 added" in statuses[-1]["message"]
    running = [each["message"] for each in statuses if each["status"] == "running"]
    assert "" not in running[1:], "what was said of the progress is not taken back"
    assert "ninety ships" in up.ask("For how many ships does the harbour have room?").stdout
    assert "120 metres" in up.ask("How high is the tower?").stdout, "what was there before is still there"
    refused = up.handlers("trigger", "model-evaluation", "dataset-url=x")
    assert refused.returncode == 1
    assert "there are: document-ingestion" in refused.stderr


def test_pipelines_of_ones_own_run_there_and_end_with_the_stack(stack, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        """[waits]
engine = "local"
command = ["python", "-c", "import time; print('waiting for', '{what}', flush=True); time.sleep(600)"]
parameters.what.default = "ever"
"""
    )
    up = stack(PIPELINES_FILE=str(tmp_path / "own.toml"))
    up.ready()
    request_id = up.handlers("trigger", "waits", "--detach").stdout.strip()

    def waits() -> bool:
        return "waiting for ever" in up.handlers("runs").stdout

    up.until(waits, "does not run")
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 0
    (state,) = (up.data / "runs").glob("*/state.json")
    assert json.loads(state.read_text())["stage"] == "failed"
    assert gone([json.loads(state.read_text())["pid"]])
    up.start()
    up.ready()
    assert "was stopped together with the bridge" in up.handlers("runs", request_id).stderr


async def test_a_minute_of_speech_fits_into_one_message(stack) -> None:
    up = stack()
    up.ready()
    async with Client(up.url) as client:
        assert client.connection.max_payload == 8 * 1024 * 1024


def test_without_voice_the_services_of_the_voice_are_left_out(stack) -> None:
    up = stack()
    up.ready()
    assert not set(VOICE) & set(up.children())
    assert "pipeline_bridge" in up.children()
    assert "handlers say" not in up.said
    assert " talk " not in up.said


def test_a_voice_that_is_missing_is_told_with_how_to_get_it(stack, tmp_path: Path) -> None:
    up = stack(voice=True, PATH=str(tmp_path))
    up.ready()
    assert up.noted.count("flite is missing") == 1
    assert "apt install flite" in up.noted
    assert " say " in up.said
    assert "question.wav -o answer.wav" in up.said, "nothing here plays sound"


def test_a_voice_from_elsewhere_needs_no_program_here(stack, tmp_path: Path) -> None:
    up = stack(voice=True, PATH=str(tmp_path), TTS_URL="http://127.0.0.1:9/tts")
    up.until(lambda: "starting" in up.said, "nothing starts")
    assert up.noted == ""


def test_two_parts_on_one_port_are_told(stack) -> None:
    up = stack(start=False)
    up.ports["inference"] = up.ports["health"]
    up.start()
    assert up.wait() == 2
    assert f"port {up.ports['health']} is for local-inference and for chat-handler's probes" in up.noted


def test_one_question_is_answered_on_standard_output_and_everything_ends(stack, guide: Path) -> None:
    up = stack("--docs", str(guide), "--ask", "What does a ticket cost?")
    assert up.wait() == 0, up.noted
    assert "14 euros" in up.said
    assert "✓" not in up.said
    assert "documents" in up.noted
    assert not up.children()


def test_after_a_question_it_stays_up_when_told_to(stack, guide: Path) -> None:
    up = stack("--docs", str(guide), "--ask", "How high is the tower?", "--stay")
    up.ready()
    assert "How high is the tower?" in up.said + up.noted
    assert "120 metres" in up.said
    assert up.ask("How high is the tower?").returncode == 0
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 0


def test_a_question_goes_to_the_stack_that_runs_already(stack, tmp_path: Path) -> None:
    up = stack()
    up.ready()
    again = subprocess.run(
        [*up.command(), "--ask", "Who is there?"], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE,
        check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "runs already" in again.stderr
    assert "I found nothing about that" in again.stdout


def test_ctrl_c_during_an_answer_cancels_it(stack) -> None:
    up = stack(LLM_TOKENS_PER_SECOND="0.2")
    up.ready()
    with subprocess.Popen(
        [sys.executable, "-m", "handlers_cli", "ask", "--nats-url", up.url, "Why?"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as asking:  # fmt: skip
        assert asking.stdout.read(1) == "I"
        asking.send_signal(signal.SIGINT)
        assert asking.wait(DEADLINE) == 130
        assert asking.stderr.read() == "cancelled\n"


def test_a_taken_port_is_told_with_the_option_to_change(stack) -> None:
    up = stack(start=False)
    with socket.create_server(("127.0.0.1", up.ports["inference"])):
        up.start()
        assert up.wait() == 2
    assert f"port {up.ports['inference']} for local-inference" in up.noted
    assert "--inference-port" in up.noted
    assert "Traceback" not in up.noted


def test_a_part_that_dies_ends_the_stack_with_its_last_words(stack) -> None:
    up = stack()
    up.ready()
    parts = up.children()
    os.kill(parts["local_inference"], signal.SIGKILL)
    assert up.wait() == 1
    assert "local-inference was ended by SIGKILL" in up.noted
    assert "listening on" in up.noted, "its last lines are shown"
    assert str(up.data / "logs" / "local-inference.log") in up.noted
    assert gone(list(parts.values()))


def test_a_part_that_cannot_start_is_told_with_its_reason(stack) -> None:
    up = stack(LLM_GGUF="/nowhere.gguf")
    assert up.wait() == 1
    assert "/nowhere.gguf: there is no such file" in up.noted
    assert not up.children()


def test_two_stacks_do_not_share_a_folder(stack, tmp_path: Path) -> None:
    up = stack()
    up.ready()
    other = Stack(tmp_path)
    done = subprocess.run(
        other.command(), cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 2
    assert "--data" in done.stderr


def test_documents_that_are_not_there_are_told(stack) -> None:
    up = stack("--docs", "nothing-here")
    assert up.wait() == 2
    assert "nothing-here" in up.noted


def test_stopping_while_it_starts_leaves_nothing_behind(stack) -> None:
    up = stack()
    up.until(lambda: "starting" in up.said, "nothing starts")
    up.process.send_signal(signal.SIGTERM)
    assert up.wait() == 0
    assert not up.children()


def test_a_second_ctrl_c_does_not_wait(stack) -> None:
    up = stack()
    up.ready()
    parts = up.children()
    os.kill(parts["chat_handler"], signal.SIGSTOP)  # it will not end by itself
    up.process.send_signal(signal.SIGINT)
    up.until(lambda: "stopping" in up.said, "does not stop")
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 130
    assert gone(list(parts.values()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends children with their parent")
def test_nothing_outlives_a_killed_stack(stack) -> None:
    up = stack()
    up.ready()
    parts = list(up.children().values())
    up.process.kill()
    up.wait()
    up.until(lambda: gone(parts), "parts live on")


def test_verbose_prints_what_the_parts_log(stack) -> None:
    up = stack("--verbose")
    up.ready()
    up.until(lambda: "local-inference | " in up.noted and "nats-server | " in up.noted, "no logs")
