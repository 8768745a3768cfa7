"""`delivery push` against a real registry, with archives made by hand."""

from __future__ import annotations

import json
import shutil
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from handler_delivery.__main__ import main
from handler_delivery.images import push as room
from handler_delivery.images.build import FOLDER
from handler_delivery.images.registry import manifest, registry
from handler_testkit.nats import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Checkout, Oci

NEEDED = ("buildah", "podman", "skopeo", "runc", "mmdebstrap", "docker-registry")
pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in NEEDED),
    reason=f"one of {', '.join(NEEDED)} is not installed; `make image-tools` installs them",
)

SERVICES = (
    "chat-handler",
    "document-ingestion",
    "local-inference",
    "pipeline-bridge",
    "stt-module",
    "tts-module",
    "voice-assistant",
)


@pytest.fixture(autouse=True)
def _buildah(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "buildah")


@pytest.fixture
def layers(checkout: Checkout, oci: Oci) -> dict[str, Any]:
    """Put an archive of each service, and one with a shell, where `make images` does; return their only layers."""
    made: dict[str, Any] = {}
    folder = checkout.root / FOLDER
    for service in SERVICES:
        for suffix, place in (("", folder), ("-debug", folder / "debug")):
            layer = oci.layer(oci.Entry("app/name", f"{service}{suffix}"))
            oci.write(oci.image(layer), to=place / f"{service}.tar")
            made[f"{service}{suffix}"] = layer
    return made


def tags(address: str, name: str) -> list[str]:
    with urllib.request.urlopen(f"http://{address}/v2/{name}/tags/list", timeout=10) as answer:
        return sorted(json.load(answer)["tags"])


def catalog(address: str) -> list[str]:
    with urllib.request.urlopen(f"http://{address}/v2/_catalog", timeout=10) as answer:
        return json.load(answer)["repositories"]


def test_every_image_and_the_one_with_a_shell_goes_there_under_every_tag(
    layers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with registry() as address:
        assert main(["push", "--registry", f"{address}/ai", "--tag=1.2.3", "--tag=latest"]) == 0
        for service in SERVICES:
            assert tags(address, f"ai/{service}") == ["1.2.3", "1.2.3-debug", "latest", "latest-debug"]
            for tag in ("1.2.3", "latest"):
                for suffix in ("", "-debug"):
                    there = manifest(address, f"ai/{service}", f"{tag}{suffix}")
                    assert there["layers"] == [layers[f"{service}{suffix}"]]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"pushed {address}/ai/chat-handler:1.2.3 and 1.2.3-debug"
    assert len(said) == 2 * len(SERVICES)


def test_only_the_services_that_are_named_are_pushed(layers: dict[str, Any]) -> None:
    with registry() as address:
        assert main(["push", "--registry", f"{address}/ai", "--tag=1", "chat-handler"]) == 0
        assert catalog(address) == ["ai/chat-handler"]


@pytest.mark.parametrize(
    "said",
    [
        "git.example.com/ai",
        "https://git.example.com/ai/",
        "https://Git.Example.com/AI",
        "HTTPS://git.example.com/Ai",
    ],
)
def test_a_registry_may_be_said_as_an_address_of_the_web(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    class Noting:
        def push(self, member: object, registry: str, tags: Sequence[str], folder: object) -> None:
            pushed.append((registry, *tags))

    pushed: list[tuple[str, ...]] = []
    monkeypatch.setattr(room, "engine", lambda root: Noting())
    assert main(["push", "--registry", said, "--tag=1", "chat-handler"]) == 0
    assert pushed == [("git.example.com/ai", "1")]


def test_a_service_that_is_not_known_lists_those_that_are(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", "--registry", "git.example.com/ai", "--tag=1", "nothing"]) == 2
    said = capsys.readouterr().err
    assert said == f"delivery: no service 'nothing' with a Dockerfile; there are: {', '.join(SERVICES)}\n"


def test_what_was_not_built_says_how_to_build_it(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", "--registry", "127.0.0.1:1/ai", "--tag=1", "chat-handler"]) == 2
    assert "chat-handler.tar is not there; run `make images` first" in capsys.readouterr().err


def test_a_registry_that_is_not_there_is_said(
    layers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", "--registry", f"127.0.0.1:{free_port()}/ai", "--tag=1", "chat-handler"]) == 2
    said = capsys.readouterr()
    assert "connection refused" in said.err
    assert said.out == "", "nothing is said to be pushed"


def test_an_engine_that_is_not_known_is_said(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINE", "kaniko")
    assert main(["push", "--registry", "git.example.com/ai", "--tag=1"]) == 2
    assert capsys.readouterr().err == "delivery: ENGINE=kaniko: expected buildah or docker\n"
