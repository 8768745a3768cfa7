"""What the commands of pipelines ask of pipeline-bridge."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, TypeVar

from handler_base.messaging import wire
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    PipelineListResponse,
    PipelineRunListRequest,
    PipelineRunListResponse,
    subjects,
)
from handlers_cli.terminal import EXIT_FAILED, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from handler_base.messaging.connection import Connection
    from handlers_cli.exchange import Exchange
    from handlers_cli.terminal import Terminal

AnswerT = TypeVar("AnswerT", PipelineListResponse, PipelineRunListResponse)

SERVICE = "pipeline-bridge"

LIST_SECONDS = 10.0
"""Longest wait for a list."""


async def pipelines(exchange: Exchange) -> PipelineListResponse | ErrorResponse:
    """Return the pipelines that can be triggered, or the error that came instead.

    Raises:
        Unreachable: If no bridge runs.
        HandlerError: If it does not answer.
    """
    return await exchange.request(subjects.PIPELINE_LIST.template, b"", PipelineListResponse, LIST_SECONDS)


async def runs(
    exchange: Exchange, request: PipelineRunListRequest
) -> PipelineRunListResponse | ErrorResponse:
    """Return the runs that are asked for, newest first, or the error that came instead.

    Raises:
        Unreachable: If no bridge runs.
        HandlerError: If it does not answer.
    """
    return await exchange.request(
        subjects.PIPELINE_RUNS_LIST.template, wire.encode(request), PipelineRunListResponse, LIST_SECONDS
    )


def show(
    answer: AnswerT | ErrorResponse,
    terminal: Terminal,
    table: Callable[[AnswerT, Terminal], None],
    *,
    as_json: bool,
) -> int:
    """Show an answer as JSON or as a table, or the error that came instead; return the exit code."""
    if as_json:
        terminal.line(wire.encode(answer, wire.JSON).decode())
    if isinstance(answer, ErrorResponse):
        terminal.error(printable(answer.message), answer.type)
        return EXIT_FAILED
    if not as_json:
        table(answer, terminal)
    return 0


async def cancel(connection: Connection, request_id: str, reason: str) -> None:
    """Have a run stopped, now or when a bridge runs again.

    Raises:
        MessagingError: If that could not be stored.
    """
    request = CancelRequest(request_id=request_id, reason=reason)
    subject = subjects.PIPELINE_CANCEL.build(request_id=request_id)
    await connection.store(subject, wire.encode(request), msg_id=f"cancel-{uuid.uuid4().hex}")
