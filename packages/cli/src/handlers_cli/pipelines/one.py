"""`handlers runs ID`: one run, what became of it so far, and how it goes on; or its cancellation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from handler_base.errors import MessagingError, NotFound
from handler_base.messaging import wire
from handler_messages import (
    ErrorResponse,
    PipelineRun,
    PipelineRunListRequest,
    PipelineStatus,
    subjects,
)
from handler_messages.statuses import PIPELINE_ENDS
from handlers_cli.connecting import Unreachable
from handlers_cli.exchange import Exchange, over_nats
from handlers_cli.pipelines import bridge
from handlers_cli.pipelines.following import follow, outcome, was_cancelled
from handlers_cli.pipelines.progress import Lines, Live, Whole
from handlers_cli.pipelines.statuses import Statuses, has_begun
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, Terminal, printable
from handlers_cli.text import duration, one_line

if TYPE_CHECKING:
    import asyncio

    from handler_base.messaging.connection import Connection
    from handlers_cli.pipelines.progress import Shower

FIRST_SECONDS = 2.0
"""Longest wait for the first word of a run that nobody knows: its trigger may be on its way."""


@dataclass(frozen=True, slots=True)
class One:
    """Which run, and what to do about it.

    Attributes:
        request_id: The id of its request.
        nats_url: The server, "" for the settings' one.
        follow: Whether to stay until its end.
        cancel: Whether to stop it.
        reason: Why, for the records.
        as_json: One JSON object in place of text.
    """

    request_id: str
    nats_url: str = ""
    follow: bool = True
    cancel: bool = False
    reason: str = ""
    as_json: bool = False


async def one(options: One, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Show it, stop it if that is wanted, return the exit code; `interrupt` leaves it as it is."""
    showing: list[Shower] = []

    def stop() -> None:
        for shower in showing:
            shower.stop()

    async def run(connection: Connection) -> int:
        subjects.check_token(options.request_id, "the id of a request")
        exchange = Exchange(connection, terminal, bridge.SERVICE, "cancellation", stop=stop)
        return await _One(connection, options, exchange, terminal, showing).run(interrupt)

    return await over_nats(options.nats_url, "handlers-runs", terminal, run, stop=stop)


