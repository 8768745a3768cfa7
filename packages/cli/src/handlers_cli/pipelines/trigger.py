"""`handlers trigger`: a pipeline is run, and followed to its end."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from handler_base.errors import HandlerError, MessagingError
from handler_base.messaging import wire
from handler_messages import ErrorResponse, PipelineTrigger, subjects
from handlers_cli.exchange import Exchange, over_nats
from handlers_cli.pipelines import bridge
from handlers_cli.pipelines.following import follow, outcome, was_cancelled
from handlers_cli.pipelines.places import absolute_places
from handlers_cli.pipelines.progress import Shower, shower
from handlers_cli.pipelines.statuses import Statuses, has_begun
from handlers_cli.terminal import EXIT_INTERRUPTED, Terminal
from handlers_cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handler_base.messaging.connection import Connection
    from handler_messages import PipelineStatus

CANCEL_SECONDS = 15.0
"""Longest wait for the end of a run that was told to stop: engines give it some time to do so."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """What to run, and how.

    Attributes:
        pipeline: Its name.
        parameters: What it is told.
        nats_url: The server, "" for the settings' one.
        user: On whose behalf.
        request_id: The id of the request, "" for a new one. One that was used before means that run.
        timeout: Seconds until we stop to follow it, None for never.
        detach: Print the id of the request and leave it at that.
        form: Text for people, one JSON object, or one JSON object a line.
    """

    pipeline: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    nats_url: str = ""
    user: str = ""
    request_id: str = ""
    timeout: float | None = None
    detach: bool = False
    form: Literal["text", "json", "jsonl"] = "text"


async def trigger(what: Trigger, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Trigger it, follow it, return the exit code; `interrupt` cancels the run."""
    shown = shower(what.form, terminal)

    async def run(connection: Connection) -> int:
        if what.request_id:
            subjects.check_token(what.request_id, "--id")
        return await _Triggering(connection, what, shown, terminal).run(interrupt)

    return await over_nats(what.nats_url, "handlers-trigger", terminal, run, stop=shown.stop)


class _Triggering:
    """One trigger and the run that comes of it."""

    def __init__(self, connection: Connection, what: Trigger, shown: Shower, terminal: Terminal) -> None:
        self._connection = connection
        self._what = what
        self._shower = shown
        self._terminal = terminal
        self._exchange = Exchange(connection, terminal, bridge.SERVICE, "trigger", stop=shown.stop)
        self._request = PipelineTrigger(
            request_id=what.request_id or uuid.uuid4().hex,
            pipeline=what.pipeline,
            parameters=what.parameters,
            user_id=what.user,
        )
        self._sent = False
        self._last: PipelineStatus | None = None

    async def run(self, interrupt: asyncio.Event) -> int:
        code = await self._exchange.until(self._trigger(), interrupt, self._cancel)
        return EXIT_INTERRUPTED if code is None else code

    async def _trigger(self) -> int:
        request = self._request
        if self._what.request_id and await has_begun(self._connection, request.request_id):
            self._terminal.note(
                f"{request.request_id} was triggered before; this is how it goes with that run"
            )
        else:
            request.parameters.update(await self._places())
            self._sent = True
            await self._exchange.store(subjects.PIPELINE_TRIGGER.template, request, request.request_id)
        if self._what.detach:
            as_json = self._what.form != "text"
            self._terminal.line(wire.encode(request, wire.JSON).decode() if as_json else request.request_id)
            return 0
        self._shower.begin(self._title())
        self._sent = True
        try:
            async with (
                asyncio.timeout(self._what.timeout),
                Statuses(self._connection, request.request_id) as all_of_it,
            ):
                self._last = await follow(all_of_it, self._shower)
        except TimeoutError:
            raise MessagingError(
                f"the run did not end within {self._what.timeout:g} s; it goes on, and `handlers runs "
                f"{request.request_id}` follows it"
            ) from None
        if self._exchange.cancelling and was_cancelled(self._last):
            return EXIT_INTERRUPTED
        return outcome(self._last, self._terminal)

    async def _places(self) -> dict[str, str]:
        """Return what is to be said in place of relative paths: nothing, unless the run is on this machine."""
        found = absolute_places(self._what.parameters)
        if not found:
            return {}
        try:
            listed = await bridge.pipelines(self._exchange)
        except HandlerError:  # whoever takes the trigger later may be anywhere
            return {}
        if isinstance(listed, ErrorResponse):
            return {}
        engines = {pipeline.name: pipeline.engine for pipeline in listed.pipelines}
        return found if engines.get(self._what.pipeline) == "local" else {}

    def _title(self) -> str:
        bold, dim = self._terminal.bold, self._terminal.dim
        told = "".join(f" {one_line(f'{name}={value}')}" for name, value in self._request.parameters.items())
        return f"{bold(one_line(self._request.pipeline))}{told}  {dim(self._request.request_id)}"

    async def _cancel(self, running: asyncio.Future[int]) -> None:
        if not self._sent:
            return
        self._exchange.cancelling = True
        self._shower.stop()
        request_id = self._request.request_id
        self._terminal.note("cancelling the run; Ctrl-C again does not wait for its end")
        try:
            await bridge.cancel(self._connection, request_id, "interrupted at the terminal")
        except MessagingError as error:
            self._terminal.error(
                f"the run could not be cancelled: {error.message}; try `handlers runs {request_id} --cancel`"
            )
            return
        await asyncio.wait((running,), timeout=CANCEL_SECONDS)
        self._shower.stop()
        if self._last is None:
            self._terminal.note(
                f"cancelled, but the run has not ended yet; `handlers runs {request_id}` follows it"
            )
        elif was_cancelled(self._last):
            self._terminal.note("cancelled")
