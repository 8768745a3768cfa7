"""A connection for one command: had within seconds, or a sentence that says why not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec

from handler_base.config import load
from handler_base.errors import HandlerError, MessagingError, NotFound
from handler_base.messaging.connection import Connection
from handler_base.messaging.settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CONNECT_SECONDS = 2.0
"""Longest wait for the NATS server."""


class Unreachable(HandlerError):
    """There is no NATS server where we looked, or nobody listens there."""

    type = "unreachable"


@contextlib.asynccontextmanager
async def connected(url: str, *, name: str) -> AsyncGenerator[Connection]:
    """Connect for the length of an `async with` block.

    Args:
        url: The server, or "" for `NATS_URL` and its default.
        name: What the server calls this client.

    Raises:
        Unreachable: If there is no server.
        ConfigError: If the `NATS_*` settings are wrong.
    """
    settings = load(NatsSettings)
    if url:
        settings = msgspec.structs.replace(settings, url=url)
    connection = Connection(settings, name=name)
    # What it logs about its attempts is part of our own sentence.
    logging.getLogger("handler_base").addHandler(logging.NullHandler())
    logging.getLogger("handler_base").propagate = False
    try:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()
        except TimeoutError:
            reason = connection.status().last_error or "no answer"
            raise Unreachable(
                f"cannot reach NATS at {_without_password(settings.url)}: {reason}. Start the local stack with "
                "`handlers up`, or name another server with --nats-url or NATS_URL"
            ) from None
        yield connection
    finally:
        with contextlib.suppress(MessagingError):
            await connection.close(timeout=1.0)


async def is_running(connection: Connection, service: str) -> bool:
    """Whether a service answers NATS' service discovery."""
    try:
        await connection.request_bytes(f"$SRV.PING.{service}", b"", timeout=1.0)
    except (NotFound, MessagingError):
        return False
    return True


def _without_password(url: str) -> str:
    scheme, _, rest = url.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest.rpartition("@")[2]
