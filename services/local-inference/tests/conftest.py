from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from openai import OpenAI

from local_inference.__main__ import server
from local_inference.config import LocalInferenceSettings
from local_inference.extractive import Quoter
from local_inference.minilm import MiniLM, model_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 60.0


class Service:
    """The service on a free port, in a thread of its own."""

    def __init__(self, settings: LocalInferenceSettings) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = server(settings)
        self._app = self._server.config.app
        self._thread = threading.Thread(target=self._run)
        self._clients: list[OpenAI] = []

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))

    @property
    def in_flight(self) -> int:
        return self._app.count

    def client(self, prefix: str) -> OpenAI:
        client = OpenAI(base_url=f"{self.url}/{prefix}/v1", api_key="none", max_retries=0, timeout=DEADLINE)
        self._clients.append(client)
        return client

    def until(self, condition: Callable[[], object], seconds: float = DEADLINE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not come about in time"
            time.sleep(0.005)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        self._server.should_exit = True
        self._thread.join(DEADLINE)
        self._listener.close()


@contextlib.contextmanager
def running(**settings: object) -> Iterator[Service]:
    service = Service(LocalInferenceSettings(**settings))
    service.start()
    try:
        client = service.client("llm")
        service.until(lambda: _ready(client, service.url))
        yield service
    finally:
        service.stop()


def _ready(client: OpenAI, url: str) -> bool:
    with contextlib.suppress(Exception):
        return client._client.get(f"{url}/readyz").status_code == 200
    return False


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    with running() as service:
        yield service


@pytest.fixture
def run() -> Iterator[Callable[..., Service]]:
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(**settings))


@pytest.fixture(scope="session")
def model() -> MiniLM:
    return MiniLM(model_folder())


@pytest.fixture(scope="session")
def quoter(model: MiniLM) -> Quoter:
    return Quoter(lambda texts: model.embed(model.tokenize(texts)))
