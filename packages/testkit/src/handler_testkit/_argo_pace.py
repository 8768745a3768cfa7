"""Workflows of a scripted Argo Server that advance by themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from handler_testkit._argo_workflows import Workflow
    from handler_testkit.argo import ArgoServer


def paced(
    server: ArgoServer, seconds: Callable[[], float], moves: Iterable[tuple[str, Mapping[str, object]]]
) -> Callable[[Workflow], object]:
    """Return an `on_submit` that lets every workflow go through `moves`, each after a pause.

    Args:
        server: Where they are.
        seconds: Draws a pause.
        moves: Phases, with other fields that change along.
    """
    plan = list(moves)

    def begin(workflow: Workflow) -> None:
        loop = asyncio.get_running_loop()

        def step(number: int) -> None:
            now = server.workflows.live.get(workflow.name)
            if now is None or now.ended or now.shutdown:
                return
            phase, fields = plan[number]
            server.move(workflow.name, phase, **fields)
            if number + 1 < len(plan):
                loop.call_later(seconds(), step, number + 1)

        loop.call_later(seconds(), step, 0)

    return begin
