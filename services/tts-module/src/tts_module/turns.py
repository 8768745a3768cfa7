"""Whose turn it is: the requests of a session one after the other, and only so many sessions at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class _Session:
    """The requests of one session that speak or wait."""

    __slots__ = ("lock", "requests")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.requests = 0


class Turns:
    """Lets requests speak in the order in which they came.

    Args:
        sessions: How many sessions are served at once.
    """

    def __init__(self, sessions: int) -> None:
        self._slots = asyncio.Semaphore(sessions)
        self._sessions: dict[str, _Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    @contextlib.asynccontextmanager
    async def of(self, session_id: str) -> AsyncGenerator[None]:
        """Wait for the session's turn, and have it for the length of the block."""
        session = self._sessions.setdefault(session_id, _Session())
        session.requests += 1
        try:
            async with session.lock, self._slots:
                yield
        finally:
            session.requests -= 1
            if not session.requests:
                del self._sessions[session_id]
