"""A run from what is known of it to its end, and what that means for the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_messages.statuses import PIPELINE_ENDS
from handlers_cli.pipelines.progress import wrong
from handlers_cli.pipelines.statuses import drawing
from handlers_cli.terminal import EXIT_FAILED, printable

if TYPE_CHECKING:
    from handler_messages import PipelineStatus
    from handlers_cli.pipelines.progress import Shower
    from handlers_cli.pipelines.statuses import Statuses
    from handlers_cli.terminal import Terminal

CANCELLED = "cancelled"
"""The type of the error of a run that was stopped because somebody asked for it."""


async def follow(statuses: Statuses, shower: Shower) -> PipelineStatus:
    """Show each status as it comes; return the last one."""
    try:
        async with drawing(shower.tick):
            while True:
                status = await statuses.next()
                shower.status(status)
                if status.status in PIPELINE_ENDS:
                    return status
    finally:
        shower.stop()


def outcome(last: PipelineStatus, terminal: Terminal) -> int:
    """Say what went wrong, if anything; return the exit code."""
    if not wrong(last):
        return 0
    message = last.error.message or last.message or f"the run ended with the status {last.status}"
    terminal.error(printable(message.strip()), printable(last.error.type))
    return EXIT_FAILED


def was_cancelled(last: PipelineStatus) -> bool:
    """Whether a run ended because somebody had it stopped."""
    return wrong(last) and last.error.type == CANCELLED
