"""The workflows as they are written: nothing in them that is not a make target, nothing that moves under us."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / ".gitea" / "workflows").glob("*.y*ml"))
MAKE = re.compile(r"make (?P<target>[a-z0-9-]+)")
PINNED = re.compile(r"uses: (?P<action>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40}) # v\d+\.\d+\.\d+")
ACTIONS = {"actions/checkout", "docker/login-action", "docker/setup-buildx-action"}


class Job(NamedTuple):
    workflow: str
    name: str
    data: dict[str, Any]
    others: set[str]


def jobs() -> list[Job]:
    found = []
    for file in FILES:
        data = yaml.safe_load(file.read_text())["jobs"]
        found += [Job(file.name, name, job, set(data) - {name}) for name, job in data.items()]
    return found


JOBS = jobs()
each_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.workflow}-{job.name}")
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_workflows_are_there() -> None:
    assert [file.name for file in FILES] == ["ci.yaml", "nightly.yaml", "release.yaml"]


@each_job
def test_a_step_runs_one_make_target_and_holds_no_logic(job: Job) -> None:
    for step in job.data["steps"]:
        assert step.get("name"), step
        if "run" in step:
            match = MAKE.fullmatch(step["run"])
            assert match, step["run"]
            assert match["target"] in targets()
            assert "shell" not in step


@each_file
def test_an_action_is_pinned_to_a_commit_whose_version_a_comment_says(file: Path) -> None:
    for line in file.read_text().splitlines():
        if "uses:" in line:
            match = PINNED.fullmatch(line.strip().removeprefix("- "))
            assert match, line
            assert match["action"] in ACTIONS, (
                "the runner has no cache, no artifacts and no setup-uv of GitHub's"
            )


def test_an_action_is_pinned_to_the_same_commit_everywhere() -> None:
    pins = {match.groups() for file in FILES for match in PINNED.finditer(file.read_text())}
    assert len(pins) == len({action for action, _ in pins})


@each_job
def test_a_job_is_bounded_in_time_and_runs_where_the_runner_listens(job: Job) -> None:
    assert 0 < job.data["timeout-minutes"] <= 90
    assert job.data["runs-on"] == "ubuntu-latest"
    assert "container" not in job.data


@each_job
def test_a_job_leaves_no_token_in_its_checkout(job: Job) -> None:
    for step in job.data["steps"]:
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


@each_file
def test_the_last_job_tells_the_result_of_all_others(file: Path) -> None:
    told = {job.name: job for job in JOBS if job.workflow == file.name}["notify"]
    assert set(told.data["needs"]) == told.others
    assert told.data["if"] == "always()"
    assert told.data["steps"][-1]["env"]["NEEDS"] == "${{ toJSON(needs) }}"


@each_file
def test_a_workflow_starts_with_no_more_than_reading(file: Path) -> None:
    data = yaml.safe_load(file.read_text())
    assert data["permissions"] == {"contents": "read"}
    assert data["concurrency"]["group"]
    writing = {name: job["permissions"] for name, job in data["jobs"].items() if "permissions" in job}
    assert writing == ({"release": {"contents": "write"}} if file.name == "release.yaml" else {})


@each_job
def test_images_are_pushed_from_main_alone_and_only_after_they_started(job: Job) -> None:
    steps = [step for step in job.data["steps"] if "run" in step or "login" in step.get("uses", "")]
    runs = [step.get("run", "login") for step in steps]
    if "make push" not in runs:
        return
    assert runs == ["make images", "login", "make push"]
    if job.workflow == "ci.yaml":
        assert {step.get("if") for step in steps} == {None, "github.ref == 'refs/heads/main'"}
        assert set(job.data["needs"]) == job.others - {"notify"}
    else:
        release = next(other for other in JOBS if (other.workflow, other.name) == (job.workflow, "release"))
        assert release.data["needs"] == "checks"


def test_checks_run_for_every_push_and_pull_request() -> None:
    data = yaml.safe_load((ROOT / ".gitea" / "workflows" / "ci.yaml").read_text())
    events = data[True]  # YAML 1.1 reads `on` as a boolean
    assert events["push"] == {"branches": ["**"]}
    assert "pull_request" in events
    assert {"lint", "test", "manifests"} == {
        name for name, job in data["jobs"].items() if not {"if", "needs"} & set(job)
    }


def test_what_a_workflow_checks_can_be_checked_here_with_one_command() -> None:
    here = set(re.findall(r"^make ([a-z0-9-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    steps = [step.get("run", "") for job in JOBS for step in job.data["steps"]]
    there = {match["target"] for run in steps if (match := MAKE.fullmatch(run))}
    assert there - here <= {"affected", "push", "release", "wheels", "publish", "notify"}


RENOVATE = json.loads((ROOT / "renovate.json").read_text())


def matches(pattern: str, path: str) -> bool:
    return re.search(pattern.removeprefix("/").removesuffix("/"), path) is not None


def test_renovate_looks_at_the_workflows() -> None:
    (workflows,) = RENOVATE["github-actions"]["managerFilePatterns"]
    assert all(matches(workflows, file.relative_to(ROOT).as_posix()) for file in FILES)


@pytest.mark.parametrize("path", ["Makefile", "images/Dockerfile"])
def test_renovate_finds_every_uv_that_is_pinned(path: str) -> None:
    assert found_by_renovate(path) == ["uv"]


def test_renovate_finds_the_image_of_the_kubeflow_steps() -> None:
    assert found_by_renovate("deploy/pipelines/kubeflow/components.py") == ["docker.io/library/python"]


def found_by_renovate(path: str) -> list[str]:
    """Return what the custom managers find in a file: names of dependencies."""
    found: list[str] = []
    for manager in RENOVATE["customManagers"]:
        if not any(matches(pattern, path) for pattern in manager["managerFilePatterns"]):
            continue
        (expression,) = manager["matchStrings"]
        for match in re.finditer(expression.replace("(?<", "(?P<"), (ROOT / path).read_text()):
            assert match["currentValue"]
            found.append(match.groupdict().get("depName") or manager["depNameTemplate"])
    return found


def test_one_version_of_uv_is_pinned() -> None:
    files = [(ROOT / path).read_text() for path in ("Makefile", "images/Dockerfile")]
    assert len({re.findall(r"UV_VERSION ?\??= ?([\d.]+)", text)[0] for text in files}) == 1
