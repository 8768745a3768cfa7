"""One part at run time: its process, its log, whether it is ready, its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from handlers_cli.stack.layout import Part

GRACE_SECONDS = 25.0
"""How long a part may take to end after SIGTERM; longer than the grace that services give to running work."""

_ASK_SECONDS = 0.05
_ANSWER_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1
# What belongs to another NATS server has no meaning for the local one.
_DROPPED = ("NATS_",)


class PartFailed(Exception):
    """A part ended when it should not have.

    Attributes:
        part: Its name.
        reason: What happened, in words.
        log: The last lines it wrote.
    """

    def __init__(self, part: str, reason: str, log: list[str]) -> None:
        super().__init__(f"{part} {reason}")
        self.part = part
        self.reason = reason
        self.log = log


class PartProcess:
    """A part and its process.

    Args:
        part: What to run.
        log: File for what it prints; started anew.
    """

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        log.write_bytes(b"")

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process, in a group of its own so that a Ctrl-C at the terminal is ours alone.

        Raises:
            PartFailed: If it cannot be started.
        """
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
        environ |= {"PYTHONUNBUFFERED": "1", **self.part.environ}
        with self.log.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self.part.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environ,
                    start_new_session=True,
                    preexec_fn=_end_with_parent(),
                )
            except OSError as error:
                raise PartFailed(self.part.name, f"cannot be started: {error}", []) from error

    async def wait_ready(self) -> bool:
        """Return when it is ready; a part that does its work and ends is ready when it ended.

        Returns:
            False if it ended with some of its work undone.

        Raises:
            PartFailed: If it ended otherwise.
        """
        assert self._process is not None
        if self.part.ready == "exit":
            code = await self._process.wait()
            if code not in {0, self.part.partial}:
                raise self._failure()
            return code == 0
        probe = _greets if self.part.ready == "nats" else _is_ready
        while not await probe(self.part.port):
            if self._process.returncode is not None:
                raise self._failure()
            await asyncio.sleep(_ASK_SECONDS)
        return True

    async def watch(self) -> None:
        """Wait for ever.

        Raises:
            PartFailed: When it ends.
        """
        assert self._process is not None
        await self._process.wait()
        if not self._stopping:
            raise self._failure()

    async def stop(self) -> None:
        """End it and everything it started: SIGTERM, grace, SIGKILL."""
        self._stopping = True
        process = self._process
        if process is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
                # What it started may take longer than it, for instance the run of a pipeline.
                while _group_lives(process.pid):  # noqa: ASYNC110 - the end of a child's child has no event
                    await asyncio.sleep(_ASK_SECONDS)
        self.kill()
        await process.wait()

    def kill(self) -> None:
        """End what is left of it and of everything it started, at once."""
        self._stopping = True
        if self._process is not None:
            self._signal(signal.SIGKILL)

    def last_lines(self, count: int = 15) -> list[str]:
        """Return the last lines that it printed."""
        if not self.log.exists():
            return []
        return self.log.read_text(errors="replace").splitlines()[-count:]

    def _failure(self) -> PartFailed:
        assert self._process is not None
        code = self._process.returncode or 0
        reason = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return PartFailed(self.part.name, reason, self.last_lines())

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


async def follow(log: Path, name: str, write: Callable[[str], None]) -> None:
    """Pass on each line that is added to `log`, for ever."""
    rest = ""
    with log.open(errors="replace") as file:
        while True:
            *lines, rest = (rest + file.read()).split("\n")
            for line in lines:
                write(f"{name} | {line}")
            await asyncio.sleep(0.1)


async def _greets(port: int) -> bool:
    """Whether a NATS server listens on `port`."""
    return (await _exchange(port, b"", 5)) == b"INFO "


async def _is_ready(port: int) -> bool:
    """Whether `/readyz` on `port` answers 200."""
    head = await _exchange(port, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 12)
    return head.endswith(b" 200")


async def _exchange(port: int, sent: bytes, size: int) -> bytes:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(sent)
                return await reader.readexactly(size)
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError):
        return b""


def _group_lives(group: int) -> bool:
    """Whether there is a process of a group that has not ended."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # the second is what macOS says of those that have ended
        return False
    if not sys.platform.startswith("linux"):
        return True
    # In a container nobody may take note of the end of orphans: they stay in the list for ever.
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, its_group, *_ = file.read_text(errors="replace").rpartition(")")[2].split()
            if int(its_group) == group and state not in {"Z", "X"}:
                return True
    return False


def _end_with_parent() -> Callable[[], None] | None:
    """Return what makes a child end when we are killed; only Linux can do that."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
