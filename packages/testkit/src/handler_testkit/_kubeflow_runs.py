"""A run of the scripted Kubeflow server, in the shapes that the API's own server gives it.

Times are whole seconds, and a time that has not come is that of 1970. The steps of a run stand among what Kubeflow adds
to them: the workflow, its root, a driver before each step and an executor within it.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

Json = dict[str, Any]

ENDED = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
STATES = frozenset({"RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING", "CANCELING", "PAUSED"}) | ENDED


def stamp(seconds: float) -> str:
    """Return a time as the API has it."""
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Run:
    """One run.

    Attributes:
        seen: What the API says of it.
        namespace: Where it is.
        told_to_end: Whether it was ever terminated.
        looks: States that it will be in, one per look at it.
    """

    def __init__(self, body: Json, namespace: str, now: float, steps: tuple[str, ...]) -> None:
        self.namespace = namespace
        self.told_to_end = False
        self.looks: list[str] = []
        self.steps = steps
        self.seen: Json = body | {
            "run_id": secrets.token_hex(16),
            "storage_state": "AVAILABLE",
            "created_at": stamp(now),
            "scheduled_at": stamp(now),
            "finished_at": stamp(0),
            "state": "PENDING",
            "state_history": [{"update_time": stamp(now), "state": "PENDING"}],
        }

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.seen["run_id"]

    @property
    def state(self) -> str:
        """Its state."""
        return self.seen["state"]

    def advance(self, state: str, now: float, error: str = "", done: int | None = None) -> None:
        """Bring it into a state.

        Args:
            state: One of the API's.
            now: Unix time.
            error: What went wrong in the step under way.
            done: How many steps have succeeded; all of them with SUCCEEDED.
        """
        assert state in STATES, state
        changed = state != self.state
        self.seen["state"] = state
        if changed and state != "CANCELING":  # the server does not write that one down
            self.seen["state_history"].append({"update_time": stamp(now), "state": state})
        if error:
            self.seen["state_history"][-1]["error"] = {"code": 13, "message": error}
        if state in ENDED:
            self.seen["finished_at"] = stamp(now)
        if state in {"RUNNING", "SUCCEEDED", "FAILED"} and (state != "FAILED" or done is not None):
            count = len(self.steps) if state == "SUCCEEDED" else done or 0
            self.seen["run_details"] = {"task_details": self._tasks(state, count, now, error)}

    def _tasks(self, state: str, done: int, now: float, error: str) -> list[Json]:
        workflow = f"{self.seen['display_name']}-x7k2p"
        tasks: list[Json] = []

        def add(name: str, state: str, *children: str) -> None:
            ended = state in ENDED
            task: Json = {
                "run_id": self.run_id,
                "task_id": f"{self.run_id}-{len(tasks)}",
                "display_name": name,
                "create_time": self.seen["created_at"],
                "start_time": stamp(now),
                "end_time": stamp(now if ended else 0),
                "state": state,
                "state_history": [{"update_time": stamp(now), "state": state}],
                "child_tasks": [{"pod_name": child} for child in children],
            }
            if state == "FAILED" and error:
                task["error"] = {"code": 13, "message": error}
            tasks.append(task)

        add(workflow, state, f"{workflow}-1000", f"{workflow}-1001")
        add("root-driver", "SUCCEEDED", f"{workflow}-1001")
        add("root", state, *(f"{workflow}-{2000 + index}" for index in range(len(self.steps))))
        for index, step in enumerate(self.steps):
            under_way = index == done
            of_step = "SUCCEEDED" if index < done else state if under_way else "PENDING"
            add(step, of_step, f"{workflow}-{3000 + index}")
            if index <= done:
                add(f"{step}-driver", "SUCCEEDED")
                add("executor", of_step)
        return tasks
