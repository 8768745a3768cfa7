"""A release: the next version in every member, the changelog, one commit, one tag, pushed together or not at all.

The images and wheels of the release are the work of later jobs, which get the commit and the tags as outputs.
`--again` hands on what was released last, for a run whose later jobs failed.
"""

from __future__ import annotations

import base64
import json
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from handler_delivery.changelog import add_release, notes
from handler_delivery.errors import DeliveryError
from handler_delivery.git import Repository
from handler_delivery.gitea import gitea
from handler_delivery.outputs import explain, hand_on, matrix, say, switched_on
from handler_delivery.process import output
from handler_delivery.tags import hand_on_tags, main_tag
from handler_delivery.versions import Version, changes_since, last_release, next_version
from handler_delivery.workspace import LOCK, Workspace

if TYPE_CHECKING:
    import argparse
    import datetime as dt
    from collections.abc import Mapping

CHANGELOG = "CHANGELOG.md"

BRANCH = "main"

_PROJECT = re.compile(r'(^\[project\]\n(?:(?!\[).*\n)*?version = )"[^"]*"', re.MULTILINE)
_DUNDER = re.compile(r'^__version__ = "[^"]*"', re.MULTILINE)
_LOCKED = r'(\[\[package\]\]\nname = "{name}"\nversion = )"[^"]*"(\nsource = \{{ editable = )'


class Plan(NamedTuple):
    """What would be released.

    Attributes:
        version: The next version.
        last: The tag of the one before; empty before the first.
        text: The notes.
    """

    version: Version
    last: str
    text: str

    @property
    def tag(self) -> str:
        """The tag in git."""
        return f"v{self.version}"


def plan_release(workspace: Workspace, repository: Repository) -> Plan | None:
    """Return what would be released; none when nothing was committed since the last release.

    Raises:
        DeliveryError: If the members do not agree on a version, or this is a shallow clone, where tags are missing.
    """
    if repository.run("rev-parse", "--is-shallow-repository") == "true":
        raise DeliveryError(
            "this clone is shallow: fetch all of it (fetch-depth: 0), a release reads the history"
        )
    versions = {member.version for member in workspace.members.values()}
    if len(versions) != 1:
        raise DeliveryError(f"the members have different versions: {', '.join(sorted(versions))}")
    last = last_release(repository)
    if not last:
        return Plan(Version.parse(versions.pop()), "", notes([]))
    changes = changes_since(repository, last)
    if not changes:
        return None
    return Plan(next_version(Version.parse(last), changes), last, notes(changes))


def write_release(workspace: Workspace, plan: Plan, date: dt.date) -> list[str]:
    """Write the version and the changelog.

    The lock file is changed in place, where it names the version of a member: a release takes no new dependencies.

    Returns:
        The paths that were written, from the root.

    Raises:
        DeliveryError: If a file does not say its version where it should.
    """
    root, version, written = workspace.root, str(plan.version), [CHANGELOG, LOCK]
    lock = (root / LOCK).read_text()
    for member in workspace.members.values():
        project = f"{member.folder}/pyproject.toml"
        (root / project).write_text(_put(_PROJECT, (root / project).read_text(), version, project))
        lock = _put(re.compile(_LOCKED.format(name=re.escape(member.name))), lock, version, LOCK)
        written.append(project)
        for file in sorted((root / member.folder).glob("src/*/__init__.py")):
            text = file.read_text()
            if _DUNDER.search(text):
                file.write_text(_DUNDER.sub(f'__version__ = "{version}"', text))
                written.append(file.relative_to(root).as_posix())
    (root / LOCK).write_text(lock)
    changelog = root / CHANGELOG
    before = changelog.read_text() if changelog.exists() else ""
    changelog.write_text(add_release(before, plan.version, date, plan.text))
    return written


def _put(pattern: re.Pattern[str], text: str, version: str, path: str) -> str:
    changed, count = pattern.subn(
        lambda match: f'{match[1]}"{version}"{match[2] if pattern.groups > 1 else ""}', text
    )
    if count != 1:
        raise DeliveryError(f"{path} does not say the version of one member once, but {count} times")
    return changed


def record_release(repository: Repository, plan: Plan, paths: list[str]) -> str:
    """Commit and tag; returns the commit. `[skip ci]`: the release workflow itself builds what this commit needs."""
    repository.run("add", "--", *paths)
    author = _author(repository)
    repository.run(*author, "commit", "--quiet", "-m", f"Release {plan.version} [skip ci]")
    repository.run(
        *author, "tag", "-a", plan.tag, "--cleanup=verbatim", "-m", f"{plan.version}\n\n{plan.text}"
    )
    return repository.commit()