class _One:
    """One run under a person's eyes."""

    def __init__(
        self,
        connection: Connection,
        options: One,
        exchange: Exchange,
        terminal: Terminal,
        showing: list[Shower],
    ) -> None:
        self._connection = connection
        self._options = options
        self._exchange = exchange
        self._terminal = terminal
        self._showing = showing

    async def run(self, interrupt: asyncio.Event) -> int:
        code = await self._exchange.until(self._show(), interrupt, self._leave)
        return EXIT_INTERRUPTED if code is None else code

    async def _show(self) -> int:
        run = await self._run()
        async with Statuses(self._connection, self._options.request_id) as statuses:
            past = await statuses.past()
            if not past:
                past = [_status_of(run) if run is not None else await self._first(statuses)]
            shower = self._shown(run or _run_of(past[0]), past)
            last = past[-1]
            code = await self._cancel(last) if self._options.cancel else None
            if code is None and self._options.follow and last.status not in PIPELINE_ENDS:
                last = await follow(statuses, shower)
        if isinstance(shower, _Kept):
            self._print_json(run, shower.statuses)
        return self._told(last) if code is None else code

    async def _run(self) -> PipelineRun | None:
        """Return what the service knows of the run; None if it does not know it, or is away and there are statuses.

        Raises:
            Unreachable: If it is away and there are none.
        """
        request_id = self._options.request_id
        try:
            listed = await bridge.runs(self._exchange, PipelineRunListRequest(run_request_id=request_id))
        except Unreachable:
            if not await has_begun(self._connection, request_id):
                raise
            return None
        if isinstance(listed, ErrorResponse):
            raise MessagingError(f"{bridge.SERVICE} cannot tell: {printable(listed.message)}")
        return listed.runs[0] if listed.runs else None

    async def _first(self, statuses: Statuses) -> PipelineStatus:
        try:
            return await statuses.next(FIRST_SECONDS)
        except TimeoutError:
            raise NotFound(f"there is no run of the request {self._options.request_id!r}") from None

    def _shown(self, run: PipelineRun, past: list[PipelineStatus]) -> Shower:
        """Show what there is; return what is to show the rest."""
        if self._options.as_json:
            shower = before = _Kept(self._terminal)
        else:
            before = Lines(self._terminal, named=True)
            shower = Live(self._terminal, before.clock, past[-1]) if self._terminal.live else before
            self._describe(run)
        for status in past if self._options.as_json else _told_of(past):
            before.status(status)
        self._showing.append(shower)
        return shower

    def _describe(self, run: PipelineRun) -> None:
        terminal = self._terminal
        terminal.line(f"{terminal.bold(one_line(run.pipeline))}  {terminal.dim(one_line(run.engine))}")
        facts = [("request", run.request_id), ("run", run.run_id), ("user", run.user_id)]
        told = sorted(run.parameters.items())
        facts += [("parameter", f"{name}={value}") for name, value in told if value]
        if run.created:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created))
            facts.append(("triggered", f"{at}, {duration(time.time() - run.created)} ago"))
        for name, fact in facts:
            if fact:
                terminal.line(f"  {terminal.dim(f'{name:<9}')}  {one_line(fact)}")

    async def _cancel(self, last: PipelineStatus) -> int | None:
        """Have the run stopped; return the exit code if that is all, None if its end is to be seen."""
        if last.status in PIPELINE_ENDS:
            self._terminal.error(f"the run has ended already: {one_line(last.status)}")
            return EXIT_FAILED
        await bridge.cancel(self._connection, self._options.request_id, self._options.reason)
        await self._exchange.tell_absence()
        if self._options.follow:
            return None
        self._terminal.note("the run was told to stop")
        return 0

    def _told(self, last: PipelineStatus) -> int:
        if not self._options.cancel:
            return outcome(last, self._terminal)
        if was_cancelled(last):
            self._terminal.note("cancelled")
            return 0
        code = outcome(last, self._terminal)
        if not code:
            self._terminal.error("the run succeeded before it could be stopped")
        return EXIT_FAILED

    async def _leave(self, _showing: asyncio.Future[int]) -> None:
        for shower in self._showing:
            shower.stop()
        request_id = self._options.request_id
        self._terminal.note(f"the run goes on; `handlers runs {request_id} --cancel` stops it")

    def _print_json(self, run: PipelineRun | None, statuses: list[PipelineStatus]) -> None:
        each = [msgspec.Raw(wire.encode(status, wire.JSON)) for status in statuses]
        if run is not None:  # what was said of it before it went on
            last = statuses[-1]
            run.status, run.message, run.updated = last.status, last.message, last.timestamp
        known = msgspec.Raw(wire.encode(run, wire.JSON)) if run is not None else None
        self._terminal.line(msgspec.json.encode({"run": known, "statuses": each}).decode())


class _Kept(Whole):
    """Keeps the statuses."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(terminal)
        self.statuses: list[PipelineStatus] = []

    def status(self, status: PipelineStatus) -> None:
        """Keep it."""
        self.statuses.append(status)


def _told_of(past: list[PipelineStatus]) -> list[PipelineStatus]:
    """Return the statuses that tell a person how it went: of many in a row that tell progress, the first and the last."""
    return [
        status
        for number, status in enumerate(past)
        if not (
            0 < number < len(past) - 1 and past[number - 1].status == status.status == past[number + 1].status
        )
    ]


def _status_of(run: PipelineRun) -> PipelineStatus:
    """Return the status of a run whose statuses are too old to be kept."""
    return PipelineStatus(
        request_id=run.request_id,
        status=run.status,
        pipeline=run.pipeline,
        engine=run.engine,
        run_id=run.run_id,
        message=run.message,
        timestamp=run.updated,
    )


def _run_of(status: PipelineStatus) -> PipelineRun:
    """Return what a status tells of a run that the service cannot be asked about."""
    return PipelineRun(
        request_id=status.request_id, pipeline=status.pipeline, engine=status.engine, run_id=status.run_id
    )
