"""Answers that stop when the client goes away."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping
    from typing import Any

    from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, and cancel it as soon as the client goes away. The request's body must have been read.

    Raises:
        ClientGone: If the client went away.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for running in (task, watch):
            running.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Stream(Response):
    """A body sent piece by piece; when the client goes away `pieces` is closed at once.

    Starlette's own would notice with the next piece only.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = "text/event-stream",
    ) -> None:
        self.pieces = pieces
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", **(headers or {})})

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        with contextlib.suppress(ClientGone):
            await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for piece in self.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await _close(self.pieces)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _close(pieces: AsyncIterator[bytes]) -> Awaitable[None]:
    close = getattr(pieces, "aclose", None)
    return close() if close is not None else asyncio.sleep(0)
