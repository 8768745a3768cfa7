"""`handlers trigger` without a pipeline: what can be triggered, and what it can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from handlers_cli.exchange import asking
from handlers_cli.pipelines import bridge
from handlers_cli.text import aligned, one_line

if TYPE_CHECKING:
    import asyncio

    from handler_messages import PipelineInfo, PipelineListResponse, PipelineParameter
    from handlers_cli.exchange import Exchange
    from handlers_cli.terminal import Terminal


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

    async def ask(exchange: Exchange) -> int:
        listed = await bridge.pipelines(exchange)
        return bridge.show(listed, terminal, _table, as_json=options.as_json)

    return await asking(
        options.nats_url, "handlers-trigger", terminal, ask, service=bridge.SERVICE, interrupt=interrupt
    )


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
