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

_REAP_PATIENCE = 0.5
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


def kill_marked(name: str, value: str, leader: int, patience: float = 5.0) -> None:
    """Kill every process that was started with an environment variable of a value, and wait until they are gone.

    Args:
        name: Of the variable.
        value: Its value, which no other process may have.
        leader: The one that started the others, which may be dead already; 0 if it is not known.
        patience: Seconds until it is given up; what hangs in the kernel dies later.
    """
    mark = os.fsencode(f"{name}={value}")
    give_up = time.monotonic() + patience
    killed = {leader} - {0}
    while (found := list(_marked(mark))) and time.monotonic() < give_up:
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        killed.update(found)
        time.sleep(0.01)
    _reap(killed)


def _reap(killed: set[int]) -> None:
    """Wait for those that are our children, as orphans are those of the first process of a container."""
    give_up = time.monotonic() + _REAP_PATIENCE
    for process in killed:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(process, os.WNOHANG) == (0, 0) and time.monotonic() < give_up:
                time.sleep(0.01)


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
