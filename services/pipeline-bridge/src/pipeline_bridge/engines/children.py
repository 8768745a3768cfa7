"""Processes that outlive the one that started them, but leave no zombie while it lives.

asyncio's subprocesses do not do: they are killed when their transport or the loop is closed, and some of its ways to wait
for them cost a thread each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Children:
    """Starts processes, and takes note of their ends, in one event loop."""

    def __init__(self) -> None:
        self._watched: dict[int, int | None] = {}

    def start(self, command: list[str], environment: Mapping[str, str], log: str) -> int:
        """Start a process in the process group of this one, with no input and its output in a file.

        Returns:
            Its process id.

        Raises:
            OSError: If it cannot be started.
        """
        for other in [number for number, told_by in self._watched.items() if told_by is None]:
            self.ended(other)
        process = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGCHLD],
        )
        self._watched[process] = self._watch(process)
        return process

    def ended(self, process: int) -> bool:
        """Return whether a process has ended; if so, its place in the kernel's table is given back."""
        if process not in self._watched:
            return True
        try:
            if os.waitpid(process, os.WNOHANG) == (0, 0):
                return False
        except ChildProcessError:  # somebody else waited for it
            pass
        self._forget(process)
        return True

    def close(self) -> None:
        """Watch no more; the processes go on."""
        for process in list(self._watched):
            self._forget(process)

    def _watch(self, process: int) -> int | None:
        """Have `ended` called when it does; return the descriptor that tells, or None where there are none."""
        if sys.platform != "linux":
            return None
        with contextlib.suppress(OSError):  # an old kernel, or no descriptor left
            descriptor = os.pidfd_open(process)
            asyncio.get_running_loop().add_reader(descriptor, self.ended, process)
            return descriptor
        return None

    def _forget(self, process: int) -> None:
        descriptor = self._watched.pop(process)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
