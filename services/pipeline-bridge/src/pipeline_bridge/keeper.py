"""Which runs this replica sees through: those it put on record, and those whose replica is no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from handler_base.errors import MessagingError
from handler_base.messaging.keyvalue import Conflict
from pipeline_bridge.following import Follower
from pipeline_bridge.runs import Changed, Record, Run, Stored, Taken, now
from pipeline_bridge.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pipeline_bridge.catalogue import Catalogue
    from pipeline_bridge.config import RunSettings
    from pipeline_bridge.engines.registry import Engines
    from pipeline_bridge.places import PlaceKeeper
    from pipeline_bridge.replicas import Replicas
    from pipeline_bridge.runs import Runs
    from pipeline_bridge.statuses import Statuses

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
"""How often the whole bucket is read, in case a change was not heard; it keeps what ended, too."""

RELEASE_SECONDS = 3.0
"""Longest wait for the bucket when the service stops."""


class _Ours(NamedTuple):
    record: Record
    follower: Follower
    task: asyncio.Task[None]


class Keeper:
    """Starts a follower for each run that is ours, and takes over what nobody follows.

    Args:
        runs: The runs of all replicas.
        replicas: Who is alive.
        statuses: Where statuses go.
        catalogue: The pipelines.
        engines: What runs them.
        places: Their limits.
        settings: How many, how patient.
    """

    def __init__(
        self,
        runs: Runs,
        replicas: Replicas,
        statuses: Statuses,
        *,
        catalogue: Catalogue,
        engines: Engines,
        places: PlaceKeeper,
        settings: RunSettings,
    ) -> None:
        self._runs = runs
        self._replicas = replicas
        self._statuses = statuses
        self._catalogue = catalogue
        self._engines = engines
        self._places = places
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_runs)
        self._active: dict[str, Run] = {}
        self._mine: dict[str, _Ours] = {}
        self._doubted: set[str] = set()
        self._beginning: set[str] = set()
        self._lost: set[str] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._listening = False
        self._wake = asyncio.Event()
        self._stale = True

    # -- lifecycle ---------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Begin to hear of runs and replicas; call it at start and after a reconnect.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        if not self._listening:
            await self._runs.listen(self._heard)
            await self._replicas.listen()
            await self._places.listen()
            self._listening = True
        self._replicas.reconnected()
        await self._replicas.beat()
        self._stale = True
        self._wake.set()

    async def run(self) -> None:
        """Follow and take over until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._replicas.keep_beating())
            loop = asyncio.get_running_loop()
            read = 0.0
            while True:
                try:
                    if self._stale or loop.time() - read > LOOK_SECONDS:
                        await self._read_all()
                        read = loop.time()
                    await self._take_over()
                except MessagingError as error:
                    log.warning("runs cannot be looked after: %s", error)
                await self._wait(self._replicas.interval)

    async def release(self) -> None:
        """Hand the runs back, for another replica to go on at once."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await asyncio.gather(*(self._release(ours.record) for ours in self._mine.values()))
                if self._listening:
                    await self._replicas.leave(self._replicas.instance)
        except (TimeoutError, MessagingError) as error:
            log.warning("runs could not be handed back, others take them later: %s", error)

    async def _release(self, record: Record) -> None:
        while not record.run.over:
            try:
                await record.save(msgspec.structs.replace(record.run, owner=""))
            except Changed:
                continue
            except Taken:
                pass
            return

    # -- taking ------------------------------------------------------------------------------------------------

    async def begin(self, run: Run) -> bool:
        """Put a run on record and see it through; waits while too many are under way here.

        Returns:
            False if the request has a record.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        await self._slots.acquire()
        self._beginning.add(run.request_id)
        try:
            ours = msgspec.structs.replace(run, owner=self._replicas.instance)
            return await self._follow_if(self._create(ours))
        finally:
            self._beginning.discard(run.request_id)

    async def _create(self, run: Run) -> Stored | None:
        while True:
            revision = await self._runs.create(run)
            if revision is not None:
                return Stored(run, revision)
            stored = await self._runs.load(run.request_id)
            if stored is None:
                continue
            if stored.run.pipeline:
                return None
            # It was cancelled before it came, and is told so.
            run = msgspec.structs.replace(run, cancel=stored.run.cancel)
            with contextlib.suppress(Conflict):
                return Stored(run, await self._runs.save(run, stored.revision))

    async def cancel(self, request_id: str, reason: str) -> None:
        """Write down that a run is to be cancelled; who follows it hears that. It may come later than this.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        while True:
            stored = await self._runs.load(request_id)
            if stored is None:
                early = Run(request_id=request_id, cancel=reason, created=now(), updated=now())
                if await self._runs.create(early) is not None:
                    return
            elif stored.run.ended or stored.run.cancel is not None:
                return
            else:
                with contextlib.suppress(Conflict):
                    await self._runs.save(msgspec.structs.replace(stored.run, cancel=reason), stored.revision)
                    return

    async def _heard(self, run: Run) -> None:
        if run.over:
            self._active.pop(run.request_id, None)
            return
        ours, before = self._mine.get(run.request_id), self._active.get(run.request_id)
        if before is not None and before.owner != run.owner:
            # Several may have tried to have it: what was heard last need not be what holds.
            self._doubted.add(run.request_id)
        self._active[run.request_id] = run
        if ours is not None and run.cancel is not None:
            ours.follower.cancel(run.cancel)
        if ours is None and not run.owner:
            self._wake.set()

    async def _read_all(self) -> None:
        stored = {one.run.request_id: one.run for one in await self._runs.all()}
        self._active = {id_: run for id_, run in stored.items() if not run.over}
        self._stale = False
        for request_id, ours in list(self._mine.items()):
            run = stored.get(request_id)
            if run is None:
                # The bucket was lost with its disk; we know what was in it.
                with contextlib.suppress(Changed, Taken):
                    await ours.record.save(ours.record.run)
            elif run.owner != self._replicas.instance and not run.over:
                self._lost.add(request_id)
                ours.task.cancel()
            elif run.cancel is not None:
                ours.follower.cancel(run.cancel)

    async def _look_again(self) -> None:
        while self._doubted:
            request_id = self._doubted.pop()
            stored = await self._runs.load(request_id)
            if stored is None or stored.run.over:
                self._active.pop(request_id, None)
            else:
                self._active[request_id] = stored.run

    async def _take_over(self) -> None:
        await self._look_again()
        left: set[str] = set()
        for run in list(self._active.values()):
            id_, owner = run.request_id, run.owner
            if id_ in self._mine or id_ in self._beginning:
                continue
            if owner and owner != self._replicas.instance and self._replicas.alive(owner):
                continue
            if self._slots.locked():
                return
            await self._slots.acquire()
            if await self._follow_if(self._take(id_, owner)):
                left.add(owner)
        for owner in left - {"", self._replicas.instance}:
            await self._replicas.leave(owner)

    async def _take(self, request_id: str, owner: str) -> Stored | None:
        """Make a run ours if it is still that owner's."""
        stored = await self._runs.load(request_id)
        if stored is None or stored.run.over:
            self._active.pop(request_id, None)
            return None
        if stored.run.owner != owner:
            self._active[request_id] = stored.run
            return None
        run = msgspec.structs.replace(stored.run, owner=self._replicas.instance)
        try:
            revision = await self._runs.save(run, stored.revision)
        except Conflict:
            self._doubted.add(request_id)
            return None
        log.info("taken over", extra={"request_id": request_id, "pipeline": run.pipeline, "from": owner})
        return Stored(run, revision)

    # -- following ---------------------------------------------------------------------------------------------

    async def _follow_if(self, ours: Awaitable[Stored | None]) -> bool:
        """Follow a run if it becomes ours; the slot that was acquired for it is free again if it does not."""
        stored = None
        try:
            stored = await ours
            if stored is not None:
                self._start(stored)
        finally:
            if stored is None:
                self._slots.release()
        return stored is not None

    def _start(self, stored: Stored) -> None:
        """Follow a run that has a slot."""
        assert self._tasks is not None
        run = stored.run
        record = Record(self._runs, stored)
        follower = Follower(
            Teller(record, self._statuses),
            catalogue=self._catalogue,
            engines=self._engines,
            places=self._places,
            settings=self._settings,
            sure=self._replicas.sure,
        )
        self._active[run.request_id] = run
        task = self._tasks.create_task(self._follow(run.request_id, follower))
        self._mine[run.request_id] = _Ours(record, follower, task)

    async def _follow(self, request_id: str, follower: Follower) -> None:
        try:
            await follower.see_through()
        except Taken:
            log.warning("another replica has the run now", extra={"request_id": request_id})
        except asyncio.CancelledError:
            if request_id not in self._lost:
                raise  # the service stops, and hands it back
        else:
            self._active.pop(request_id, None)
        self._lost.discard(request_id)
        del self._mine[request_id]
        self._slots.release()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
