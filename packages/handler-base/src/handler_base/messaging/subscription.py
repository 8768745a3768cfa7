"""Interest in a subject, and the messages that come of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import nats.errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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


class _Owner(Protocol):
    def forget(self, subscription: Subscription) -> None:
        """Do not renew `subscription`."""
        ...


class Subscription:
    """Interest in a subject that survives reconnects and a rebuilt client."""

    def __init__(
        self,
        owner: _Owner,
        subject: str,
        queue: str,
        callback: Callable[[RawMessage], Awaitable[None]],
    ) -> None:
        self.subject = subject
        self.queue = queue
        self._owner = owner
        self._callback = callback
        self._inner: Any = None

    async def bind(self, client: Any) -> None:
        """Subscribe on `client`; called by the connection."""
        self._inner = await client.subscribe(self.subject, queue=self.queue, cb=self._deliver)

    async def _deliver(self, message: Any) -> None:
        await self._callback(message)

    @property
    def pending(self) -> int:
        """Messages received that wait for the callback."""
        return self._inner.pending_msgs if self._inner is not None else 0

    async def drain(self) -> None:
        """Take no more messages and wait until those that came are handled."""
        self._owner.forget(self)
        try:
            await self._inner.drain()
        except nats.errors.Error:
            await self._unsubscribe()

    async def close(self) -> None:
        """Take no more messages; those that wait are dropped."""
        self._owner.forget(self)
        await self._unsubscribe()

    async def _unsubscribe(self) -> None:
        try:
            await self._inner.unsubscribe()
        except nats.errors.Error as error:
            log.debug("unsubscribe from %s: %s", self.subject, error)
