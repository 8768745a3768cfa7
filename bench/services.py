"""The services beside chat-handler: how they start, beside the peer, and what memory they take; a part of `make budgets`.

The endpoints are those of the test kit, in processes of their own: transcriptions, a model, speech, an Argo Server.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Generator

from measure import (
    HERE,
    PEER_COMMAND,
    PROGRAMS,
    SERVICES,
    Bench,
    Figures,
    Row,
    bench,
    end,
    figure,
    rss_mb,
    start_only,
    tell,
)

from handler_messages import subjects

STARTS = 12
REQUESTS = 1000
START_RATIO, READY_MB, WORKED_MB = 0.35, 40.0, 48.0

ASKED = {
    "pipeline-bridge": subjects.PIPELINE_LIST.template,
    "tts-module": subjects.TTS_VOICES_LIST.template,
    "voice-assistant": subjects.VOICE_REQUEST.template,
}
"""What a service is asked at its start, by an empty message: two list their pipelines and voices, one says that there is no audio.
One that serves no request/reply answers `$SRV.PING`."""

LOAD = "load_services.py"


def ping(service: str) -> dict[str, object]:
    return {"script": LOAD, "mode": "start", "subject": f"$SRV.PING.{service}"}


@contextlib.contextmanager
def endpoints(running: Bench) -> Generator[None]:
    """Serve what the services call for the length of a `with` block, and tell them where."""
    models = ("-m", "handler_testkit.models", "--tokens", "12", "--interval", "0")
    with _served(running, *models) as url, _served(running, str(HERE / "argo_server.py")) as argo:
        running.environ |= {
            f"{name.upper()}_URL": f"{url}/{name}"
            for name in ("llm", "embeddings", "reranker", "whisper", "tts")
        }
        running.environ |= {"ARGO_HOST": argo, "PIPELINES_FILE": str(HERE / "pipelines.toml")}
        yield


@contextlib.contextmanager
def _served(running: Bench, *arguments: str) -> Generator[str]:
    """Run a server for the length of a `with` block; yields its address, which it prints."""
    server = subprocess.Popen([sys.executable, *arguments], env=running.environ, stdout=subprocess.PIPE)
    try:
        assert server.stdout
        yield server.stdout.readline().decode().strip()
    finally:
        end(server)


def at_work(running: Bench, service: str) -> dict[str, float]:
    """Measure the memory of a service, ready and after its work, and find out what it is asked at its start.

    One that declares no handlers has no work.
    """
    running.starts[service] = ping(service)
    process, _ = running.launch(service)
    try:
        time.sleep(0.5)
        found = {"rss_ready_mb": rss_mb(process.pid)}
        serves = running.ask(process, script=LOAD, mode="info", service=service)["serves"]
        if ASKED.get(service) in serves:
            running.starts[service]["subject"] = ASKED[service]
        if serves:
            running.ask(process, script=LOAD, mode=service, requests=REQUESTS, in_flight=16)
            time.sleep(0.2)
            found["rss_1000_mb"] = rss_mb(process.pid)
        return found
    finally:
        end(process)


def measure() -> Figures:
    """Let each service work, then start all of them and the peer in turn."""
    figures: Figures = {program: {} for program in (*SERVICES, PEER_COMMAND)}

    def note(program: str, found: dict[str, float]) -> None:
        for name, value in found.items():
            figures[program].setdefault(name, []).append(value)

    with bench() as running:
        upstream = running.environ["LLM_URL"]
        with endpoints(running):
            for service in SERVICES:
                tell(f"{service}: {REQUESTS} requests")
                note(service, at_work(running, service))
            scripted = running.environ["LLM_URL"]
            for number in range(1, STARTS + 1):
                tell(f"starts of the services: {number} of {STARTS}")
                for program in (*SERVICES, PEER_COMMAND):
                    running.environ["LLM_URL"] = upstream if PROGRAMS[program][0] == "peer" else scripted
                    note(program, start_only(running, program))
    tell("")
    return figures


def rows(figures: Figures) -> list[Row]:
    """The budgets of each service."""
    found: list[Row] = []
    for service in SERVICES:
        ours, theirs = figure(figures, service, "answered_ms"), figure(figures, PEER_COMMAND, "answered_ms")
        found.append(
            Row(
                f"{service}: process start → subscribed and answering",
                f"≤ {START_RATIO} × {PEER_COMMAND}",
                f"{ours / theirs:.2f} × ({ours:.0f} against {theirs:.0f} ms)",
                ours / theirs / START_RATIO,
            )
        )
        for what, name, most in (
            ("resident memory, ready", "rss_ready_mb", READY_MB),
            (f"resident memory after {REQUESTS:,} requests", "rss_1000_mb", WORKED_MB),
        ):
            if name in figures[service]:
                value = figure(figures, service, name)
                found.append(
                    Row(f"{service}: {what}", f"≤ {most:g} MB", f"{value:.1f} MB", value / most, timed=False)
                )
    return found
