"""`handlers trigger` without a pipeline: what can be triggered, and what it can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from handler_base.messaging import wire
from handler_messages import ErrorResponse
from handlers_cli.exchange import Exchange, over_nats
from handlers_cli.pipelines import bridge
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, Terminal, printable
from handlers_cli.text import aligned, one_line

if TYPE_CHECKING:
    import asyncio

    from handler_base.messaging.connection import Connection
    from handler_messages import PipelineInfo, PipelineListResponse, PipelineParameter


@dataclass(frozen=True, slots=True)
class Known:
    """What to list.

    Attributes:
        nats_url: The server, "" for the settings' one.
        as_json: One JSON object in place of text.
    """

    nats_url: str = ""
    as_json: bool = False


async def known(options: Known, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """List the pipelines, return the exit code."""

    async def run(connection: Connection) -> int:
        exchange = Exchange(connection, terminal, bridge.SERVICE, "request")

        async def ask() -> int:
            listed = await bridge.pipelines(exchange)
            if options.as_json:
                terminal.line(wire.encode(listed, wire.JSON).decode())
            if isinstance(listed, ErrorResponse):
                terminal.error(printable(listed.message), listed.type)
                return EXIT_FAILED
            if not options.as_json:
                _table(listed, terminal)
            return 0

        code = await exchange.until(ask(), interrupt)
        return EXIT_INTERRUPTED if code is None else code

    return await over_nats(options.nats_url, "handlers-trigger", terminal, run)


def _table(listed: PipelineListResponse, terminal: Terminal) -> None:
    if not listed.pipelines:
        terminal.line("no pipelines")
        return
    for pipeline in listed.pipelines:
        head = f"{terminal.bold(one_line(pipeline.name))}  {terminal.dim(one_line(pipeline.engine))}"
        terminal.line(f"{head}  {one_line(pipeline.description)}".rstrip())
        _parameters(pipeline, terminal)
        terminal.line()
    terminal.line(terminal.dim("handlers trigger PIPELINE NAME=VALUE … runs one"))


def _parameters(pipeline: PipelineInfo, terminal: Terminal) -> None:
    rows = [
        (one_line(each.name), one_line(each.type) or "string", one_line(_needs(each)), one_line(_about(each)))
        for each in pipeline.parameters
    ]
    for cells in aligned(rows):
        terminal.line(f"    {'  '.join(cells)}".rstrip())


def _needs(parameter: PipelineParameter) -> str:
    if parameter.required:
        return "required"
    return f"default {parameter.default_value}" if parameter.default_value else ""


def _about(parameter: PipelineParameter) -> str:
    allowed = f"one of {', '.join(parameter.allowed)}" if parameter.allowed else ""
    return "; ".join(filter(None, (parameter.description, allowed)))
