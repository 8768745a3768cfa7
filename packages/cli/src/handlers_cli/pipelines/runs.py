"""`handlers runs`: which runs there are, and how they go."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handler_messages import PipelineRunListRequest
from handler_messages.statuses import PIPELINE_ENDS
from handlers_cli.exchange import asking
from handlers_cli.pipelines import bridge
from handlers_cli.text import aligned, duration, one_line, start_of

if TYPE_CHECKING:
    import asyncio

    from handler_messages import PipelineRun, PipelineRunListResponse
    from handlers_cli.exchange import Exchange
    from handlers_cli.terminal import Terminal

_HEAD = ("REQUEST", "PIPELINE", "ENGINE", "STATUS", "AGE", "TOOK", "MESSAGE")
_STATUS = _HEAD.index("STATUS")


@dataclass(frozen=True, slots=True)
class Runs:
    """Which runs.

    Attributes:
        nats_url: The server, "" for the settings' one.
        pipeline: Only runs of this one, "" for all.
        status: Only runs with this status; `active` for those that have not ended, "" for all.
        limit: Most runs to list, 0 for as many as the service thinks right.
        as_json: One JSON object in place of text.
    """

    nats_url: str = ""
    pipeline: str = ""
    status: str = "active"
    limit: int = 0
    as_json: bool = False


async def runs(options: Runs, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """List the runs, return the exit code."""
    request = PipelineRunListRequest(pipeline=options.pipeline, status=options.status, limit=options.limit)

    def table(listed: PipelineRunListResponse, terminal: Terminal) -> None:
        _table(listed, options, terminal)

    async def ask(exchange: Exchange) -> int:
        listed = await bridge.runs(exchange, request)
        return bridge.show(listed, terminal, table, as_json=options.as_json)

    return await asking(
        options.nats_url, "handlers-runs", terminal, ask, service=bridge.SERVICE, interrupt=interrupt
    )


def took(run: PipelineRun, now: float) -> float:
    """Return how many seconds a run has taken, until its end or until `now`."""
    return (run.updated if run.status in PIPELINE_ENDS else now) - run.created


def _table(listed: PipelineRunListResponse, options: Runs, terminal: Terminal) -> None:
    if not listed.runs:
        if options.status == "active":
            terminal.line("nothing runs; `handlers runs --all` lists what has ended, too")
        else:
            terminal.line("no runs")
        return
    now = time.time()
    rows = [_HEAD, *(_row(run, now) for run in listed.runs)]
    room = shutil.get_terminal_size().columns if terminal.live else 0
    for number, (row, cells) in enumerate(zip(rows, aligned(rows), strict=True)):
        line = "  ".join(cells).rstrip()
        if room and row[-1]:
            line = start_of(line, room)
        terminal.line(terminal.dim(line) if not number else _coloured(line, row, terminal))
    if listed.total > len(listed.runs):
        terminal.note(f"{len(listed.runs)} of {listed.total} runs; --limit lists more")


def _row(run: PipelineRun, now: float) -> tuple[str, ...]:
    foreign = (run.request_id, run.pipeline, run.engine, run.status)
    times = (duration(now - run.created), duration(took(run, now)))
    return (*map(one_line, foreign), *times, one_line(run.message))


def _coloured(line: str, row: tuple[str, ...], terminal: Terminal) -> str:
    """Return the line of a run in the colour of its status."""
    status = row[_STATUS]
    if status == "succeeded":
        return terminal.green(line)
    return terminal.red(line) if status in PIPELINE_ENDS else line
