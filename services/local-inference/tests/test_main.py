"""The process: start, probes, a broken model, the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from handler_testkit.nats import free_port
from handler_testkit.speech import needs_flite, speak, wav

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def process(**environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = environ.setdefault("PORT", str(free_port()))
    with subprocess.Popen(
        [sys.executable, "-m", "local_inference"],
        env={**os.environ, **environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running, f"http://127.0.0.1:{port}"
        finally:
            running.kill()


def get(url: str) -> tuple[int, dict]:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def ready(url: str) -> None:
    deadline = time.monotonic() + 20
    while get(f"{url}/readyz")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_becomes_ready_and_ends_with_0_when_told_to_stop(number: signal.Signals) -> None:
    with process() as (running, url):
        assert get(f"{url}/healthz")[1]["status"] == "ok"
        ready(url)
        running.send_signal(number)
        assert running.wait(10) == 0
        assert "Traceback" not in running.stderr.read()


def test_a_model_that_cannot_be_read_leaves_it_alive_but_not_ready(tmp_path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with process(LLM_GGUF=str(broken)) as (_, url):
        deadline = time.monotonic() + 20
        while "cannot load" not in (told := get(f"{url}/readyz"))[1]["missing"][0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert told[0] == 503
        assert "broken.gguf" in told[1]["missing"][0]
        assert get(f"{url}/healthz")[0] == 200


def test_a_taken_port_is_told_with_the_setting_to_change() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        process(PORT=str(taken.getsockname()[1])) as (running, _),
    ):
        assert running.wait(20) == 2
        told = running.stderr.read()
        assert "set HOST or PORT" in told
        assert "Traceback" not in told


def test_wrong_settings_are_all_told_at_once() -> None:
    with process(PORT="99999", LOG_LEVEL="loud") as (running, _):
        assert running.wait(20) == 2
        told = running.stderr.read()
        assert "PORT" in told
        assert "LOG_LEVEL" in told


def test_help_lists_the_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local_inference", "--help"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "LLM_GGUF" in done.stdout


def test_importing_the_app_loads_no_model_library() -> None:
    code = (
        "import sys, local_inference.app; "
        "print([m for m in ('numpy', 'tokenizers', 'bm25s', 'xllamacpp', 'torch', 'soundfile', 'pocketsphinx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_flite
def test_hearing_needs_no_part_of_numpy_that_images_lack() -> None:
    """Masked arrays read docstrings when they are imported."""
    code = (
        "import sys; from local_inference.listener import Job, Recognizer; "
        "heard = Recognizer().hear(sys.stdin.buffer.read(), Job()); "
        "print([m for m in ('numpy.ma', 'numpy.testing', 'wave') if m in sys.modules], heard.segments[0].text)"
    )
    speech = wav(speak("Please turn off the light in the kitchen."))
    done = subprocess.run([sys.executable, "-c", code], input=speech, capture_output=True, check=True)
    assert done.stdout.decode().startswith("[] please turn")
