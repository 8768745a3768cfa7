"""Which images a change decides, on a real repository with this workspace in it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from handler_delivery.__main__ import main
from handler_delivery.affected import EVERYTHING, affected

from .conftest import WITH_IMAGE

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Checkout

ALL = list(WITH_IMAGE)


def since(checkout: Checkout, base: str) -> list[str]:
    return list(affected(checkout.workspace, checkout.repository, dict.fromkeys(ALL, base)))


def changed(checkout: Checkout) -> list[str]:
    """Commit what was changed and return what that touches."""
    base = checkout.git("rev-parse", "HEAD")
    checkout.commit()
    return since(checkout, base)


def test_one_line_of_a_service_touches_that_service_alone(checkout: Checkout) -> None:
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    assert changed(checkout) == ["chat-handler"]


@pytest.mark.parametrize(
    "path", ["packages/handler-base/src/handler_base/errors.py", "packages/messages/pyproject.toml"]
)
def test_a_shared_package_touches_all(checkout: Checkout, path: str) -> None:
    checkout.append(path)
    assert changed(checkout) == ALL


def test_a_package_that_only_tests_use_touches_none(checkout: Checkout) -> None:
    checkout.append("packages/testkit/src/handler_testkit/nats.py")
    checkout.append("packages/delivery/src/handler_delivery/notify.py")
    assert changed(checkout) == []


def test_what_every_image_stands_on_touches_all(checkout: Checkout) -> None:
    checkout.append("images/Dockerfile")
    assert changed(checkout) == ALL


def test_a_dockerfile_touches_its_service(checkout: Checkout) -> None:
    checkout.append("services/local-inference/Dockerfile")
    assert changed(checkout) == ["local-inference"]


def test_docs_and_tests_and_workflows_touch_none(checkout: Checkout) -> None:
    for path in (
        "docs/ci.md",
        "services/chat-handler/tests/test_answer.py",
        ".gitea/workflows/ci.yaml",
        "Makefile",
    ):
        checkout.write(path, "changed\n")
    assert changed(checkout) == []


def test_a_readme_touches_its_service_because_it_is_in_the_metadata(checkout: Checkout) -> None:
    checkout.append("services/chat-handler/README.md")
    assert changed(checkout) == ["chat-handler"]


def lock_another(checkout: Checkout, name: str) -> None:
    """Let the lock file name another version of a distribution."""
    lines = (checkout.root / "uv.lock").read_text().splitlines(keepends=True)
    at = lines.index(f'name = "{name}"\n')
    lines[at + 1] = 'version = "99.0"\n'
    checkout.write("uv.lock", "".join(lines))


def test_an_update_of_a_developer_tool_touches_none(checkout: Checkout) -> None:
    lock_another(checkout, "check-jsonschema")
    assert changed(checkout) == []


def test_an_update_of_a_dependency_touches_who_needs_it(checkout: Checkout) -> None:
    lock_another(checkout, "pypdf")
    assert changed(checkout) == ["document-ingestion"]
    lock_another(checkout, "webrtcvad-wheels")
    assert changed(checkout) == ["local-inference", "stt-module"]
    lock_another(checkout, "sqlite-vec")
    assert changed(checkout) == ["chat-handler", "document-ingestion", "voice-assistant"]
    lock_another(checkout, "nats-py")
    assert changed(checkout) == ALL


def test_a_file_that_moves_touches_where_it_was_and_where_it_is(checkout: Checkout) -> None:
    checkout.git(
        "mv",
        "services/chat-handler/src/chat_handler/people.py",
        "services/document-ingestion/src/document_ingestion/",
    )
    assert changed(checkout) == ["chat-handler", "document-ingestion"]


def test_a_deleted_file_touches_its_service(checkout: Checkout) -> None:
    checkout.git("rm", "--quiet", "services/chat-handler/src/chat_handler/people.py")
    assert changed(checkout) == ["chat-handler"]


def test_a_service_that_is_gone_is_not_built(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / "services" / "local-inference")
    assert changed(checkout) == []


def test_a_service_that_is_new_is_built(checkout: Checkout) -> None:
    base = checkout.git("rev-parse", "HEAD")
    checkout.git("rm", "-r", "--quiet", "services/chat-handler")
    without = checkout.commit()
    checkout.git("checkout", "--quiet", base, "--", "services/chat-handler")
    checkout.commit()
    assert since(checkout, without) == ["chat-handler"]


def test_a_merge_brings_what_its_branch_changed(checkout: Checkout) -> None:
    checkout.git("switch", "--quiet", "-c", "aside")
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    checkout.commit()
    checkout.git("switch", "--quiet", "main")
    checkout.append("services/document-ingestion/src/document_ingestion/pdf.py")
    base = checkout.commit()
    checkout.git("merge", "--quiet", "--no-edit", "aside")
    assert since(checkout, base) == ["chat-handler"]


def test_a_change_that_was_taken_back_touches_none(checkout: Checkout) -> None:
    base = checkout.git("rev-parse", "HEAD")
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    checkout.commit()
    checkout.git("revert", "--no-edit", "HEAD")
    assert since(checkout, base) == []


@pytest.mark.parametrize("base", ["", "0" * 40, "deadbeef" * 5])
def test_with_nothing_to_compare_with_all_are_built(checkout: Checkout, base: str) -> None:
    found = affected(checkout.workspace, checkout.repository, dict.fromkeys(ALL, base))
    assert found == dict.fromkeys(ALL, EVERYTHING)


def test_each_service_is_compared_with_a_commit_of_its_own(checkout: Checkout) -> None:
    first = checkout.git("rev-parse", "HEAD")
    checkout.append("packages/handler-base/src/handler_base/errors.py")
    second = checkout.commit()
    bases = dict.fromkeys(ALL, second) | {"document-ingestion": first, "local-inference": ""}
    found = affected(checkout.workspace, checkout.repository, bases)
    assert list(found) == ["document-ingestion", "local-inference"]
    assert (
        found["document-ingestion"] == f"packages/handler-base/src/handler_base/errors.py since {first[:7]}"
    )


def run_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ref: str, payload: object) -> int:
    event = tmp_path / "event.json"
    event.write_text(json.dumps(payload))
    monkeypatch.setenv("GITHUB_EVENT_NAME", name)
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(event))
    monkeypatch.setenv("GITHUB_REF", ref)
    return main(["affected"])


def test_a_push_hands_its_matrix_and_tags_on(
    checkout: Checkout, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkout.git("rev-parse", "HEAD")
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    commit = checkout.commit()
    assert run_in_ci(tmp_path, monkeypatch, "push", "refs/heads/main", {"before": before}) == 0
    said = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    assert json.loads(said["services"]) == ["chat-handler"]
    assert said["any"] == "true"
    assert said["tags"].endswith(commit[:7])
    assert said["registry"] == "git.example.com/ada"


def test_a_push_that_touches_nothing_hands_on_an_empty_matrix(
    checkout: Checkout, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkout.git("rev-parse", "HEAD")
    checkout.write("docs/new.md", "new")
    checkout.commit()
    assert run_in_ci(tmp_path, monkeypatch, "push", "refs/heads/main", {"before": before}) == 0
    assert outputs.read_text().startswith("services=[]\nany=false\n")


def test_a_pull_request_is_not_charged_with_what_its_target_got_meanwhile(
    checkout: Checkout, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.git("switch", "--quiet", "-c", "aside")
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    checkout.commit()
    checkout.git("switch", "--quiet", "main")
    checkout.append("packages/handler-base/src/handler_base/errors.py")
    target = checkout.commit()
    checkout.git("switch", "--quiet", "aside")
    payload = {"pull_request": {"base": {"sha": target}}}
    assert run_in_ci(tmp_path, monkeypatch, "pull_request", "refs/pull/1/head", payload) == 0
    assert outputs.read_text().startswith('services=["chat-handler"]\n')


def test_a_forced_push_over_a_lost_commit_builds_all(
    checkout: Checkout, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_in_ci(tmp_path, monkeypatch, "push", "refs/heads/main", {"before": "c" * 40}) == 0
    assert outputs.read_text().startswith(f"services={json.dumps(ALL)}\nany=true\n")


def test_a_person_names_the_base_and_reads_the_reasons(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    checkout.commit()
    assert main(["affected", "--base", "HEAD~1"]) == 0
    said = capsys.readouterr()
    assert said.out == '["chat-handler"]\n'
    assert said.err.startswith("chat-handler: services/chat-handler/src/chat_handler/answer.py since ")
