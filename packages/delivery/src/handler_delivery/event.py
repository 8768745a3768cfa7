"""What set a workflow off, as the runner tells it in the environment and in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING = "0" * 40
"""What stands for the commit before the first push of a branch."""

MAIN = "refs/heads/main"


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        name: `push`, `pull_request`, `workflow_dispatch`, `schedule`; empty outside a workflow.
        ref: The branch or tag, `refs/heads/main`.
        base: The commit that the change starts from; empty where there is none to name: the first push of a
            branch, a tag, a run that was started by hand or by the clock.
    """

    name: str
    ref: str
    base: str

    @property
    def is_push_to_main(self) -> bool:
        """Whether this is what images of main are made of."""
        return self.name == "push" and self.ref == MAIN


def read_event(environ: Mapping[str, str]) -> Event:
    """Return the event of this run.

    Args:
        environ: The environment of the step.
    """
    name, ref = environ.get("GITHUB_EVENT_NAME", ""), environ.get("GITHUB_REF", "")
    file = environ.get("GITHUB_EVENT_PATH", "")
    payload: dict[str, Any] = json.loads(Path(file).read_text()) if file and Path(file).is_file() else {}
    base = ""
    if name == "push" and not ref.startswith("refs/tags/"):
        base = str(payload.get("before") or "")
    elif name == "pull_request":
        base = str(payload.get("pull_request", {}).get("base", {}).get("sha") or "")
    return Event(name, ref, "" if base == NOTHING else base)
