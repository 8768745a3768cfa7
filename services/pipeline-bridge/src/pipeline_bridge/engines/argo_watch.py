"""All runs of an engine, followed by one watch.

A list tells how far the workflows are and where to watch from; the watch tells every change after that. It is resumed
when it is cut, begun anew from a list when its version is forgotten or it was silent for long, and replaced by polling
with lists where it does not work. Until it has told anything, runs are polled beside it: a proxy may keep what it
should pass on, and a watch that tells nothing looks like workflows that do not change.

The task that does so belongs to those who follow: the first one starts it, the last one ends it and waits for its end.
If the Argo Server is out of reach, all of them learn it at once, and whoever follows again starts it again.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Literal

from handler_base.errors import (
    Overloaded,
    ShuttingDown,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
    cause_of,
)
from handler_base.messaging.backoff import Backoff
from pipeline_bridge.engines import ENDS
from pipeline_bridge.engines._argo_follower import Follower
from pipeline_bridge.engines._argo_phases import observed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pipeline_bridge.config import ArgoSettings
    from pipeline_bridge.engines import Observation
    from pipeline_bridge.engines._argo_api import ArgoApi, Event, Workflow

    Ending = Literal["cut", "stale", "silent", "failed", "refused"]
    """How a watch ends: it can be resumed; its version is forgotten; nothing came for long; it could not be had, now
    or at all."""

MAX_FAILURES = 3
"""Watches in a row that bring nothing and do not last, until runs are polled instead."""

POLLS = 60
"""Polls until a watch is tried again."""

FIRST_PAUSE = 0.2
"""Seconds until a watch is tried again after it failed, before jitter; they grow up to those between polls."""

LOOKUPS = 16
"""Workflows looked up at once."""

EOF = 8
"""The code (RESOURCE_EXHAUSTED) with which the Argo Server tells that Kubernetes has let a watch run out."""


class Following:
    """Tells how far workflows are.

    Args:
        api: The Argo Server.
        settings: Whether to watch, and how long to wait.
    """

    def __init__(self, api: ArgoApi, settings: ArgoSettings) -> None:
        self._api = api
        self._settings = settings
        self._backoff = Backoff(FIRST_PAUSE, settings.poll)
        self._followers: dict[str, list[Follower]] = {}
        self._known: dict[str, tuple[str, Observation]] = {}
        self._task: asyncio.Task[None] | None = None
        self._listed = False
        self._heard = 0
        self._proven = False
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._closed = False

    async def follow(self, name: str) -> AsyncGenerator[Observation]:
        """Yield how far a workflow is, then every change of it; ends after an end.

        Raises:
            UpstreamRejected: If the Argo Server does not know it.
            UpstreamError: If the Argo Server is out of reach.
            Overloaded: If no connection becomes free in time.
            ShuttingDown: If this is closed.
        """
        follower = Follower(name)
        self._enter(follower)
        try:
            while True:
                observation = await follower.next()
                if observation is None:
                    await self._look_up(follower)
                    continue
                yield observation
                if observation.state in ENDS:
                    return
        finally:
            await self._leave(follower)

    async def aclose(self) -> None:
        """End the watch; whoever follows gets `ShuttingDown`."""
        self._closed = True
        self._fail(ShuttingDown("this bridge ends; the workflow goes on"))
        await self._end()

    # Who follows

    def _enter(self, follower: Follower) -> None:
        if self._closed:
            raise ShuttingDown("this bridge ends; the workflow goes on")
        self._followers.setdefault(follower.name, []).append(follower)
        if self._task is None:
            self._start()
        elif (known := self._known.get(follower.name)) is not None:
            follower.put(known[1])
        elif self._listed:
            follower.doubt()

    async def _leave(self, follower: Follower) -> None:
        others = self._followers[follower.name]
        others.remove(follower)
        if not others:
            del self._followers[follower.name]
        if not self._followers:
            await self._end()

    def _start(self) -> None:
        self._known.clear()
        self._listed = False
        # A context of its own: what it does is not part of the request whose run is followed first.
        self._task = asyncio.get_running_loop().create_task(
            self._keep_up(), name="argo-watch", context=contextvars.Context()
        )
        self._task.add_done_callback(self._ended)

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if task is self._task:
            self._task = None
            if isinstance(error, BaseExceptionGroup):
                error = cause_of(error)
            if isinstance(error, Exception):
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        for followers in self._followers.values():
            for follower in followers:
                follower.fail(error)

    # What is known

    def _take(self, workflow: Workflow) -> bool:
        """Take what the Argo Server says of a workflow, unless it said something newer before.

        Returns:
            Whether that is news to someone.
        """
        name, version = workflow.metadata.name, workflow.metadata.resource_version or ""
        before = self._known.get(name)
        if before is not None and _is_older(version, before[0]):
            return False
        followers = self._followers.get(name, ())
        observation = observed(workflow, before[1] if before is not None else None)
        if observation.state in ENDS and not followers:
            self._known.pop(name, None)  # ended ones are many, and rarely asked for again
        else:
            self._known[name] = version, observation
        news = [follower.put(observation) for follower in followers]
        return any(news)

    async def _look_up(self, follower: Follower) -> None:
        follower.doubtful = False
        async with self._lookups:
            found = await self._api.get(follower.name)
        if found is None:
            raise UpstreamRejected(
                f"the Argo Server does not know workflow {follower.name} in namespace {self._api.namespace}"
                " any more: it was deleted",
                endpoint="argo",
                status=404,
            )
        self._take(found)

    async def _list(self) -> tuple[str, bool]:
        """List the workflows that have not ended; return the version of the list, and whether it has news."""
        listed = await self._api.active()
        items = listed.items or []
        news = [self._take(workflow) for workflow in items]
        self._listed = True
        held = {workflow.metadata.name for workflow in items}
        for name, followers in self._followers.items():
            if name not in held:
                for follower in followers:
                    follower.doubt()
        return listed.metadata.resource_version or "", any(news)

    # How it comes

    async def _keep_up(self) -> None:
        failures, ending = 0, "cut"
        loop = asyncio.get_running_loop()
        while True:
            version, news = await self._list()
            if news and ending == "silent":
                self._proven = False  # it should have told
            if not self._settings.watch or failures >= MAX_FAILURES:
                await self._poll()
                failures = MAX_FAILURES - 1
                continue
            heard, began = self._heard, loop.time()
            ending = await self._watch(version)
            if ending == "refused":
                failures = MAX_FAILURES
            elif self._heard > heard or loop.time() - began >= self._settings.poll:
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(self._backoff.wait(failures))

    async def _poll(self) -> None:
        for _ in range(POLLS):
            await asyncio.sleep(self._settings.poll)
            await self._list()

    async def _watch(self, version: str) -> Ending:
        """Watch for as long as it can be resumed where it was cut."""
        while True:
            heard = self._heard
            async with asyncio.TaskGroup() as tasks:
                beside = tasks.create_task(self._poll_until_proven())
                ending, version = await self._stream(version)
                beside.cancel()
            if ending != "cut" or self._heard == heard:
                return ending

    async def _poll_until_proven(self) -> None:
        while not self._proven:
            await asyncio.sleep(self._settings.poll)
            if not self._proven:
                await self._list()

    async def _stream(self, version: str) -> tuple[Ending, str]:
        """Read one stream; return how it ended, and the version to go on from."""
        entered = False
        try:
            async with self._api.watch(version) as response:
                entered = True
                lines = self._api.lines()
                while piece := await response.read():
                    for line in lines.feed(piece):
                        if line.error is not None:
                            return ("cut" if line.error.grpc_code == EOF else "stale"), version
                        if line.result is not None:
                            version = line.result.object.metadata.resource_version or version
                            self._tell(line.result)
        except UpstreamTimeout:
            return "silent", version
        except UpstreamRejected as error:
            endings: dict[int, Ending] = {400: "stale", 410: "stale", 401: "failed"}
            return endings.get(error.status, "refused"), version
        except Overloaded:
            return "failed", version
        except UpstreamError as error:
            # What ends before it told anything ends with a status.
            ended = entered or (error.status == 429 and error.said == "EOF")
            return ("cut" if ended else "failed"), version
        return "cut", version

    def _tell(self, event: Event) -> None:
        self._heard += 1
        self._proven = True
        if event.type in {"ADDED", "MODIFIED"}:
            self._take(event.object)
        elif event.type == "DELETED":
            name = event.object.metadata.name
            self._known.pop(name, None)
            for follower in self._followers.get(name, ()):
                follower.doubt()


def _is_older(version: str, than: str) -> bool:
    """Whether one version is before another; they are numbers, where Kubernetes keeps its objects in etcd."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)
