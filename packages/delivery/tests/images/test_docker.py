"""Images by Docker: what BuildKit is told, read by a stand-in for the command; and where an engine is, for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.images.check import check
from handler_delivery.images.docker import Docker
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    from conftest import Checkout

ROOT = Path(__file__).resolve().parents[4]
TITLE = "org.opencontainers.image"

STAND_IN = """#!{python} -ESs
import json, os, sys

arguments, folder = sys.argv[1:], os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "calls"), "a") as calls:
    text = sys.stdin.read() if "-" in arguments else ""
    calls.write(json.dumps([arguments, text, os.getcwd()]) + chr(10))
answers = json.load(open(os.path.join(folder, "answers")))
status, out, err = next((a for key, a in answers.items() if " ".join(arguments).startswith(key)), (0, "", ""))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""


@dataclass(frozen=True)
class Call:
    arguments: list[str]
    text: str
    folder: str


class StandIn:
    """A `docker` on PATH that notes how it is called and answers as it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        program = folder / "docker"
        program.write_text(STAND_IN.format(python=sys.executable))
        program.chmod(0o755)
        self._answers: dict[str, tuple[int, str, str]] = {}
        self.answer("container inspect", status=1)

    def answer(self, begins: str, out: str = "", err: str = "", status: int = 0) -> None:
        self._answers[begins] = (status, out, err)
        (self._folder / "answers").write_text(json.dumps(self._answers))

    @property
    def calls(self) -> list[Call]:
        file = self._folder / "calls"
        return [Call(*json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    def called(self, begins: str) -> list[Call]:
        return [call for call in self.calls if " ".join(call.arguments).startswith(begins)]

    @property
    def targets(self) -> dict[str, Any]:
        """What the first bake was told to build."""
        return json.loads(self.called("buildx bake")[0].text)["target"]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    for name in ("CACHE", "SBOM", "PLATFORMS", "SOURCE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BASE", "registry.example.com/python:3.13")
    stand_in = StandIn(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}")
    return stand_in


def build(checkout: Checkout, *names: str, debug: bool = False, fresh: bool = False) -> None:
    workspace = checkout.workspace
    members = [workspace.member(name) for name in names]
    Docker(checkout.root).build(members, checkout.root / "dist" / "images", debug=debug, fresh=fresh)


def push(checkout: Checkout, *tags: str) -> None:
    member = checkout.workspace.member("chat-handler")
    Docker(checkout.root).push(
        member, "git.example.com/ai", tags or ("1.2.3",), checkout.root / "dist" / "images"
    )


def test_services_and_what_they_stand_on_are_one_graph(checkout: Checkout, docker: StandIn) -> None:
    build(checkout, "chat-handler", "local-inference")
    call = docker.called("buildx bake")[0]
    assert call.arguments[-4:] == ["--file", "-", "chat-handler", "local-inference"]
    assert call.folder == str(checkout.root)
    assert docker.targets.keys() == {
        "handler-builder", "handler-runtime", "handler-runtime-debug", "chat-handler", "local-inference"
    }  # fmt: skip
    for name, stage in (
        ("handler-builder", "builder"),
        ("handler-runtime", "runtime"),
        ("handler-runtime-debug", "debug"),
    ):
        target = docker.targets[name]
        assert (target["dockerfile"], target["target"], target["context"]) == (
            "images/Dockerfile",
            stage,
            ".",
        )
        assert target["args"] == {"BASE": "registry.example.com/python:3.13", "SOURCE_DATE_EPOCH": "0"}


def test_a_service_is_built_on_the_stages_of_the_same_graph(checkout: Checkout, docker: StandIn) -> None:
    build(checkout, "chat-handler")
    target = docker.targets["chat-handler"]
    assert target["dockerfile"] == "services/chat-handler/Dockerfile"
    assert target["contexts"] == {
        "handler-builder": "target:handler-builder",
        "handler-runtime": "target:handler-runtime",
    }
    assert target["args"] == {"SOURCE_DATE_EPOCH": "0"}
    assert target["tags"] == ["chat-handler"]
    assert target["labels"][f"{TITLE}.title"] == "chat-handler"
    assert target["labels"][f"{TITLE}.revision"] == checkout.git("rev-parse", "HEAD")
    archive = checkout.root / "dist" / "images" / "chat-handler.tar"
    assert target["output"] == [f"type=oci,dest={archive},rewrite-timestamp=true,compression-level=9"]
    assert target["attest"] == ["type=provenance,disabled=true"], "an archive is one image and no more"
    assert not target["no-cache"]


def test_what_was_archived_comes_into_the_engine_from_the_cache(checkout: Checkout, docker: StandIn) -> None:
    build(checkout, "chat-handler", fresh=True)
    first, second = (json.loads(call.text)["target"] for call in docker.called("buildx bake"))
    assert second["chat-handler"]["output"] == ["type=docker"]
    assert second["chat-handler"]["tags"] == first["chat-handler"]["tags"] == ["chat-handler"]
    assert not any(target["no-cache"] for target in second.values())
    assert second["handler-runtime"]["args"] == first["handler-runtime"]["args"]


def test_the_image_with_a_shell_stands_on_the_runtime_that_has_one(
    checkout: Checkout, docker: StandIn
) -> None:
    build(checkout, "chat-handler", debug=True)
    target = docker.targets["chat-handler"]
    assert target["contexts"]["handler-runtime"] == "target:handler-runtime-debug"
    assert target["tags"] == ["chat-handler-debug"]


def test_fresh_uses_no_cache_at_all(checkout: Checkout, docker: StandIn) -> None:
    build(checkout, "chat-handler", fresh=True)
    assert {name: target["no-cache"] for name, target in docker.targets.items()} == dict.fromkeys(
        docker.targets, True
    )


def test_certificates_are_a_secret_of_every_build(
    checkout: Checkout, docker: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    build(checkout, "chat-handler")
    assert all(target["secret"] == [f"id=ca,src={trusted}"] for target in docker.targets.values())


def test_an_archive_of_an_earlier_build_does_not_outlive_one_that_fails(
    checkout: Checkout, docker: StandIn
) -> None:
    old = checkout.root / "dist" / "images" / "chat-handler.tar"
    checkout.write("dist/images/chat-handler.tar", "old")
    docker.answer("buildx bake", err="#7 ERROR: no space left on device\n", status=1)
    with pytest.raises(DeliveryError, match=r"(?s)docker buildx bake .*failed:.*no space left on device"):
        build(checkout, "chat-handler")
    assert not old.exists()
    assert len(docker.called("buildx bake")) == 1


def test_both_images_are_pushed_under_every_tag_with_where_they_come_from(
    checkout: Checkout, docker: StandIn
) -> None:
    push(checkout, "1.2.3", "latest")
    image = "git.example.com/ai/chat-handler"
    plain, debug = docker.targets["chat-handler"], docker.targets["chat-handler-debug"]
    assert plain["tags"] == [f"{image}:1.2.3", f"{image}:latest"]
    assert debug["tags"] == [f"{image}:1.2.3-debug", f"{image}:latest-debug"]
    assert debug["contexts"]["handler-runtime"] == "target:handler-runtime-debug"
    for target in (plain, debug):
        assert target["attest"] == ["type=provenance,mode=max", "type=sbom"]
        assert target["output"][0].startswith("type=registry,")
        assert target["labels"][f"{TITLE}.title"] == "chat-handler"
        assert {"cache-from", "cache-to", "platforms"}.isdisjoint(target)
    (call,) = docker.called("buildx bake")
    assert call.arguments[-2:] == ["chat-handler", "chat-handler-debug"]


def test_the_cache_is_kept_in_the_registry_when_asked_for(
    checkout: Checkout, docker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE", "1")
    push(checkout)
    cache = "type=registry,ref=git.example.com/ai/chat-handler:buildcache"
    plain, debug = docker.targets["chat-handler"], docker.targets["chat-handler-debug"]
    assert plain["cache-from"] == debug["cache-from"] == [cache]
    assert plain["cache-to"] == [f"{cache},mode=max,image-manifest=true,oci-mediatypes=true"]
    assert debug["cache-to"] == [], "one of the two writes it"


def test_the_bill_of_materials_can_be_left_out(
    checkout: Checkout, docker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBOM", "0")
    push(checkout)
    assert docker.targets["chat-handler"]["attest"] == ["type=provenance,mode=max"]


def test_other_machines_can_be_named(
    checkout: Checkout, docker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORMS", "linux/amd64,linux/arm64")
    push(checkout)
    for name in ("chat-handler", "chat-handler-debug"):
        assert docker.targets[name]["platforms"] == ["linux/amd64", "linux/arm64"]


@pytest.mark.parametrize(("driver", "rewritten"), [("docker", False), ("docker-container", True)])
def test_times_are_rewritten_by_a_builder_that_can(
    checkout: Checkout, docker: StandIn, driver: str, rewritten: bool
) -> None:
    docker.answer("buildx inspect", out=f"Name:   default\nDriver: {driver}\n")
    push(checkout)
    (output,) = docker.targets["chat-handler"]["output"]
    assert ("rewrite-timestamp=true" in output) is rewritten


def test_a_base_of_debian_is_imported_once(
    checkout: Checkout, docker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE", "debian")
    checkout.write(".cache/images/trixie.tar", "a root")
    tar = checkout.root / ".cache" / "images" / "trixie.tar"
    name = f"handler-os:{tar.stat().st_mtime_ns}"
    build(checkout, "chat-handler")
    assert docker.targets["handler-builder"]["args"]["BASE"] == name
    assert [call.arguments for call in docker.called("import")] == [["import", str(tar), name]]
    docker.answer("images", out="sha256:1234\n")
    build(checkout, "chat-handler")
    assert len(docker.called("import")) == 1


def test_a_job_that_is_a_container_shares_its_own_network(checkout: Checkout, docker: StandIn) -> None:
    assert Docker(checkout.root).host_network() == "host"
    docker.answer("container inspect", out="[{}]")
    (_, inspected) = (Docker(checkout.root).host_network(), docker.called("container inspect")[-1])
    assert Docker(checkout.root).host_network() == f"container:{inspected.arguments[-1]}"


def test_files_come_on_top_of_an_image(checkout: Checkout, docker: StandIn, tmp_path: Path) -> None:
    assert Docker(checkout.root).with_files("chat-handler", tmp_path) == "chat-handler-check"
    (call,) = docker.called("buildx build ")
    assert call.arguments[2:4] == ["--builder", "default"], "others do not see the engine's images"
    assert call.text == "FROM chat-handler\nCOPY . /check/\n"
    assert call.arguments[-1] == str(tmp_path)


def test_without_docker_it_says_what_builds_without_it(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeliveryError, match="docker is not installed; ENGINE=buildah builds without it"):
        Docker(checkout.root)


def answers(*command: str) -> bool:
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_engine_builds_an_image_that_passes_every_check(tmp_path: Path) -> None:
    if not answers("docker", "info") or not answers("docker", "buildx", "version"):
        pytest.skip("no Docker engine with buildx answers here")
    member = Workspace(ROOT).member("chat-handler")
    machine = Docker(ROOT)
    machine.build([member], tmp_path)
    assert check(machine, member, tmp_path) == []
