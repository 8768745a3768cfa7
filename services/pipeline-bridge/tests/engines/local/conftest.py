"""A local engine with its orders, and bridges that can be killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_bridge.catalogue import Pipeline
from pipeline_bridge.config import LocalSettings
from pipeline_bridge.engines import Order
from pipeline_bridge.engines.local import Local
from pipeline_bridge.supervisor.folder import RunFolder

DEADLINE = 30.0


class Runs:
    """An engine over a folder, and what tests do with it.

    Attributes:
        engine: The engine.
        folder: Where its runs are.
    """

    def __init__(self, folder: Path, **settings) -> None:
        self.folder = folder
        self.settings = LocalSettings(**({"folder": str(folder), "grace": 5.0, "poll": 0.02} | settings))
        self.engine = Local(self.settings)

    def order(self, *command, name="run-1", parameters=None, **fields) -> Order:
        pipeline = Pipeline(engine="local", name="test", command=command, **fields)
        return Order(f"request-{name}", name, pipeline, parameters or {})

    def shell(self, script, **fields) -> Order:
        return self.order("sh", "-c", script, **fields)

    async def seen(self, order):
        """Return everything that is observed of a run, to its end."""
        async with asyncio.timeout(DEADLINE):
            return [seen async for seen in self.engine.follow(order, order.name)]

    async def end(self, order):
        """Submit an order and return how it ends."""
        await self.engine.submit(order)
        return (await self.seen(order))[-1]

    async def says(self, order, line):
        """Wait until a run has printed a line."""
        async with asyncio.timeout(DEADLINE):
            async for seen in self.engine.follow(order, order.name):
                if seen.message == line:
                    return
        pytest.fail(f"ended without {line!r}: {seen}")

    def supervisor(self, name="run-1") -> int:
        """Return the process id of a run's supervisor."""
        (found,) = supervisors(self.folder / name)
        return found

    def output(self, name="run-1") -> str:
        return (self.folder / name / "output").read_text()

    async def aclose(self) -> None:
        if self.folder.exists():
            for path in self.folder.iterdir():
                run = RunFolder(str(path))
                if run.exists() and run.taken():
                    run.ask_to_stop("the test is over")
                    await until(lambda run=run: not run.taken())
        await until(lambda: not self.engine._children._watched)
        await self.engine.aclose()


def supervisors(path) -> list[int]:
    """Return the processes that were started as the supervisor of a run."""
    wanted = [b"pipeline_bridge.supervisor", os.fsencode(path)]
    return [pid for pid in processes() if command_line(pid)[-2:] == wanted]


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def command_line(pid) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def alive(pid) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b") ", 1)[1][:1] != b"Z"
    except OSError:
        return False


async def until(condition, timeout=DEADLINE):
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


BRIDGE = """
import asyncio, os, pathlib, sys
from pipeline_bridge.catalogue import Pipeline
from pipeline_bridge.config import LocalSettings
from pipeline_bridge.engines import Order
from pipeline_bridge.engines.local import Local

async def submit(engine, order):
    print("submitted", await engine.submit(order), flush=True)

async def main(folder, name, times, *command):
    engine = Local(LocalSettings(folder=folder, poll=0.02, grace=5.0))
    order = Order(f"request-{name}", name, Pipeline(engine="local", name="test", command=command), {})
    await asyncio.gather(*[submit(engine, order) for _ in range(int(times))])
    async for seen in engine.follow(order, name):
        print(seen.state, seen.message, flush=True)
    if os.getpid() == 1:
        print("zombies", [path for path in pathlib.Path("/proc").glob("[0-9]*/stat") if b") Z " in path.read_bytes()])
    await engine.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


class Bridge:
    """A small bridge in a process, and a process group, of its own: it submits an order and follows it."""

    def __init__(self, folder, *command, name="run-1", times=1, wrapped=()) -> None:
        self.process = subprocess.Popen(
            [*wrapped, sys.executable, "-c", BRIDGE, folder, name, str(times), *command],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def read_until(self, line) -> None:
        """Wait until it prints a line."""
        for printed in self.process.stdout:
            if printed.strip() == line:
                return
        pytest.fail(f"the bridge ended without {line!r}")

    def finish(self) -> str:
        """Wait for its end; return what it printed."""
        return self.process.communicate(timeout=DEADLINE)[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
async def runs(tmp_path):
    """An engine over a fresh folder."""
    found = Runs(tmp_path / "runs")
    yield found
    await found.aclose()


@pytest.fixture
def make_runs():
    """Return the class of `runs`, for other settings."""
    return Runs


@pytest.fixture
def bridge(runs):
    """Return a function that starts a bridge on the folder of `runs`."""
    started = []

    def start(*command, **options):
        started.append(Bridge(str(runs.folder), *command, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()
        one.process.stdout.close()


@pytest.fixture
def system():
    """What the system knows of processes."""

    class System:
        alive = staticmethod(alive)
        until = staticmethod(until)
        supervisors = staticmethod(supervisors)
        processes = staticmethod(processes)

        @staticmethod
        def zombies() -> list[int]:
            """Return our own children that nobody waited for."""
            found = []
            for pid in processes():
                try:
                    state, parent = (
                        Path(f"/proc/{pid}/stat").read_bytes().rsplit(b") ", 1)[1].split(None, 2)[:2]
                    )
                except OSError:
                    continue
                if state == b"Z" and int(parent) == os.getpid():
                    found.append(pid)
            return found

        @staticmethod
        def signal_group(bridge, number) -> None:
            os.killpg(bridge.process.pid, number)

        @staticmethod
        def wait(bridge, seconds: float) -> None:
            """Let a bridge run for some time, or until it ends."""
            deadline = time.monotonic() + seconds
            while bridge.process.poll() is None and time.monotonic() < deadline:
                try:
                    bridge.process.wait(max(0.001, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    return

    return System
