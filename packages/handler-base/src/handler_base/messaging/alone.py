"""One at a time under one name."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Alone:
    """Lets what comes second under a name wait for the end of what came first."""

    def __init__(self) -> None:
        self._at_work: dict[str, asyncio.Event] = {}

    @contextlib.asynccontextmanager
    async def under(self, name: str) -> AsyncGenerator[None]:
        """Be alone under a name for the length of the block."""
        while (other := self._at_work.get(name)) is not None:
            await other.wait()
        done = self._at_work[name] = asyncio.Event()
        try:
            yield
        finally:
            del self._at_work[name]
            done.set()
