"""See a run through: begin it, if nobody has; watch over its command; record how it ended.

Everything happens in one loop that waits for output, signals and time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from pipeline_bridge.supervisor import command
from pipeline_bridge.supervisor.folder import RunFolder, RunState
from pipeline_bridge.supervisor.output import Output, discard, last_line
from pipeline_bridge.supervisor.processes import adopt_orphans, signal_descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource

    from pipeline_bridge.supervisor.folder import RunOrder

NICENESS = 5
"""A run is background work: the bridge, and whatever serves people, goes first."""

_LOCK_PATIENCE = 30.0
_LOOK = 0.02  # seconds between looks for a lock that is about to be free, or for processes that were killed
_READ = 65536
_PIPE_READS = 1 + 1024 * 1024 // _READ  # as much as a pipe may hold
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Supervise the run in the folder that is named by the only argument."""
    umask = os.umask(0o077)
    _close_inherited()
    folder = RunFolder(sys.argv[1])
    signals = _signals()
    if not _begins(folder):
        return
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    adopt_orphans()
    order = folder.order()
    reads, writes = os.pipe()
    try:
        process = command.start(order, writes, umask)
    except OSError as error:
        # An errno of ours, not of a file: the words of the system say it best.
        where = f"{order.command[0]} could not be started in {order.directory}"
        folder.record(RunState("failed", f"{where}: {error.strerror}"))
        return
    os.close(writes)
    folder.record(RunState("running", started=True, pid=process))
    end = Supervisor(folder, order, process, output=reads, signals=signals).run()
    try:
        folder.record(end)
    except OSError:
        discard(folder.path)  # makes room on a full disk
        folder.record(end)


def _close_inherited() -> None:
    with contextlib.suppress(FileNotFoundError):
        for descriptor in [int(name) for name in os.listdir("/dev/fd")]:
            if descriptor > 2:
                with contextlib.suppress(OSError):  # the one that the listing itself had
                    os.close(descriptor)


def _signals() -> int:
    """Return a descriptor from which the numbers of signals can be read."""
    hears, tells = os.pipe()
    os.set_blocking(hears, False)
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_ENDING):
        if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGCHLD:  # as nohup asks
            signal.signal(number, lambda *_: None)
    return hears


def _begins(folder: RunFolder) -> bool:
    """Take the lock for good, and record that the run begins; False if it has begun before."""
    give_up = time.monotonic() + _LOCK_PATIENCE
    while folder.take() is None:
        # Another supervisor, which is about to record its first state, or a bridge that has a look.
        if folder.state() is not None or time.monotonic() > give_up:
            return False
        time.sleep(_LOOK)
    if folder.state() is not None:
        return False
    if (reason := folder.stop_reason()) is not None:
        folder.record(RunState("failed", f"was stopped before it began: {reason}"))
        return False
    folder.record(RunState("starting"))
    return True


class Supervisor:
    """Watches over a command.

    Args:
        folder: The run's.
        order: What it is.
        process: The command's process, which leads a group.
        output: Where its output can be read.
        signals: Where the numbers of signals can be read.
    """

    def __init__(
        self, folder: RunFolder, order: RunOrder, process: int, *, output: int, signals: int
    ) -> None:
        self._folder = folder
        self._order = order
        self._process = process
        self._pipe = output
        self._signals = signals
        self._output = Output(folder.path, order.max_output)
        self._deadline = time.monotonic() + order.timeout
        self._why = ""
        self._kill_at: float | None = None
        self._exit: tuple[int, resource.struct_rusage] | None = None
        self._poll = select.poll()

    def run(self) -> RunState:
        """Return how it ended: when the command has, and all that it started."""
        os.set_blocking(self._pipe, False)
        self._poll.register(self._pipe, select.POLLIN)
        self._poll.register(self._signals, select.POLLIN)
        while not self._all_ended():
            self._watch_time()
            ready = {descriptor for descriptor, _ in self._poll.poll(self._pause() * 1000)}
            if self._pipe in ready:
                self._copy()
            if self._signals in ready:
                self._heed()
        for _ in range(_PIPE_READS):
            if not self._copy():
                break
        self._output.close()
        return self._end()

    def _copy(self) -> bool:
        """Keep some output; False if there is none at the moment."""
        try:
            data = os.read(self._pipe, _READ)
        except BlockingIOError:
            return False
        if data:
            self._output.write(data)
        else:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._pipe)
        return bool(data)

    def _heed(self) -> None:
        for number in os.read(self._signals, 4096):
            if number not in _ENDING:
                continue
            if self._kill_at is None:
                self._stop(f"was stopped together with the bridge ({signal.Signals(number).name})")
            else:  # a second one ends the grace time
                self._kill_at = time.monotonic()

    def _all_ended(self) -> bool:
        """Wait for whoever has ended; True if nobody is left."""
        try:
            while True:
                process, status, usage = os.wait3(os.WNOHANG)
                if process == 0:
                    break
                if process == self._process:
                    self._exit = (status, usage)
        except ChildProcessError:
            return True
        if self._exit is not None and self._kill_at is None:
            self._stop("")  # what it left behind ends with it
        return False

    def _watch_time(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None:
            if now >= self._kill_at:
                signal_descendants(signal.SIGKILL, self._process)
        elif now >= self._deadline:
            self._stop(f"took longer than {self._order.timeout:g} s")
        elif (reason := self._folder.stop_reason()) is not None:
            self._stop(f"was stopped: {reason}")
        elif not self._folder.exists():
            self._stop("its folder is gone")

    def _pause(self) -> float:
        now = time.monotonic()
        if self._kill_at is not None:
            return max(_LOOK, self._kill_at - now)
        return max(0.0, min(self._order.poll, self._deadline - now))

    def _stop(self, why: str) -> None:
        self._why = why
        self._kill_at = time.monotonic() + self._order.grace
        signal_descendants(signal.SIGTERM, self._process)

    def _end(self) -> RunState:
        assert self._exit is not None
        status, usage = self._exit
        code = os.waitstatus_to_exitcode(status)
        line = last_line(self._folder.path)
        said = f": {line}" if line else ""
        if self._why:
            message = self._why
        elif code == 0:
            return RunState("succeeded", line, started=True, pid=self._process)
        else:
            message = f"exit code {code}{said}" if code > 0 else self._killed(-code, usage, said)
        return RunState("failed", message, started=True, pid=self._process)

    def _killed(self, number: int, usage: resource.struct_rusage, said: str) -> str:
        limit = self._order.cpu_seconds
        used = usage.ru_utime + usage.ru_stime
        if limit and (number == signal.SIGXCPU or (number == signal.SIGKILL and used >= limit)):
            return f"ran into its limit of {limit} s CPU time{said}"
        if number == signal.SIGKILL:
            return f"was ended by SIGKILL (out of memory?){said}"
        known = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"was ended by {known}{said}"


if __name__ == "__main__":
    main()
