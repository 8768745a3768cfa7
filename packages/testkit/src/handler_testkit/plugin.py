"""pytest fixtures: `nats` is a fresh nats-server for one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_testkit.nats import NatsServer, nats_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    """A fresh nats-server with JetStream, gone after the test."""
    with nats_server() as server:
        yield server
