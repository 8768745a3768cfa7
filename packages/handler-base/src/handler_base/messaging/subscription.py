"""Interest in a subject, and the messages that come of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import nats.errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.client import Client

log = logging.getLogger(__name__)


class RawMessage(Protocol):
    """A message as it came from NATS: bytes and headers."""

    @property
    def subject(self) -> str:
        """Where it was published."""
        ...

    @property
    def reply(self) -> str:
        """Where its sender waits for an answer, or ""."""
        ...

    @property
    def data(self) -> bytes:
        """The payload."""
        ...

    @property
    def headers(self) -> dict[str, str] | None:
        """Its headers, or None."""
        ...


class Subscription:
    """Interest in a subject that survives reconnects.

    Attributes:
        subject: What it listens on.
        queue: Its queue group, or "".
    """

    def __init__(
        self,
        client: Client,
        subject: str,
        queue: str,
        callback: Callable[[RawMessage], Awaitable[None]],
        *,
        ended: Callable[[Subscription], None],
    ) -> None:
        self.subject = subject
        self.queue = queue
        self._client = client
        self._callback = callback
        self._ended: Callable[[Subscription], None] | None = ended
        self._inner: Any = None

    async def start(self) -> None:
        """Subscribe; called by the connection."""
        client: Any = self._client
        self._inner = await client.subscribe(self.subject, queue=self.queue, cb=self._deliver)

    async def _deliver(self, message: Any) -> None:
        await self._callback(message)

    @property
    def pending(self) -> int:
        """Messages received that wait for the callback."""
        return self._inner.pending_msgs

    async def drain(self) -> None:
        """Take no more messages and wait until those that came are handled."""
        try:
            await self._inner.drain()
        except nats.errors.Error as error:
            log.warning("subscription to %s ended before it was empty: %s", self.subject, error)
        finally:
            await self.close()

    async def close(self) -> None:
        """Take no more messages; those that wait are dropped."""
        if self._ended is None:
            return
        self._ended(self)
        self._ended = None
        await self._client.abandon(self._inner)
