"""Fixtures of the HTTP room and of the clients that stand on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_base.http import HttpPool, HttpSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def pool(pauses: list[float]) -> AsyncIterator[HttpPool]:
    """A pool that does not really wait between tries."""

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    pool = HttpPool(HttpSettings(connect_timeout=5), sleep=sleep, uniform=lambda _low, high: high)
    yield pool
    await pool.aclose()


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that `pool` was asked to make between tries, in seconds."""
    return []
