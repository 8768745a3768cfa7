"""Who is alive: every replica gives a sign of life in the bucket, and is believed dead after a lease without one.

Only time that passes here counts, so clocks need not agree. Whoever was silent for too long finds, at its next write, that
its runs are another's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from handler_base.errors import MessagingError
from handler_base.messaging.keyvalue import key_of

if TYPE_CHECKING:
    from handler_base.messaging.keyvalue import KeyValue

log = logging.getLogger(__name__)

PREFIX = "replica"
"""First part of the keys."""

_BEATS = 3  # within a lease
_DOUBT = 0.6  # of a lease: before others may think us dead


class Replicas:
    """The replicas of this service.

    Args:
        values: The bucket.
        instance: Our own name, made anew at each start.
        lease: Seconds of silence after which a replica is dead.
    """

    def __init__(self, values: KeyValue, instance: str, lease: float) -> None:
        self._values = values
        self.instance = instance
        self._lease = lease
        self._heard: dict[str, float] = {}
        self._beaten = 0.0
        self._sure = asyncio.Event()

    @property
    def interval(self) -> float:
        """Seconds between two signs of life."""
        return self._lease / _BEATS

    async def listen(self) -> None:
        """Begin to hear the others.

        Raises:
            MessagingError: If the connection is closed.
        """

        async def heard(_: str, data: bytes) -> None:
            self._heard[data.decode(errors="replace")] = asyncio.get_running_loop().time()

        await self._values.listen(PREFIX, heard)

    def reconnected(self) -> None:
        """Begin to count anew: nobody could be heard while NATS was away."""
        self._heard.clear()

    async def beat(self) -> None:
        """Give a sign of life.

        Raises:
            MessagingError: If the bucket does not take it.
        """
        at = asyncio.get_running_loop().time()
        await self._values.put(key_of(PREFIX, self.instance), self.instance.encode())
        self._beaten = at
        self._sure.set()

    async def leave(self, instance: str) -> None:
        """Forget a replica that is no more.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        await self._values.delete(key_of(PREFIX, instance))

    def alive(self, instance: str) -> bool:
        """Whether a replica was heard within its lease, or we have not listened for so long yet."""
        at = asyncio.get_running_loop().time()
        return instance == self.instance or at - self._heard.setdefault(instance, at) < self._lease

    async def sure(self) -> None:
        """Wait until the others must believe that we are alive; called before what only the owner of a run may do."""
        while asyncio.get_running_loop().time() - self._beaten > _DOUBT * self._lease:
            self._sure.clear()
            await self._sure.wait()

    async def keep_beating(self) -> None:
        """Give signs of life for ever."""
        while True:
            try:
                await self.beat()
            except MessagingError as error:
                log.warning("no sign of life could be given: %s", error)
                await asyncio.sleep(min(1.0, self.interval / 3))
            else:
                await asyncio.sleep(self.interval)
