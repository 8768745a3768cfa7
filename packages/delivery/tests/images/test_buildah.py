"""Real images by buildah: what a change rebuilds, what images share, what is said when a build fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.git import Repository
from handler_delivery.images.archive import Archive
from handler_delivery.images.buildah import Buildah
from handler_delivery.images.engine import RUNTIME

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Checkout, Yard

NAMES = ["chat-handler", "document-ingestion"]
REVISION = "org.opencontainers.image.revision"

real = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Built:
    """What is in the archives after a build, each by the name of the service."""

    digests: dict[str, str]
    layers: dict[str, list[str]]
    revisions: dict[str, str]


def build(yard: Yard, *, fresh: bool = False) -> Built:
    members = [yard.member(name) for name in NAMES]
    yard.machine.build(members, yard.folder, fresh=fresh)
    return built(yard)


def built(yard: Yard) -> Built:
    found = Built({}, {}, {})
    for name in NAMES:
        with Archive(yard.folder / f"{name}.tar") as archive:
            found.digests[name] = archive.digest
            found.layers[name] = [layer.digest for layer in archive.layers]
            found.revisions[name] = archive.config["config"]["Labels"][REVISION]
    return found


def touched(yard: Yard, before: str) -> list[str]:
    repository = Repository(yard.root)
    workspace = yard.workspace
    return [member.name for member in workspace.touched(repository.changed(before), workspace.lock)]


@pytest.fixture(scope="module")
def _kept() -> list[Built]:
    return []


@pytest.fixture
def first(yard: Yard, _kept: list[Built]) -> Built:
    """Return both images as the clone is; built once."""
    if not _kept:
        yard.build(*NAMES)
        _kept.append(built(yard))
    return _kept[0]


class TestRealImages:
    pytestmark = real

    def test_images_share_the_runtime_and_the_layers_below_their_own(self, yard: Yard, first: Built) -> None:
        chat, documents = first.layers["chat-handler"], first.layers["document-ingestion"]
        shared = [layer for layer in chat if layer in documents]
        yard.machine.write(
            "only-runtime", only_runtime(yard.root), yard.root / "dist" / "runtime.tar", runtime=RUNTIME
        )
        with Archive(yard.root / "dist" / "runtime.tar") as archive:
            runtime = [layer.digest for layer in archive.layers]
        assert chat[: len(runtime)] == documents[: len(runtime)] == runtime
        assert len(shared) > len(runtime), "what both install is in layers that both have"
        assert shared == chat[: len(shared)], "what is shared is below what is not"
        assert chat[-1] not in documents

    def test_the_revision_of_each_image_is_the_commit_that_last_touched_it(
        self, yard: Yard, first: Built
    ) -> None:
        repository = Repository(yard.root)
        for name in NAMES:
            assert repository.contains(first.revisions[name])
        commit = yard.commit("services/document-ingestion/README.md", "One more line.")
        after = build(yard)
        assert after.revisions == {**first.revisions, "document-ingestion": commit}
        assert after.digests["chat-handler"] == first.digests["chat-handler"]

    def test_a_line_in_a_service_rebuilds_the_topmost_layer_of_that_service_alone(
        self, yard: Yard, first: Built
    ) -> None:
        before = Repository(yard.root).commit()
        commit = yard.commit("services/chat-handler/src/chat_handler/answer.py", "CHANGED = True")
        assert touched(yard, before) == ["chat-handler"]
        after = build(yard)
        assert after.digests["document-ingestion"] == first.digests["document-ingestion"]
        assert after.digests["chat-handler"] != first.digests["chat-handler"]
        assert after.layers["chat-handler"][:-1] == first.layers["chat-handler"][:-1]
        assert after.layers["chat-handler"][-1] != first.layers["chat-handler"][-1]
        assert after.revisions["chat-handler"] == commit

    def test_a_line_in_a_shared_package_leaves_the_layers_below_it(self, yard: Yard, first: Built) -> None:
        before = Repository(yard.root).commit()
        yard.commit("packages/handler-base/src/handler_base/errors.py", "CHANGED = True")
        assert touched(yard, before) == sorted(
            path.parent.name for path in yard.root.glob("services/*/Dockerfile")
        )
        after = build(yard)
        for name in NAMES:
            old, new = first.layers[name], after.layers[name]
            assert after.digests[name] != first.digests[name]
            assert len(old) == len(new)
            changed = [number for number, layer in enumerate(old) if new[number] != layer]
            own = changed[0]
            assert changed in ([own], [own, len(old) - 1])
            assert own >= len(old) - 2, f"{name}: third-party layers changed: {changed} of {len(old)}"
        chat, documents = (after.layers[name] for name in NAMES)
        assert chat[-2] == documents[-2], "the changed package is one layer in both again"

    def test_a_comment_changes_the_revision_and_not_the_layers(self, yard: Yard, first: Built) -> None:
        commit = yard.commit("services/chat-handler/src/chat_handler/answer.py", "# One more line.")
        after = build(yard)
        assert after.revisions["chat-handler"] == commit
        assert after.layers == first.layers, "byte code knows no comments"

    def test_back_at_an_earlier_commit_an_image_is_the_one_it_was(self, yard: Yard, first: Built) -> None:
        yard.commit("services/chat-handler/src/chat_handler/answer.py", "# One more line.")
        changed = build(yard)
        yard.back()
        again = build(yard)
        assert changed.digests["chat-handler"] != first.digests["chat-handler"]
        assert again.digests == first.digests, "what was built in between, and is in the cache, does not show"

    def test_a_dockerfile_that_cannot_be_built_shows_what_the_builder_said(self, yard: Yard) -> None:
        file = yard.root / "services" / "chat-handler" / "Dockerfile"
        file.write_text(f"{file.read_text()}COPY --from=build /layers/nothing-like-it/ /\n")
        with pytest.raises(
            DeliveryError, match=r"(?s)services/chat-handler/Dockerfile could not be built:.*nothing-like-it"
        ):
            yard.machine.build([yard.member("chat-handler")], yard.folder)

    def test_a_command_that_fails_shows_what_it_said(self, yard: Yard) -> None:
        file = yard.root / "services" / "chat-handler" / "pyproject.toml"
        file.write_text(
            file.read_text().replace("[project.scripts]\nchat-handler", "[project.scripts]\nother")
        )
        with pytest.raises(DeliveryError, match="chat-handler declares no console script of its own name"):
            yard.machine.build([yard.member("chat-handler")], yard.folder)

    def test_built_anew_from_nothing_an_image_is_the_same_to_the_byte(self, yard: Yard, first: Built) -> None:
        again = build(yard, fresh=True)
        assert again.layers == first.layers
        assert again.digests == first.digests


def only_runtime(root: Path) -> str:
    file = root / "dist" / "Dockerfile"
    file.write_text("ARG RUNTIME\nFROM ${RUNTIME}\n")
    return "dist/Dockerfile"


def test_a_program_that_is_missing_is_named_with_what_installs_it(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("buildah", "skopeo", "mmdebstrap"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(DeliveryError, match=r"^podman, runc: not installed; `make image-tools` installs"):
        Buildah(checkout.root)
