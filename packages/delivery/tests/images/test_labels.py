"""Labels that say where an image comes from and change only when the image does."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from handler_delivery.images.labels import PREFIX, labels, revision, source

if TYPE_CHECKING:
    from conftest import Checkout

SERVICE = "document-ingestion"
OWN = "services/document-ingestion/src/document_ingestion/pdf.py"


def of(checkout: Checkout, name: str = SERVICE) -> str:
    workspace = checkout.workspace
    return revision(workspace, workspace.member(name))


def lock_another(checkout: Checkout, name: str, version: str = "99.0") -> None:
    """Let the lock file name another version of a distribution."""
    lines = (checkout.root / "uv.lock").read_text().splitlines(keepends=True)
    lines[lines.index(f'name = "{name}"\n') + 1] = f'version = "{version}"\n'
    checkout.write("uv.lock", "".join(lines))


@pytest.fixture(autouse=True)
def _no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_URL", raising=False)


@pytest.mark.parametrize(
    "path",
    [
        OWN,
        "services/document-ingestion/Dockerfile",
        "services/document-ingestion/README.md",
        "packages/handler-base/src/handler_base/errors.py",
        "packages/messages/pyproject.toml",
        "images/Dockerfile",
    ],
)
def test_the_revision_is_the_last_commit_that_touched_what_the_image_is_made_from(
    checkout: Checkout, path: str
) -> None:
    checkout.append(path)
    assert of(checkout) == f"{checkout.git('rev-parse', 'HEAD')}-dirty"
    commit = checkout.commit()
    assert of(checkout) == commit


@pytest.mark.parametrize(
    "path",
    [
        "services/chat-handler/src/chat_handler/answer.py",
        "docs/new.md",
        "services/document-ingestion/tests/test_new.py",
        "packages/testkit/src/handler_testkit/nats.py",
        "Makefile",
    ],
)
def test_a_commit_elsewhere_leaves_the_revision(checkout: Checkout, path: str) -> None:
    before = of(checkout)
    checkout.write(path, "changed\n")
    assert of(checkout) == before, "not even before it is committed"
    checkout.commit()
    assert of(checkout) == before


def test_a_commit_in_one_service_moves_only_its_revision(checkout: Checkout) -> None:
    first = of(checkout)
    checkout.append(OWN)
    second = checkout.commit()
    assert (of(checkout), of(checkout, "chat-handler")) == (second, first)


def test_an_update_of_what_the_image_does_not_hold_leaves_the_revision(checkout: Checkout) -> None:
    before = of(checkout)
    lock_another(checkout, "check-jsonschema")
    assert of(checkout) == before
    checkout.commit()
    assert of(checkout) == before


def test_an_update_of_a_dependency_moves_the_revision(checkout: Checkout) -> None:
    before = of(checkout)
    lock_another(checkout, "pypdf")
    assert of(checkout) == f"{before}-dirty"
    updated = checkout.commit()
    assert (of(checkout), of(checkout, "chat-handler")) == (updated, before)


def test_the_later_of_a_file_and_a_dependency_is_the_revision(checkout: Checkout) -> None:
    lock_another(checkout, "pypdf")
    checkout.commit()
    checkout.append(OWN)
    assert of(checkout, SERVICE).endswith("-dirty")
    later = checkout.commit()
    assert of(checkout) == later
    lock_another(checkout, "check-jsonschema")
    checkout.commit()
    lock_another(checkout, "pypdf", "99.1")
    last = checkout.commit()
    checkout.write("docs/new.md", "changed\n")
    checkout.commit()
    assert of(checkout) == last


def test_a_new_file_that_is_not_committed_makes_it_dirty(checkout: Checkout) -> None:
    before = of(checkout)
    checkout.write("services/document-ingestion/src/document_ingestion/new.py", "")
    assert of(checkout) == f"{before}-dirty"
    assert of(checkout, "chat-handler") == before


def test_without_git_there_is_no_revision_and_no_source(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".git")
    workspace = checkout.workspace
    assert of(checkout) == ""
    assert source(workspace) == ""
    assert labels(workspace, workspace.member(SERVICE)).keys() == {
        f"{PREFIX}.{name}" for name in ("licenses", "title", "version")
    }


def test_before_the_first_commit_there_is_no_revision(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".git")
    checkout.git("init", "--quiet")
    assert of(checkout) == ""


def test_labels_say_what_it_is_and_where_it_comes_from(checkout: Checkout) -> None:
    checkout.git("remote", "add", "origin", "https://git.example.com/ai/handlers.git")
    workspace = checkout.workspace
    member = workspace.member(SERVICE)
    assert labels(workspace, member) == {
        f"{PREFIX}.licenses": "Apache-2.0",
        f"{PREFIX}.revision": checkout.git("rev-parse", "HEAD"),
        f"{PREFIX}.source": "https://git.example.com/ai/handlers",
        f"{PREFIX}.title": SERVICE,
        f"{PREFIX}.version": member.version,
    }


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("https://git.example.com/ai/handlers.git", "https://git.example.com/ai/handlers"),
        ("https://ada:secret@git.example.com/ai/handlers.git", "https://git.example.com/ai/handlers"),
        ("https://ada:sec@ret@git.example.com/ai/handlers", "https://git.example.com/ai/handlers"),
        ("https://token@git.example.com/ai/handlers", "https://git.example.com/ai/handlers"),
        ("https://git.example.com/@ai/handlers", "https://git.example.com/@ai/handlers"),
        ("ssh://git@git.example.com:2222/ai/handlers.git", "ssh://git.example.com:2222/ai/handlers"),
        ("git@git.example.com:ai/handlers.git", "git@git.example.com:ai/handlers"),
        ("/srv/git/handlers.git", ""),
        ("../handlers", ""),
        ("file:///srv/git/handlers.git", ""),
    ],
)
def test_the_source_is_the_address_of_origin_without_a_password(
    checkout: Checkout, origin: str, said: str
) -> None:
    checkout.git("remote", "add", "origin", origin)
    assert source(checkout.workspace) == said


def test_the_source_that_is_said_wins(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout.git("remote", "add", "origin", "https://git.example.com/ai/handlers.git")
    monkeypatch.setenv("SOURCE_URL", "https://other.example.com/handlers")
    assert source(checkout.workspace) == "https://other.example.com/handlers"


def test_with_no_origin_there_is_no_source(checkout: Checkout) -> None:
    assert source(checkout.workspace) == ""
