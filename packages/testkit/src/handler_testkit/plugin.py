"""pytest fixtures: a fresh nats-server for each test; one Milvus and one llama.cpp server for the whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_testkit.gguf import LlamaServer, llama_server
from handler_testkit.nats import NatsServer, nats_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_testkit.milvus import MilvusServer


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    """A fresh nats-server with JetStream, gone after the test."""
    with nats_server() as server:
        yield server


@pytest.fixture(scope="session")
def milvus() -> Iterator[MilvusServer]:
    """A real Milvus 2.3.5 that asks for a token; tests share it, so each uses a collection of its own."""
    from handler_testkit.milvus import MilvusUnavailable, milvus_server

    try:
        with milvus_server() as server:
            yield server
    except MilvusUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def llama_cpp() -> Iterator[LlamaServer]:
    """llama.cpp's server with a tiny random model, shared by the tests of a session."""
    with llama_server() as server:
        yield server
