"""Services under test: in this process with a client beside them, or as processes that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from handler_base.config import load
from handler_base.messaging import wire
from handler_base.messaging.connection import Connection
from handler_base.messaging.settings import NatsSettings
from handler_testkit.nats import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping

    from google.protobuf.message import Message

    from handler_base.messaging.subscription import RawMessage
    from handler_base.service import Service

READY_TIMEOUT = 30.0
"""Longest wait for a service to be ready, in seconds."""


@contextlib.asynccontextmanager
async def running(service: Service, *, ready: bool = True) -> AsyncGenerator[asyncio.Event]:
    """Run a service in this process for the length of an `async with` block.

    Args:
        service: A service with its handlers declared.
        ready: Whether to wait until it is ready.

    Yields:
        The event that stops it.
    """
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    try:
        if ready:
            async with asyncio.timeout(READY_TIMEOUT):
                while await service.missing():
                    if task.done():
                        break
                    await asyncio.sleep(0.005)
        if task.done():
            await task
        yield stop
    finally:
        stop.set()
        await task


class Client:
    """A NATS client that keeps what it hears, by subject pattern.

    Args:
        url: Where to connect.
        environ: More settings of the connection, by the names of their variables.
    """

    def __init__(self, url: str, **environ: str) -> None:
        settings = {
            "NATS_URL": url,
            "NATS_RECONNECT_WAIT": "0.02",
            "NATS_RECONNECT_WAIT_MAX": "0.1",
            **environ,
        }
        self.connection = Connection(load(NatsSettings, settings), name="test")

    async def __aenter__(self) -> Self:
        await self.connection.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.connection.close()

    async def listen(self, subject: str) -> Heard:
        """Start to keep what is published on `subject`, which may have wildcards."""
        heard = Heard()
        await self.connection.subscribe(subject, heard.add)
        await self.connection.flush()
        return heard

    async def send(self, subject: str, message: Message, **headers: str) -> None:
        """Store a durable message and wait for its acknowledgement; `_` in header names stands for `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.connection.store(subject, wire.encode(message), msg_id=os.urandom(8).hex(), headers=sent)


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until `condition` holds.

    Raises:
        TimeoutError: If it does not hold in time.
    """
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - conditions of foreign objects have no event
            await asyncio.sleep(0.002)


class Heard:
    """Messages as they came, oldest first."""

    def __init__(self) -> None:
        self.all: list[RawMessage] = []
        self._came = asyncio.Event()
        self._next = 0

    async def add(self, message: RawMessage) -> None:
        """Keep one message."""
        self.all.append(message)
        self._came.set()

    async def next(self, timeout: float = 10.0) -> RawMessage:
        """Return the next message that was not returned before.

        Raises:
            TimeoutError: If none comes in time.
        """
        await self.count(self._next + 1, timeout)
        self._next += 1
        return self.all[self._next - 1]

    async def count(self, number: int, timeout: float = 10.0) -> list[RawMessage]:
        """Wait until `number` messages came in all, and return them.

        Raises:
            TimeoutError: If they do not come in time.
        """
        return await self.until(lambda heard: len(heard) >= number, timeout)

    async def until(
        self, condition: Callable[[list[RawMessage]], bool], timeout: float = 10.0
    ) -> list[RawMessage]:
        """Wait until `condition` holds for what came, and return it.

        Raises:
            TimeoutError: If it does not hold in time.
        """
        async with asyncio.timeout(timeout):
            while not condition(self.all):
                self._came.clear()
                await self._came.wait()
        return self.all


class ServiceProcess:
    """A service as its own process, started as an operator would: `python -m <module>` and the environment.

    Attributes:
        health_port: Port of its probes.
    """

    def __init__(self, module: str, environ: Mapping[str, str]) -> None:
        self.health_port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="service-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log"
        # Coverage of subprocesses is wanted; everything that would change the service's settings is not.
        kept = {
            k: v for k, v in os.environ.items() if k.startswith(("PATH", "HOME", "COV", "PYTHON", "LANG"))
        }
        self._environ = {**kept, "HEALTH_PORT": str(self.health_port), "LOG_FORMAT": "console", **environ}
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until `/readyz` says so.

        Raises:
            RuntimeError: If it ends, or is not ready in time; the message holds its log.
        """
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", self._module]
            self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_TIMEOUT
        while ready and not self.probe("/readyz").get("ready"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._module} is not ready: {self.probe('/readyz')}\n{self.log()}")
            time.sleep(0.02)

    def probe(self, path: str) -> dict[str, Any]:
        """Ask the probes; an empty answer when nobody listens yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=5)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        finally:
            connection.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Return what it has printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end and return the exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        """End it like a crash."""
        self.signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """Make sure that it does not run any more, and remove its log."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()


@contextlib.contextmanager
def service_process(module: str, environ: Mapping[str, str]) -> Generator[ServiceProcess]:
    """Run a service as a process for the length of a `with` block."""
    process = ServiceProcess(module, environ)
    try:
        process.start()
        yield process
    finally:
        process.close()
