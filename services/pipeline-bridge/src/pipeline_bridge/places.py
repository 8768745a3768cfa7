"""How many runs of a pipeline there may be: places at once, and starts per time, over all replicas.

A pipeline's places are one value of the bucket, changed with the revision that was read. A place belongs to a request, not
to a replica: whoever takes a run over has it.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec

from handler_base.messaging.keyvalue import Conflict, key_of
from pipeline_bridge.runs import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.keyvalue import KeyValue
    from pipeline_bridge.catalogue import Pipeline
    from pipeline_bridge.runs import Runs

PREFIX = "place"
"""First part of the keys."""

LOOK_SECONDS = 5.0
"""How often who waits looks whether a place became free without a word, for instance by a crash."""

_CONFLICT_WAIT = 0.05


class Places(msgspec.Struct, frozen=True, omit_defaults=True):
    """The places of one pipeline.

    Attributes:
        holders: Requests that have one.
        started: Unix times in seconds of the last starts, oldest first, as far back as the rate looks.
    """

    holders: tuple[str, ...] = ()
    started: tuple[float, ...] = ()


class PlaceKeeper:
    """Gives out places.

    Args:
        values: The bucket.
        runs: Asked whether who has a place still runs.
    """

    def __init__(self, values: KeyValue, runs: Runs) -> None:
        self._values = values
        self._runs = runs
        self._decoder = msgspec.json.Decoder(Places)
        self._turns: dict[str, asyncio.Lock] = {}
        self._freed: dict[str, asyncio.Event] = {}

    async def listen(self) -> None:
        """Begin to hear of places that become free.

        Raises:
            MessagingError: If the connection is closed.
        """

        async def changed(key: str, _: bytes) -> None:
            event = self._freed.get(key)
            if event is not None:
                event.set()

        await self._values.listen(PREFIX, changed)

    async def take(
        self, pipeline: Pipeline, request_id: str, waiting: Callable[[str], Awaitable[None]]
    ) -> None:
        """Wait for a place, and have it until it is given back. Who asked first is served first within a replica.

        Args:
            pipeline: Whose.
            request_id: Who gets it; one that has it already has it again.
            waiting: Called with the reason when there is none at once.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        if not pipeline.max_concurrent and pipeline.limit is None:
            return
        turn = self._turns.setdefault(pipeline.name, asyncio.Lock())
        if turn.locked():
            await waiting(f"waits for its turn: {_rules(pipeline)}")
        async with turn:
            freed = self._freed.setdefault(key_of(PREFIX, pipeline.name), asyncio.Event())
            while True:
                freed.clear()
                wait = await self._try(pipeline, request_id)
                if wait is None:
                    return
                await waiting(f"waits for its turn: {_rules(pipeline)}")
                try:
                    async with asyncio.timeout(min(wait, LOOK_SECONDS)):
                        await freed.wait()
                except TimeoutError:
                    pass

    async def give_back(self, pipeline: Pipeline, request_id: str) -> None:
        """Let go of a place; it need not be there.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        if not pipeline.max_concurrent:
            return
        while True:
            places, revision = await self._read(pipeline.name)
            left = tuple(holder for holder in places.holders if holder != request_id)
            if left == places.holders:
                return
            if await self._write(pipeline.name, Places(left, places.started), revision):
                return

    async def _try(self, pipeline: Pipeline, request_id: str) -> float | None:
        """Take a place if there is one; else return the seconds after which to look again."""
        while True:
            places, revision = await self._read(pipeline.name)
            if request_id in places.holders:
                return None
            holders, limit = places.holders, pipeline.limit
            if pipeline.max_concurrent and len(holders) >= pipeline.max_concurrent:
                holders = await self._still_there(holders)
                if len(holders) >= pipeline.max_concurrent:
                    return LOOK_SECONDS
            at, started = now(), places.started
            if limit is not None:
                number, seconds = limit
                started = tuple(start for start in started if at - seconds < start <= at)
                if len(started) >= number:
                    return started[-number] + seconds - at
                started = (*started, at)
            if pipeline.max_concurrent:
                holders = (*holders, request_id)
            if await self._write(pipeline.name, Places(holders, started), revision):
                return None

    async def _still_there(self, holders: tuple[str, ...]) -> tuple[str, ...]:
        """Return those that run; who crashed between its end and giving back its place does not."""
        found = [(holder, await self._runs.load(holder)) for holder in holders]
        return tuple(holder for holder, stored in found if stored is not None and not stored.run.ended)

    async def _read(self, pipeline: str) -> tuple[Places, int]:
        value = await self._values.get(key_of(PREFIX, pipeline))
        if value is None:
            return Places(), 0
        try:
            return self._decoder.decode(value.data), value.revision
        except msgspec.DecodeError:
            return Places(), value.revision

    async def _write(self, pipeline: str, places: Places, revision: int) -> bool:
        try:
            await self._values.put(key_of(PREFIX, pipeline), msgspec.json.encode(places), revision)
        except Conflict:
            await asyncio.sleep(random.uniform(0, _CONFLICT_WAIT))
            return False
        return True


def _rules(pipeline: Pipeline) -> str:
    rules = [f"{pipeline.max_concurrent} at once"] if pipeline.max_concurrent else []
    if pipeline.rate:
        rules.append(pipeline.rate)
    return f"{pipeline.name} may run {' and '.join(rules)}"
