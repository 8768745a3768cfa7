"""What the kernel knows of processes: who descends from whom, who bears a mark, and who dies with whom.

All of it needs Linux. Elsewhere a process that leaves its group is out of reach, and a command goes on when its supervisor is
killed with SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PAUSE, _REAP_PATIENCE = 0.01, 0.5
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none is lost."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when the process that forked this one ends, of whatever cause.

    Args:
        parent: Its process id.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def signal_descendants(number: signal.Signals, group: int) -> None:
    """Send a signal to a process group and to every descendant of this process outside of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
    for process in _descendants():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process) != group:
                os.kill(process, number)


def kill_marked(name: str, value: str, patience: float = 5.0) -> None:
    """Kill every process that was started with an environment variable of a value, and wait until they are gone.

    Args:
        name: Of the variable.
        value: Its value, which no other process may have.
        patience: Seconds until it is given up; what hangs in the kernel dies later.
    """
    mark = os.fsencode(f"{name}={value}")
    give_up = time.monotonic() + patience
    quiet = 0
    # Twice nobody: in the moment that a program takes the place of another, it shows no environment.
    while quiet < 2 and time.monotonic() < give_up:
        found = list(_marked(mark))
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(_PAUSE)
    if os.getpid() == 1:
        _reap_orphans()


def _reap_orphans() -> None:
    """Wait for those that come to the first process of a container: some moments after they died, when their parents have."""
    give_up = time.monotonic() + _REAP_PATIENCE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < give_up:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_PAUSE)


def _descendants() -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for process in _every():
        with contextlib.suppress(OSError):
            stat = _read(f"/proc/{process}/stat")
            # After the name, which may hold anything: state, parent, …
            parent = int(stat[stat.rindex(b")") + 2 :].split(None, 2)[1])
            children.setdefault(parent, []).append(process)
    below = list(children.get(os.getpid(), ()))
    for process in below:
        below += children.get(process, ())
    yield from below


def _marked(mark: bytes) -> Iterator[int]:
    for process in _every():
        with contextlib.suppress(OSError):  # gone, or somebody else's
            if mark in _read(f"/proc/{process}/environ").split(b"\0"):
                yield process


def _every() -> Iterator[int]:
    try:
        yield from (int(name) for name in os.listdir("/proc") if name.isdecimal())
    except FileNotFoundError:
        return


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
