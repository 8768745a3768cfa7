"""The overlay `home` as processes on this machine: what each container is told, with the real parts behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from handler_base.service import ServiceSettings
from handler_delivery.errors import DeliveryError
from handler_delivery.manifests.environment import Environments, settings_class
from handler_delivery.manifests.kubectl import kubectl
from handler_delivery.manifests.render import Rendering, render
from handler_delivery.workspace import Workspace
from handler_testkit.nats import free_port
from handler_testkit.services import ServiceProcess

from .conftest import ROOT, VOICE, password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Secured

QUESTION = "Which subject carries a user's chat message, and how long is it kept?"


@pytest.fixture(scope="module")
def home() -> Rendering:
    try:
        return render(kubectl(ROOT / ".cache" / "tools"), ROOT / "deploy" / "overlays" / "home")
    except DeliveryError as error:
        pytest.skip(f"kubectl cannot be had here: {error}")


@pytest.fixture
def told(home: Rendering, nats: Secured, tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """Return what an object's container is told, with the addresses and folders of this machine."""
    services = {member.name: member for member in Workspace(ROOT).members.values()}
    inference = free_port()
    documents = tmp_path / "documents"
    # As the kubelet mounts a ConfigMap: files are links through a link to a folder whose name starts with dots.
    (documents / "..2026_01_02").mkdir(parents=True)
    (documents / "..data").symlink_to("..2026_01_02")
    for file in (*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")):
        (documents / "..2026_01_02" / file.name).write_text(file.read_text())
        (documents / file.name).symlink_to(f"..data/{file.name}")
    here = {
        "nats://nats:4222": nats.url,
        "http://local-inference:8000": f"http://127.0.0.1:{inference}",
        "0.0.0.0": "127.0.0.1",
        "/data/": f"{tmp_path}/",
        "/documents": str(documents),
        "/run/secrets/argo/token": str(tmp_path / "argo-token"),
        # A ConfigMap that is optional and not there is mounted as an empty folder.
        "/etc/pipelines": str(tmp_path / "pipelines"),
    }
    (tmp_path / "argo-token").write_text("t0ken")
    (tmp_path / "pipelines").mkdir()

    def environ(kind: str, name: str) -> dict[str, str]:
        item = home.find(kind, name)
        assert item
        environment = Environments(home, services).of(item.containers[0])
        assert environment
        values = dict(environment.values)
        (tmp_path / f"password-{name}").write_text(password(name))
        for value, mine in (
            here | {"/run/secrets/nats/password": str(tmp_path / f"password-{name}")}
        ).items():
            values = {key: one.replace(value, mine) for key, one in values.items()}
        if name == "local-inference":
            assert values["PORT"] == "8000"
            values["PORT"] = str(inference)
        values["DOCUMENTS"] = str(documents)
        return values

    return environ


@pytest.fixture
def inference(told: Callable[[str, str], dict[str, str]]) -> Iterator[ServiceProcess]:
    environ = told("Deployment", "local-inference")
    process = ServiceProcess("local_inference", environ)
    process.health_port = int(environ["PORT"])
    process.start()
    yield process
    process.close()


def run(module: str, *arguments: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], env={**os.environ, **environ},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_home_ingests_its_documents_and_answers_whoever_may_ask(
    home: Rendering,
    nats: Secured,
    told: Callable[[str, str], dict[str, str]],
    inference: ServiceProcess,
) -> None:
    del inference
    job = home.find("CronJob", "document-ingestion")
    assert job
    assert job.containers[0]["args"] == ["/documents"]
    environ = told("CronJob", "document-ingestion")
    said = run("document_ingestion", environ["DOCUMENTS"], **environ)
    documents = len(list((ROOT / "docs").rglob("*.md")))
    assert f"documents: {documents} added" in said
    assert " 0 failed" in said
    chat = ServiceProcess("chat_handler", told("Deployment", "chat-handler"))
    try:
        chat.start()
        for arguments in ((), ("--user", "ada", "--session", "s1")):
            answer = run("handlers_cli", "ask", *arguments, QUESTION, **nats.login("frontend"))
            assert "ai.chat.user.{user_id}.message" in answer
            assert "architecture.md" in answer
            assert "violation" not in answer
        answer = run("handlers_cli", "ask", "--json", QUESTION, **nats.login("client"))
        assert '"warnings": []' in answer
        assert "30 days" in run("handlers_cli", "ask", QUESTION, **nats.login("client"))
        assert "violation" not in chat.log()
    finally:
        chat.close()


@pytest.mark.parametrize("name", [*VOICE, "pipeline-bridge"])
def test_a_service_is_ready_with_what_it_is_told_at_home(
    nats: Secured, told: Callable[[str, str], dict[str, str]], inference: ServiceProcess, name: str
) -> None:
    del inference
    process = ServiceProcess(name.replace("-", "_"), told("Deployment", name))
    try:
        process.start()
        assert "violation" not in process.log()
    finally:
        process.close()
    assert "violation" not in nats.log().lower()


def test_the_settings_of_every_service_are_found() -> None:
    names = {
        m.name: settings_class(m.module).__name__ for m in Workspace(ROOT).members.values() if m.is_service
    }
    assert names["chat-handler"] == "ChatSettings"
    assert names["document-ingestion"] == "IngestionSettings"
    assert names["local-inference"] == "LocalInferenceSettings"
    assert issubclass(settings_class("chat_handler"), ServiceSettings)