def _author(repository: Repository) -> list[str]:
    """Return who commits where git does not know it: on a runner."""
    try:
        repository.run("var", "GIT_COMMITTER_IDENT")
    except DeliveryError:
        server = gitea(os.environ)
        host = server.host.split(":")[0] if server else "localhost"
        return ["-c", "user.name=Release", "-c", f"user.email=release@{host}"]
    return []


def push_release(repository: Repository, plan: Plan) -> None:
    """Push the commit and the tag together; take both back here when that fails.

    Raises:
        DeliveryError: If somebody pushed to the branch meanwhile, or the push is not allowed.
    """
    try:
        output(
            "git", "push", "--quiet", "--atomic", "origin", f"HEAD:refs/heads/{BRANCH}", f"refs/tags/{plan.tag}",
            cwd=repository.root, environ={**os.environ, **_login(os.environ)},
        )  # fmt: skip
    except DeliveryError as error:
        repository.run("tag", "--delete", plan.tag)
        repository.run("reset", "--quiet", "--keep", "HEAD~1")
        raise DeliveryError(
            f"{plan.version} was not released, nothing was pushed. If {BRANCH} moved on meanwhile, run it again; "
            f"if {BRANCH} is protected, RELEASE_TOKEN must belong to someone who may push to it.\n{error}"
        ) from error


def _login(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what gives git the token for this server alone, outside the command line and the configuration."""
    server, token = gitea(environ), environ.get("RELEASE_TOKEN", "")
    if server is None or not token:
        return {}
    basic = base64.b64encode(f"{environ.get('RELEASE_USER') or 'release'}:{token}".encode()).decode()
    return {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{server.url}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how far to go."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        default=switched_on("DRY_RUN"),
        help="say what would be released; change nothing (also: DRY_RUN=true)",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        default=switched_on("AGAIN"),
        help="hand on the last release once more; change nothing (also: AGAIN=true)",
    )
    parser.add_argument("--no-push", action="store_true", help="commit and tag here only")


def run(options: argparse.Namespace) -> int:
    """Release, or say that there is nothing to."""
    workspace = Workspace.find()
    repository = Repository(workspace.root)
    if options.again:
        if options.dry_run:
            raise DeliveryError("choose one: a dry run changes nothing, `again` builds the last release")
        last = last_release(repository)
        if not last:
            raise DeliveryError("nothing was released yet")
        say(f"{last} once more")
        return _hand_on(workspace, repository, str(Version.parse(last)), repository.commit(last))
    plan = plan_release(workspace, repository)
    if plan is None:
        say(f"nothing to release: no commit since {last_release(repository)}")
        hand_on(released="false")
        return 0
    if options.dry_run:
        say(f"would release {plan.version} after {plan.last or 'nothing'}\n\n{plan.text}")
        hand_on(released="false")
        return 0
    if not options.no_push and _branch(repository) != BRANCH:
        raise DeliveryError(f"a release is made on {BRANCH}; to see one here, add --no-push")
    changed = repository.uncommitted(["."])
    if changed:
        raise DeliveryError(
            "\n".join(["a release is made of what is committed; this is not:", *changed[:20]])
        )
    date = repository.committed_at().date()
    commit = record_release(repository, plan, write_release(workspace, plan, date))
    if not options.no_push:
        push_release(repository, plan)
        _announce(plan)
    say(f"released {plan.version}")
    return _hand_on(workspace, repository, str(plan.version), commit)


def _branch(repository: Repository) -> str:
    """Return the branch that is checked out; where it is a bare commit, the one that CI says it is of."""
    name = repository.run("rev-parse", "--abbrev-ref", "HEAD")
    return name if name != "HEAD" else os.environ.get("GITHUB_REF", "").removeprefix("refs/heads/")


def _announce(plan: Plan) -> None:
    """Make the release page. The tag is out by now, so a page that cannot be made holds nothing up."""
    server, token = gitea(os.environ), os.environ.get("RELEASE_TOKEN", "")
    if server is None or not token:
        return
    try:
        problem = server.announce(plan.tag, str(plan.version), plan.text, token)
    except DeliveryError as error:
        problem = str(error)
    if problem:
        explain(f"warning: no release page for {plan.tag}; the tag itself carries the notes. {problem}")


def _hand_on(workspace: Workspace, repository: Repository, version: str, commit: str) -> int:
    services = json.dumps(matrix(member.name for member in workspace.images))
    hand_on(released="true", version=version, commit=commit, services=services)
    if os.environ.get("GITHUB_OUTPUT"):
        hand_on_tags(version, main_tag(repository, commit))
    return 0
