"""The workflows as they run, in the engine that Gitea's runner is made from, on this host.

What is real: the jobs, their order, conditions, matrix and outputs, the tools that plan, release and tell, git. What the
test stands in for: targets that take long (each writes down how it was called) and the actions of others.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handler_delivery.tags import main_tag
from handler_testkit.endpoints import HttpEndpoint, answering

from .conftest import WITH_IMAGE

if TYPE_CHECKING:
    from conftest import Checkout

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
WORKFLOWS = ROOT / ".gitea" / "workflows"
LONG = ("lint", "test", "test-3-13", "manifests", "images", "push", "budgets", "wheels", "publish")
REAL = ("affected", "release", "notify")
NO_ACTION = """
name: Nothing
description: Stands in for an action of others
runs:
  using: composite
  steps:
    - run: "true"
      shell: bash
"""

CHECKOUT = """
name: Check out
description: Stands in for actions/checkout where it is asked for another commit
inputs:
  ref:
    required: true
runs:
  using: composite
  steps:
    - run: git clone --quiet ORIGIN . && git checkout --quiet "$REF"
      shell: bash
      env:
        REF: ${{ inputs.ref }}
"""

pytestmark = [
    pytest.mark.skipif(not (BIN / "act").exists(), reason="act is not installed here"),
    pytest.mark.timeout(300),
]


class Runner:
    """Runs a workflow of a checkout and remembers which long targets were called, with what."""

    def __init__(self, checkout: Checkout, origin: Path, folder: Path) -> None:
        self.checkout = checkout
        self.folder = folder
        self.calls_file = folder / "calls"
        self.broken: set[str] = set()
        self.origin = origin
        self._actions = {"actions/checkout": CHECKOUT.replace("ORIGIN", str(origin))}

    def _stand_in(self, action: str) -> Path:
        folder = self.folder / "actions" / action
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "action.yml").write_text(self._actions.get(action, NO_ACTION))
        return folder

    def prepare(self) -> None:
        """Put the workflows and the stand-ins for long targets into the checkout."""
        for file in WORKFLOWS.iterdir():
            self.checkout.write(f".gitea/workflows/{file.name}", file.read_text())
        lines = [
            f".PHONY: {' '.join(REAL + LONG)}",
            f"{' '.join(REAL)}: ; @$(MAKE) --no-print-directory -f Makefile $@",
        ]
        for target in LONG:
            call = f'echo \'{target}\' services="$$SERVICES" tags="$$TAGS" registry="$$REGISTRY" >> {self.calls_file}'
            lines.append(f"{target}: ; @{call}{' && exit 1' if target in self.broken else ''}")
        self.checkout.write("GNUmakefile", "\n".join(lines) + "\n")
        self.checkout.commit("Stand in for what takes long")

    def calls(self, target: str) -> list[str]:
        """Return how a target was called."""
        if not self.calls_file.exists():
            return []
        return sorted(
            line.removeprefix(f"{target} ")
            for line in self.calls_file.read_text().splitlines()
            if line.split()[0] == target
        )

    async def run(
        self, workflow: str, event: str, payload: dict[str, Any], **variables: str
    ) -> tuple[int, str]:
        """Run a workflow to its end; returns the exit status and the log."""
        (self.folder / "event.json").write_text(json.dumps(payload))
        command = [
            str(BIN / "act"), event, "--workflows", f".gitea/workflows/{workflow}", "--eventpath", str(self.folder / "event.json"),
            "--platform", "ubuntu-latest=-self-hosted", "--github-instance", "git.example.com",
        ]  # fmt: skip
        for name, value in variables.items():
            command += ["--var", f"{name}={value}", "--secret", f"{name}={value}"]
        for action, commit in set(
            re.findall(r"uses: (\S+)@([0-9a-f]{40})", (WORKFLOWS / workflow).read_text())
        ):
            command += [
                "--local-repository",
                f"https://git.example.com/{action}@{commit}={self._stand_in(action)}",
            ]
        environ = {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=self.checkout.root, env=environ, capture_output=True, text=True, check=False, timeout=240
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def runner(checkout: Checkout, tmp_path: Path) -> Runner:
    """Return a runner; the checkout has a repository that it is pushed to, under the address of our own server."""
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(checkout.root), str(bare)], check=True)
    checkout.git("remote", "add", "origin", "https://git.example.com/ada/handlers.git")
    checkout.git("config", f"url.{bare}.pushInsteadOf", "https://git.example.com/ada/handlers.git")
    return Runner(checkout, bare, tmp_path)


async def test_a_push_to_main_builds_and_pushes_what_it_touches_and_tells_the_result(
    runner: Runner, checkout: Checkout
) -> None:
    runner.prepare()
    before = checkout.git("rev-parse", "HEAD")
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    checkout.append("services/document-ingestion/src/document_ingestion/pdf.py")
    checkout.commit()
    tag = main_tag(checkout.repository)
    async with HttpEndpoint(answering({"id": "x"})) as ntfy:
        status, log = await runner.run(
            "ci.yaml", "push", {"before": before}, NTFY_URL=ntfy.url, NTFY_TOPIC="builds"
        )
        told = [request.json() for request in ntfy.requests]
    assert status == 0, log
    assert [call.split()[0] for call in runner.calls("images")] == [
        "services=chat-handler",
        "services=document-ingestion",
    ]
    assert runner.calls("push") == [
        f"services={service} tags={tag} registry=git.example.com/ada"
        for service in ("chat-handler", "document-ingestion")
    ]
    assert [len(runner.calls(target)) for target in ("lint", "test", "manifests", "release")] == [1, 1, 1, 0]
    (message,) = told
    assert message["title"] == "ada/handlers: CI passed on main"
    assert "images: success" in message["message"]


async def test_a_push_that_touches_no_image_builds_none_and_is_a_success(
    runner: Runner, checkout: Checkout
) -> None:
    runner.prepare()
    before = checkout.git("rev-parse", "HEAD")
    checkout.write("docs/new.md", "new")
    checkout.commit()
    async with HttpEndpoint(answering({"id": "x"})) as ntfy:
        status, log = await runner.run(
            "ci.yaml", "push", {"before": before}, NTFY_URL=ntfy.url, NTFY_TOPIC="builds"
        )
        told = [request.json() for request in ntfy.requests]
    assert status == 0, log
    assert runner.calls("images") + runner.calls("push") == []
    assert [(message["title"], message["tags"]) for message in told] == [
        ("ada/handlers: CI passed on main", ["white_check_mark"])
    ]


async def test_a_pull_request_builds_and_pushes_nothing(runner: Runner, checkout: Checkout) -> None:
    runner.prepare()
    target = checkout.git("rev-parse", "HEAD")
    checkout.git("switch", "--quiet", "-c", "aside")
    checkout.append("images/Dockerfile")
    checkout.commit()
    payload = {
        "number": 7,
        "pull_request": {"number": 7, "base": {"ref": "main", "sha": target}, "head": {"ref": "aside"}},
    }
    status, log = await runner.run("ci.yaml", "pull_request", payload, IMAGES_TOGETHER="true")
    assert status == 0, log
    (call,) = runner.calls("images")
    assert call.startswith(f"services={' '.join(WITH_IMAGE)} tags=")
    assert runner.calls("push") == []


async def test_a_push_to_another_branch_is_checked_and_builds_nothing(
    runner: Runner, checkout: Checkout
) -> None:
    runner.prepare()
    checkout.git("switch", "--quiet", "-c", "aside")
    checkout.append("images/Dockerfile")
    checkout.commit()
    async with HttpEndpoint(answering({"id": "x"})) as ntfy:
        status, log = await runner.run("ci.yaml", "push", {}, NTFY_URL=ntfy.url, NTFY_TOPIC="builds")
        told = [request.json() for request in ntfy.requests]
    assert status == 0, log
    assert [len(runner.calls(target)) for target in ("lint", "test", "images", "push")] == [1, 1, 0, 0]
    (message,) = told
    assert message["title"] == "ada/handlers: CI passed on aside"
    assert "plan: skipped" in message["message"]


async def test_a_failed_check_keeps_images_back_and_is_told_as_a_failure(
    runner: Runner, checkout: Checkout
) -> None:
    runner.broken = {"test"}
    runner.prepare()
    async with HttpEndpoint(answering({"id": "x"})) as ntfy:
        status, log = await runner.run(
            "ci.yaml", "push", {"before": "0" * 40}, NTFY_URL=ntfy.url, NTFY_TOPIC="builds"
        )
        told = [request.json() for request in ntfy.requests]
    assert status != 0, log
    assert runner.calls("images") + runner.calls("push") == []
    (message,) = told
    assert message["title"] == "ada/handlers: CI failed on main"
    assert "test: failure" in message["message"]
    assert "images: skipped" in message["message"]


async def test_a_release_builds_all_images_and_the_wheels_under_its_version(
    runner: Runner, checkout: Checkout
) -> None:
    checkout.git("tag", "v0.1.0")
    checkout.commit("feat: greet")
    runner.prepare()
    checkout.git("push", "--quiet", "origin", "main", "v0.1.0")
    inputs = {"inputs": {"dry-run": "false", "again": "false"}}
    async with HttpEndpoint(answering({"id": "x"})) as ntfy:
        status, log = await runner.run(
            "release.yaml", "workflow_dispatch", inputs, NTFY_URL=ntfy.url, NTFY_TOPIC="builds"
        )
        told = [request.json()["title"] for request in ntfy.requests]
    assert status == 0, log
    released = checkout.git("ls-remote", str(runner.origin), "refs/tags/v0.2.0^{}").split()[0]
    assert released == checkout.git("ls-remote", str(runner.origin), "refs/heads/main").split()[0]
    checkout.git("fetch", "--quiet", str(runner.origin))
    tags = f"0.2.0 {main_tag(checkout.repository, released)}"
    assert runner.calls("push") == [
        f"services={service} tags={tags} registry=git.example.com/ada" for service in WITH_IMAGE
    ]
    assert len(runner.calls("wheels")) == len(runner.calls("publish")) == 1
    assert told == ["ada/handlers: Release passed on main"]


async def test_a_dry_run_of_a_release_changes_nothing_and_builds_nothing(
    runner: Runner, checkout: Checkout
) -> None:
    runner.prepare()
    checkout.git("push", "--quiet", "origin", "main")
    inputs = {"inputs": {"dry-run": "true", "again": "false"}}
    status, log = await runner.run("release.yaml", "workflow_dispatch", inputs)
    assert status == 0, log
    assert "would release 0.1.0" in log
    assert runner.calls("images") + runner.calls("wheels") == []
    assert "v0" not in checkout.git("ls-remote", str(runner.origin))
    assert "nobody is told" in log


async def test_a_release_of_what_fails_its_checks_does_not_begin(runner: Runner, checkout: Checkout) -> None:
    runner.broken = {"lint"}
    runner.prepare()
    inputs = {"inputs": {"dry-run": "false", "again": "false"}}
    async with HttpEndpoint(answering({"id": "x"})) as ntfy:
        status, log = await runner.run(
            "release.yaml", "workflow_dispatch", inputs, NTFY_URL=ntfy.url, NTFY_TOPIC="builds"
        )
        told = [request.json()["message"] for request in ntfy.requests]
    assert status != 0, log
    assert "v0" not in checkout.git("ls-remote", str(runner.origin))
    assert told == ["checks: failure\nimages: skipped\nrelease: skipped\nwheels: skipped"]
