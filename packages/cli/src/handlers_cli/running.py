"""How a command runs: until its end, or until somebody has had enough of it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from handlers_cli.terminal import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run(command: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Run a command with an event that the first Ctrl-C or SIGTERM sets; the second one ends it at once."""

    async def run() -> int:
        interrupt = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(command(interrupt))

        def interrupted() -> None:
            if interrupt.is_set():
                task.cancel()
            interrupt.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupted)
        try:
            return await task
        except asyncio.CancelledError:
            return EXIT_INTERRUPTED

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return asyncio.run(run())


def seconds(text: str) -> float:
    """Read a number of seconds from the command line."""
    value = float(text)
    if not 0 < value <= 24 * 3600:
        raise argparse.ArgumentTypeError("seconds are more than 0 and at most a day")
    return value


def add_nats(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the server."""
    parser.add_argument(
        "--nats-url",
        default="",
        metavar="URL",
        help="NATS server (default: NATS_URL or nats://127.0.0.1:4222)",
    )


def add_timeout(parser: argparse.ArgumentParser, default: float = 120.0, what: str = "seconds") -> None:
    """Add the option that says how long to wait."""
    parser.add_argument(
        "--timeout", type=seconds, default=default, metavar="S", help=f"{what} (default: {default:g})"
    )
