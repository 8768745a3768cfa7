"""One who follows a workflow: what it has not told yet, in order."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from typing import TYPE_CHECKING

from pipeline_bridge.engines import ENDS, RANKS

if TYPE_CHECKING:
    from pipeline_bridge.engines import Observation


class Follower:
    """Waits for news of one workflow.

    Attributes:
        name: The workflow's name.
        doubtful: Whether it must be looked up: a list did not hold it, or it was deleted.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.doubtful = False
        self._news: deque[Observation] = deque()
        self._last: Observation | None = None
        self._error: Exception | None = None
        self._woken = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the last news is the end."""
        return self._last is not None and self._last.state in ENDS

    def put(self, observation: Observation) -> bool:
        """Take an observation if it is news: a workflow does not go back, and what is told twice is old.

        Of several in the same state the last one is kept: it is progress that nobody has heard of yet.
        """
        last = self._last
        if last is not None and (
            observation == last or self.ended or RANKS[observation.state] < RANKS[last.state]
        ):
            return False
        if self._news and self._news[-1].state == observation.state:
            self._news.pop()
        self._news.append(observation)
        self._last = observation
        self.doubtful = False
        self._woken.set()
        return True

    def doubt(self) -> None:
        """Ask for the workflow to be looked up."""
        if not self.ended:
            self.doubtful = True
            self._woken.set()

    def fail(self, error: Exception) -> None:
        """End the wait with an error."""
        self._error = error
        self._woken.set()

    async def next(self) -> Observation | None:
        """Return the next observation, or None if the workflow must be looked up.

        Raises:
            HandlerError: If no news can come.
        """
        while True:
            if self._news:
                return self._news.popleft()
            if self._error is not None:
                raise copy.copy(self._error) from self._error  # many followers may raise it
            if self.doubtful:
                return None
            self._woken.clear()
            await self._woken.wait()
