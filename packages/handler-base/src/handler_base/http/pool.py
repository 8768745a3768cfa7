"""The HTTP pool of a process: it hands out endpoints and owns their connections."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from handler_base.config import Secret
from handler_base.errors import ConfigError, ShuttingDown
from handler_base.http import _origin
from handler_base.http._channel import Channel
from handler_base.http._mapping import Names
from handler_base.http._request import RequestWriter
from handler_base.http.endpoint import Endpoint
from handler_base.http.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from handler_base.http._lanes import Connections
    from handler_base.http.settings import HttpSettings

_NO_SECRET = Secret()


class HttpPool:
    """Endpoints and their connections; one per process.

    Making one, and making endpoints of it, costs nothing: the engine is loaded at the first call.

    Args:
        settings: Limits of all endpoints.
        sleep: Waits between tries; a test passes its own.
        uniform: Draws the jitter of that wait; a test passes its own.
    """

    def __init__(
        self,
        settings: HttpSettings,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.settings = settings
        self._backoff = Backoff(settings.retries, settings.retry_max_delay, sleep=sleep, uniform=uniform)
        self._connections: Connections | None = None
        self._closed = False

    def endpoint(
        self,
        name: str,
        base_url: str,
        *,
        api_key: Secret = _NO_SECRET,
        timeout: float,
        idle_timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        setting: str = "",
    ) -> Endpoint:
        """Return an endpoint.

        Args:
            name: Its name in our words, for errors, spans and metrics: `llm`.
            base_url: What paths are appended to; `http` or `https`.
            api_key: Sent as a bearer token unless empty.
            timeout: Seconds until the response starts.
            idle_timeout: Seconds between two pieces of a body; `timeout` when None.
            headers: Headers of every request.
            setting: The environment variable that holds `base_url`, for error messages.

        Raises:
            ConfigError: If the address, the key or a header cannot be used.
        """
        address = _origin.parse(setting or name, base_url)
        key = api_key.reveal()
        fixed = dict(headers or {})
        if key:
            fixed["Authorization"] = f"Bearer {key}"
        try:
            writer = RequestWriter(address, fixed)
        except ValueError as error:
            raise ConfigError([f"{name}: {error}"]) from None
        names = Names(name, address.origin.authority, setting, key)
        channel = Channel(names, address.origin, self.settings, self._backoff, self._opened)
        return Endpoint(
            channel,
            writer,
            base_url=base_url.rstrip("/"),
            timeout=timeout,
            idle_timeout=timeout if idle_timeout is None else idle_timeout,
        )

    def _opened(self) -> Connections:
        if self._connections is None:
            if self._closed:
                raise ShuttingDown("the HTTP pool is closed")
            from handler_base.http._dialer import Dialer
            from handler_base.http._lanes import Connections

            settings = self.settings
            self._connections = Connections(
                Dialer(settings.connect_timeout, settings.ca_file).dial,
                idle_timeout=settings.idle_timeout,
                max_idle=settings.max_connections,
            )
        return self._connections

    async def aclose(self) -> None:
        """Close every connection; calls under way fail, later ones raise `ShuttingDown`."""
        self._closed = True
        if self._connections is not None:
            self._connections.close()
            await asyncio.sleep(0)  # lets the transports close their sockets
