"""`handlers runs`: which runs there are, and how they go."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handler_base.messaging import wire
from handler_messages import ErrorResponse, PipelineRunListRequest
from handlers_cli.exchange import Exchange, over_nats
from handlers_cli.pipelines import bridge
from handlers_cli.pipelines.statuses import ENDS
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, Terminal, printable
from handlers_cli.text import aligned, duration, one_line, start_of

if TYPE_CHECKING:
    import asyncio

    from handler_base.messaging.connection import Connection
    from handler_messages import PipelineRun, PipelineRunListResponse

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

    async def run(connection: Connection) -> int:
        exchange = Exchange(connection, terminal, bridge.SERVICE, "request")

        async def ask() -> int:
            listed = await bridge.runs(exchange, request)
            if options.as_json:
                terminal.line(wire.encode(listed, wire.JSON).decode())
            if isinstance(listed, ErrorResponse):
                terminal.error(printable(listed.message), listed.type)
                return EXIT_FAILED
            if not options.as_json:
                _table(listed, options, terminal)
            return 0

        code = await exchange.until(ask(), interrupt)
        return EXIT_INTERRUPTED if code is None else code

    return await over_nats(options.nats_url, "handlers-runs", terminal, run)


def took(run: PipelineRun, now: float) -> float:
    """Return how many seconds a run has taken, until its end or until `now`."""
    return (run.updated if run.status in ENDS else now) - run.created


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
    return terminal.red(line) if status in ENDS else line
