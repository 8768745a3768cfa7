"""pytest fixtures: `nats` is a fresh nats-server for one test, `llama_cpp` a real llama.cpp server for the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_testkit.gguf import LlamaServer, llama_server
from handler_testkit.nats import NatsServer, nats_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    """A fresh nats-server with JetStream, gone after the test."""
    with nats_server() as server:
        yield server


@pytest.fixture(scope="session")
def llama_cpp() -> Iterator[LlamaServer]:
    """llama.cpp's server with a tiny random model, shared by the tests of a session."""
    with llama_server() as server:
        yield server
