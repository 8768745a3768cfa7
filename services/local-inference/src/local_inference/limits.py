"""How much is served at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_inference.wire import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_FREE = ("/healthz", "/readyz")


class InFlight:
    """ASGI middleware that counts requests from their first byte to their last and refuses too many with 503.

    Args:
        app: What to wrap.
        limit: Requests served at the same time; probes do not count.

    Attributes:
        count: Requests being served now.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit
        self.count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in _FREE:
            await self._app(scope, receive, send)
            return
        if self.count >= self._limit:
            error = ApiError(503, "too many requests at the same time; try again", code="overloaded")
            await error.response()(scope, receive, send)
            return
        self.count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.count -= 1
