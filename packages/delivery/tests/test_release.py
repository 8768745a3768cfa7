"""A release, in a clone of a real repository that it is pushed to."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from handler_delivery.__main__ import main
from handler_delivery.tags import main_tag
from handler_delivery.wheels import uv
from handler_testkit.endpoints import HttpEndpoint, answering

from .conftest import WITH_IMAGE

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Checkout


@pytest.fixture
def origin(checkout: Checkout, tmp_path: Path) -> Path:
    """Return the repository that the checkout is pushed to."""
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(checkout.root), str(bare)], check=True)
    checkout.git("remote", "add", "origin", str(bare))
    return bare


def told(outputs: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in outputs.read_text().splitlines())


def in_origin(origin: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=origin, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_first_release_is_the_version_that_the_members_have(
    checkout: Checkout, origin: Path, outputs: Path
) -> None:
    assert main(["release"]) == 0
    assert told(outputs)["version"] == "0.1.0"
    assert in_origin(origin, "tag") == "v0.1.0"
    assert "## 0.1.0" in in_origin(origin, "show", "main:CHANGELOG.md")


def test_a_release_moves_every_member_and_the_lock_file_and_pushes_one_commit_with_its_tag(
    checkout: Checkout, origin: Path, outputs: Path
) -> None:
    checkout.git("tag", "v0.1.0")
    before = checkout.commit("feat: greet people\n\nIn their own language.")
    assert main(["release"]) == 0
    workspace = checkout.workspace
    assert {member.version for member in workspace.members.values()} == {"0.2.0"}
    modules = list(checkout.root.glob("*/*/src/*/__init__.py"))
    versions = {
        line for file in modules for line in file.read_text().splitlines() if line.startswith("__version__")
    }
    assert versions == {'__version__ = "0.2.0"'}
    locked = tomllib.loads((checkout.root / "uv.lock").read_text())["package"]
    assert {p["version"] for p in locked if p["name"] in workspace.members} == {"0.2.0"}
    assert in_origin(origin, "log", "-1", "--format=%s", "main") == "Release 0.2.0 [skip ci]"
    assert in_origin(origin, "rev-parse", "main~1") == before
    assert in_origin(origin, "rev-parse", "v0.2.0^{commit}") == in_origin(origin, "rev-parse", "main")
    assert "### New\n\n- greet people" in in_origin(origin, "tag", "-l", "--format=%(contents)", "v0.2.0")
    assert checkout.git("status", "--porcelain") == ""
    assert told(outputs) == {
        "released": "true",
        "version": "0.2.0",
        "commit": in_origin(origin, "rev-parse", "main"),
        "services": json.dumps(WITH_IMAGE),
        "tags": f"0.2.0 {main_tag(checkout.repository)}",
        "registry": "git.example.com/ada",
        "host": "git.example.com",
    }


def test_the_lock_file_of_a_release_is_what_uv_would_write(checkout: Checkout, origin: Path) -> None:
    checkout.git("tag", "v0.1.0")
    checkout.commit("fix: greet")
    assert main(["release", "--no-push"]) == 0
    subprocess.run(
        [uv(checkout.workspace), "lock", "--check", "--quiet"], cwd=checkout.root, check=True, timeout=100
    )
    assert in_origin(origin, "tag") == ""


def test_with_nothing_committed_since_nothing_is_released(
    checkout: Checkout, origin: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release"]) == 0
    outputs.write_text("")
    commit = checkout.git("rev-parse", "HEAD")
    assert main(["release"]) == 0
    assert told(outputs) == {"released": "false"}
    assert checkout.git("rev-parse", "HEAD") == commit
    assert "nothing to release: no commit since v0.1.0" in capsys.readouterr().out


def test_a_dry_run_says_it_and_changes_nothing(
    checkout: Checkout,
    origin: Path,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkout.git("tag", "v0.1.0")
    commit = checkout.commit("major: another contract")
    monkeypatch.setenv("DRY_RUN", "true")
    assert main(["release"]) == 0
    said = capsys.readouterr().out
    assert "would release 1.0.0 after v0.1.0" in said
    assert "- another contract" in said
    assert told(outputs) == {"released": "false"}
    assert (checkout.git("rev-parse", "HEAD"), checkout.git("status", "--porcelain")) == (commit, "")


def test_a_release_that_somebody_overtakes_pushes_neither_commit_nor_tag(
    checkout: Checkout, origin: Path, outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "--quiet", str(origin), str(other)], check=True)
    (other / "news.md").write_text("first!")
    for command in (["add", "--all"], ["commit", "--quiet", "-m", "Be first"], ["push", "--quiet"]):
        subprocess.run(["git", *command], cwd=other, check=True)
    first = in_origin(origin, "rev-parse", "main")
    here = checkout.git("rev-parse", "HEAD")
    assert main(["release"]) == 2
    assert "If main moved on meanwhile, run it again" in capsys.readouterr().err
    assert (in_origin(origin, "rev-parse", "main"), in_origin(origin, "tag")) == (first, "")
    assert outputs.read_text() == ""
    assert (
        checkout.git("rev-parse", "HEAD"),
        checkout.git("tag"),
        checkout.git("status", "--porcelain"),
    ) == (here, "", "")


def test_a_release_is_made_on_main_alone(
    checkout: Checkout, origin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.git("switch", "--quiet", "-c", "aside")
    assert main(["release"]) == 2
    assert "a release is made on main" in capsys.readouterr().err
    checkout.git("switch", "--quiet", "--detach", "main")
    assert main(["release"]) == 2
    monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
    assert main(["release"]) == 0
    assert in_origin(origin, "tag") == "v0.1.0"


async def test_a_release_logs_in_with_its_token_and_a_refusal_is_told_without_it(
    checkout: Checkout, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELEASE_TOKEN", "t0ken")
    async with HttpEndpoint(answering({"message": "protected"}, 403)) as server:
        monkeypatch.setenv("GITHUB_SERVER_URL", server.url)
        checkout.git("remote", "add", "origin", f"{server.url}/ada/handlers.git")
        assert await asyncio.to_thread(main, ["release"]) == 2
        login = server.requests[0].headers["authorization"]
    assert base64.b64decode(login.removeprefix("Basic ")) == b"release:t0ken"
    said = capsys.readouterr().err
    assert "RELEASE_TOKEN must belong to someone who may push" in said
    assert "t0ken" not in said
    assert login.removeprefix("Basic ") not in said


def test_a_release_whose_later_jobs_failed_can_be_handed_on_again(
    checkout: Checkout, origin: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["release"]) == 0
    before = told(outputs)
    checkout.commit("fix: what came after")
    outputs.write_text("")
    monkeypatch.setenv("AGAIN", "true")
    assert main(["release"]) == 0
    assert told(outputs) == before
    assert in_origin(origin, "tag") == "v0.1.0"


def test_nothing_can_be_handed_on_again_before_the_first_release_nor_in_a_dry_run(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "--again"]) == 2
    assert "nothing was released yet" in capsys.readouterr().err
    assert main(["release", "--again", "--dry-run"]) == 2
    assert "choose one" in capsys.readouterr().err


def test_what_is_not_committed_is_not_released(
    checkout: Checkout, origin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.append("README.md")
    assert main(["release"]) == 2
    assert "README.md" in capsys.readouterr().err


def test_a_shallow_clone_is_refused_because_its_tags_are_missing(
    checkout: Checkout,
    origin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkout.commit()
    checkout.git("push", "--quiet", "origin", "main")
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", origin.as_uri(), str(shallow)], check=True)
    monkeypatch.chdir(shallow)
    assert main(["release"]) == 2
    assert "fetch-depth: 0" in capsys.readouterr().err


def test_members_that_disagree_on_the_version_are_refused(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.replace("services/chat-handler/pyproject.toml", 'version = "0.1.0"', 'version = "0.3.0"')
    checkout.commit()
    assert main(["release"]) == 2
    assert "different versions: 0.1.0, 0.3.0" in capsys.readouterr().err


async def test_a_release_is_announced_and_a_page_that_fails_holds_nothing_up(
    checkout: Checkout,
    origin: Path,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RELEASE_TOKEN", "t0ken")
    async with HttpEndpoint(answering({"message": "no"}, 500)) as server:
        monkeypatch.setenv("GITHUB_SERVER_URL", server.url)
        assert await asyncio.to_thread(main, ["release"]) == 0
        (request,) = server.requests
    assert request.json()["tag_name"] == "v0.1.0"
    assert told(outputs)["released"] == "true"
    said = capsys.readouterr()
    assert "warning: no release page for v0.1.0" in said.err
    assert "t0ken" not in said.out + said.err


def test_on_a_runner_that_knows_nobody_the_release_has_an_author_all_the_same(
    checkout: Checkout, origin: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name)
    checkout.git("config", "user.useConfigOnly", "true")
    assert main(["release"]) == 0
    assert in_origin(origin, "log", "-1", "--format=%an <%ae>", "main") == "Release <release@git.example.com>"
