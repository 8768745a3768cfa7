"""Starts the command of a run with its limits, in a session of its own."""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from pipeline_bridge.supervisor.processes import die_with_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pipeline_bridge.supervisor.folder import RunOrder

CPU_GRACE = 5
"""Seconds of CPU time between SIGXCPU, which a program may handle, and SIGKILL."""

_MIB = 1024 * 1024


def start(order: RunOrder, output: int, umask: int) -> int:
    """Start a command.

    There is no shell between: each argument arrives as it is.

    Args:
        order: What to run, and within which limits.
        output: The descriptor for what it prints.
        umask: Its mask for new files.

    Returns:
        Its process id, which is also that of its process group and session.

    Raises:
        OSError: Why it cannot be run.
    """
    hears, tells = os.pipe()
    supervisor = os.getpid()
    process = os.fork()
    if process == 0:
        try:
            die_with_parent(supervisor)
            _become(order, output, umask)
        except OSError as error:
            os.write(tells, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(tells)
    with open(hears, "rb") as file:
        # Empty when the pipe was closed by the program's start.
        failed = file.read()
    if failed:
        os.waitpid(process, 0)
        raise OSError(int(failed), os.strerror(int(failed)))
    return process


def _become(order: RunOrder, output: int, umask: int) -> NoReturn:
    signal.set_wakeup_fd(-1)  # it is the supervisor's
    # Away from the terminal too: a question for a password fails instead of waiting for ever.
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(order.directory)
    os.umask(umask)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and what we start would
        signal.signal(number, signal.SIG_DFL)
    _limit(resource.RLIMIT_CORE, 0, 0)
    if order.cpu_seconds:
        _limit(resource.RLIMIT_CPU, order.cpu_seconds, order.cpu_seconds + CPU_GRACE)
    if order.memory_mb:
        _limit(resource.RLIMIT_AS, order.memory_mb * _MIB, order.memory_mb * _MIB)
    os.execve(order.command[0], order.command, order.environment)  # noqa: S606 - on purpose


def _limit(what: int, soft: int, hard: int) -> None:
    _, highest = resource.getrlimit(what)
    if highest != resource.RLIM_INFINITY:
        soft, hard = min(soft, highest), min(hard, highest)
    with contextlib.suppress(ValueError):  # not to be had here, as memory on macOS
        resource.setrlimit(what, (soft, hard))
