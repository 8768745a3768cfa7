"""One run's record and what is told of it, kept together: written first, then told, step by step and only forward."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from handler_base.errors import MessagingError
from handler_base.messaging.backoff import Backoff
from pipeline_bridge.runs import MAX_MESSAGE_CHARS, RANKS, Changed, now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from pipeline_bridge.runs import Record, Run
    from pipeline_bridge.statuses import Statuses

    T = TypeVar("T")

log = logging.getLogger(__name__)

_AGAIN = Backoff(0.2, 5.0)


class Teller:
    """Changes the record of a run and tells its statuses.

    While NATS is away everything here waits for it: the record is what others would go on from.

    Args:
        record: The run, which is ours.
        statuses: Where statuses go.
    """

    def __init__(self, record: Record, statuses: Statuses) -> None:
        self._record = record
        self._statuses = statuses
        self._told = 0
        self._telling: asyncio.Task[None] | None = None
        self.last = 0.0
        """When something was told last, in the loop's time."""

    @property
    def run(self) -> Run:
        """The run as it is on record."""
        return self._record.run

    async def catch_up(self) -> None:
        """Tell what is on record, unless it was told."""
        while self._told < self.run.sequence:
            if self._telling is None:
                self._telling = asyncio.ensure_future(self._publish(self.run))
            # Not broken off in the middle when the run is told to stop: nobody could say whether it was heard.
            await asyncio.shield(self._telling)

    async def _publish(self, run: Run) -> None:
        try:
            await patiently(lambda: self._statuses.tell(run))
            self._told = run.sequence
            self.last = asyncio.get_running_loop().time()
        finally:
            self._telling = None

    async def aclose(self) -> None:
        """Tell nothing more, what is being told included."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait((self._telling,))

    async def note(self, **fields: object) -> None:
        """Write down what nobody is told.

        Raises:
            Taken: If the run is not ours any more.
        """
        while True:
            run = msgspec.structs.replace(self.run, **fields)
            try:
                await patiently(lambda run=run: self._record.save(run))
            except Changed:
                continue
            return

    async def tell(self, status: str, message: str = "", *, error: str = "", **fields: object) -> None:
        """Tell a status, and those before it that nobody saw; nothing if the run is there already, or further.

        Args:
            status: In the words of `PipelineStatus`.
            message: What is told with it.
            error: Type of the error, with `failed` and `error`.
            fields: What else is written down with it.

        Raises:
            Taken: If the run is not ours any more.
        """
        message = message[:MAX_MESSAGE_CHARS]
        while True:
            await self.catch_up()
            here, there = RANKS[self.run.status], RANKS[status]
            if here > there or self.run.ended:
                return
            if here == there and message == self.run.message and self._has(fields):
                return
            run = msgspec.structs.replace(
                self.run,
                status=status,
                message=message,
                error=error,
                sequence=self.run.sequence + 1,
                updated=now(),
                **fields,
            )
            try:
                await patiently(lambda run=run: self._record.save(run))
            except Changed:
                continue
            await self.catch_up()
            return

    def _has(self, fields: dict[str, object]) -> bool:
        return all(getattr(self.run, name) == value for name, value in fields.items())


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call until NATS does its part.

    Args:
        call: What may raise a `MessagingError` that passes.
    """
    failures = 0
    while True:
        try:
            return await call()
        except MessagingError as error:
            log.warning("a run waits for NATS: %s", error)
            failures += 1
            await asyncio.sleep(_AGAIN.wait(failures))
