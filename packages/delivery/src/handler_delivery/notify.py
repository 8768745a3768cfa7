"""Tell a phone how a run ended: one message to ntfy, with the true result of all jobs.

`NEEDS` carries what the jobs before this one came to, as `toJSON(needs)` writes it. `NTFY_URL` and `NTFY_TOPIC` say where
to, `NTFY_TOKEN` who asks. Whatever happens to the message, the result of the run stays what it is: this ends with 0.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from handler_delivery.errors import DeliveryError
from handler_delivery.gitea import gitea
from handler_delivery.outputs import explain, say
from handler_delivery.web import call

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

FAILURE, CANCELLED, SUCCESS, SKIPPED, UNKNOWN = "failure", "cancelled", "success", "skipped", "unknown"

_SAID = {SUCCESS: "passed", FAILURE: "failed", CANCELLED: "was cancelled", UNKNOWN: "ended, nobody knows how"}
_PRIORITY = {SUCCESS: 2, FAILURE: 4, CANCELLED: 3, UNKNOWN: 4}
_TAG = {SUCCESS: "white_check_mark", FAILURE: "rotating_light", CANCELLED: "stop_sign", UNKNOWN: "question"}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        result: `success`, `failure`, `cancelled` or `unknown`.
        jobs: Each job and its own result.
    """

    result: str
    jobs: Mapping[str, str]


def outcome(needs: str) -> Outcome:
    """Return how a run ended: one failure is a failure, whatever else; then unknown, then cancelled.

    A job that was skipped on purpose is fine, a run in which nothing ran at all is not known to be.

    Args:
        needs: `toJSON(needs)`.
    """
    try:
        data: object = json.loads(needs)
    except ValueError:
        data = None
    if not isinstance(data, dict) or not data:
        return Outcome(UNKNOWN, {})
    known = {FAILURE, CANCELLED, SUCCESS, SKIPPED}
    jobs: dict[str, str] = {}
    for name, job in cast("dict[str, Any]", data).items():
        said = str(cast("dict[str, Any]", job).get("result", "")).lower() if isinstance(job, dict) else ""
        jobs[name] = said if said in known else UNKNOWN
    for result in (FAILURE, UNKNOWN, CANCELLED, SUCCESS):
        if result in jobs.values():
            return Outcome(result, jobs)
    return Outcome(UNKNOWN, jobs)


def message(found: Outcome, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what ntfy is told."""
    server = gitea(environ)
    workflow = environ.get("GITHUB_WORKFLOW") or "The run"
    branch = environ.get("GITHUB_HEAD_REF") or environ.get("GITHUB_REF_NAME") or "?"
    commit = environ.get("GITHUB_SHA", "")
    told = {
        "title": f"{server.repository + ': ' if server else ''}{workflow} {_SAID[found.result]} on {branch}",
        "message": "\n".join(f"{job}: {result}" for job, result in found.jobs.items())
        or "no job said a result",
        "priority": _PRIORITY[found.result],
        "tags": [_TAG[found.result]],
    }
    if server and commit:  # its page links every job of the run
        told["click"] = server.page(f"commit/{commit}")
    return told


def send(url: str, topic: str, token: str, told: Mapping[str, Any]) -> str:
    """Send a message.

    Returns:
        What went wrong; empty when it was sent.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = call(url.rstrip("/") + "/", value={"topic": topic, **told}, headers=headers, timeout=15)
    except DeliveryError as error:
        return str(error)
    return "" if answer.status == 200 else answer.words()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: all comes from the environment."""
    del parser


def run(options: argparse.Namespace) -> int:
    """Send the result; a message that does not get through is a warning."""
    del options
    told = message(outcome(os.environ.get("NEEDS", "")), os.environ)
    say(f"{told['title']}\n{told['message']}")
    url, topic = os.environ.get("NTFY_URL", ""), os.environ.get("NTFY_TOPIC", "")
    if not url or not topic:
        say("nobody is told: NTFY_URL and NTFY_TOPIC are not both set")
        return 0
    problem = send(url, topic, os.environ.get("NTFY_TOKEN", ""), told)
    if problem:
        explain(f"warning: ntfy was not told. {problem}")
    return 0
