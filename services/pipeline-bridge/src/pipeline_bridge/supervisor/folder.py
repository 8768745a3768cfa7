"""The folder of a local run, in which bridges and its supervisor tell each other what they have to.

    order.json      what to run; there from the first moment, never changed
    lock            held by the supervisor for as long as it lives
    state.json      how far the run is; replaced as a whole, by who holds the lock and nobody else
    output          the end of what the command printed, and `output.before` what it printed before that
    stop            why the run is to be stopped; made by any bridge
    supervisor.log  what the supervisor itself had to complain of

The folder appears as a whole, by a rename, so that a run has one order. It begins when the first state is written, under
the lock and only where there is none: so it begins once, whoever starts how many supervisors. A run that has not ended
and whose lock is free has been cut off: the kernel lets go of the lock of whoever dies, of whatever cause, and knows
no process ids that are used again.
"""

from __future__ import annotations

import fcntl
import json
import os

TYPE_CHECKING = False  # `typing` takes a tenth of a supervisor's memory
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    Stage = Literal["starting", "running", "succeeded", "failed"]

MARK = "PIPELINE_RUN"
"""The environment variable by which all processes of a run are known: its folder."""

_ORDER, _LOCK, _STATE, _STOP = "order.json", "lock", "state.json", "stop"


class RunOrder:
    """What a supervisor is to do.

    Attributes:
        command: Program, as an absolute path, and arguments.
        environment: All variables of the command.
        directory: The folder it runs in.
        timeout: Seconds that it may take.
        grace: Seconds between SIGTERM and SIGKILL when it has to end.
        poll: Seconds between two looks for `stop`.
        max_output: Bytes of output to keep.
        memory_mb: Most memory of a process, in MiB; 0 for no limit.
        cpu_seconds: Most CPU time of a process, in seconds; 0 for no limit.
    """

    def __init__(
        self,
        *,
        command: list[str],
        environment: dict[str, str],
        directory: str,
        timeout: float,
        grace: float,
        poll: float,
        max_output: int,
        memory_mb: int = 0,
        cpu_seconds: int = 0,
    ) -> None:
        self.command = command
        self.environment = environment
        self.directory = directory
        self.timeout = timeout
        self.grace = grace
        self.poll = poll
        self.max_output = max_output
        self.memory_mb = memory_mb
        self.cpu_seconds = cpu_seconds


class RunState:
    """How far a run is.

    Attributes:
        stage: `starting` until the command is known to run.
        message: Of an end: what came out, or what went wrong.
        started: Whether the command has ever run.
        pid: The command's process id, for people.
    """

    def __init__(self, stage: Stage, message: str = "", *, started: bool = False, pid: int = 0) -> None:
        self.stage: Stage = stage
        self.message = message
        self.started = started
        self.pid = pid

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.stage in {"succeeded", "failed"}


class RunFolder:
    """The folder of one run.

    Every method may raise an `OSError`.

    Args:
        path: Its absolute path.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def exists(self) -> bool:
        """Return whether somebody made it."""
        return os.path.exists(self.file(_ORDER))

    def create(self, order: RunOrder) -> None:
        """Make the folder unless somebody else does."""
        above, name = os.path.split(self.path)
        os.makedirs(above, mode=0o700, exist_ok=True)
        draft = RunFolder(os.path.join(above, f".new-{name}-{os.urandom(6).hex()}"))
        os.mkdir(draft.path, mode=0o700)
        try:
            _write(draft.file(_LOCK), b"")
            _write(draft.file(_ORDER), _encode(vars(order)))
            os.rename(draft.path, self.path)
        except OSError:
            draft.remove()
            if not self.exists():
                raise
        _sync(above)

    def remove(self) -> None:
        """Remove it; to others it is gone at once."""
        import shutil  # a supervisor never needs it

        above, name = os.path.split(self.path)
        if not name.startswith("."):
            gone = os.path.join(above, f".old-{name}-{os.urandom(6).hex()}")
            os.rename(self.path, gone)
            self.path = gone
        shutil.rmtree(self.path, ignore_errors=True)

    def file(self, name: str) -> str:
        """Return the path of a file in it."""
        return os.path.join(self.path, name)

    def order(self) -> RunOrder:
        """Read what to run."""
        return RunOrder(**_decode(_read(self.file(_ORDER))))

    def state(self) -> RunState | None:
        """Read how far the run is; None until it begins."""
        try:
            return RunState(**_decode(_read(self.file(_STATE))))
        except FileNotFoundError:
            return None

    def record(self, state: RunState) -> None:
        """Write how far the run is. Only who holds the lock may."""
        _write(self.file(_STATE), _encode(vars(state)))
        _sync(self.path)

    def changed(self) -> tuple[int, ...]:
        """Return what is different after a new state."""
        try:
            found = os.stat(self.file(_STATE))
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def ended_at(self) -> float | None:
        """Return when the run ended, as Unix time; None if it did not."""
        state = self.state()
        return os.stat(self.file(_STATE)).st_mtime if state is not None and state.ended else None

    def take(self) -> int | None:
        """Take the lock; return the descriptor that holds it until it is closed, or None if it is taken."""
        descriptor = os.open(self.file(_LOCK), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def taken(self) -> bool:
        """Return whether somebody holds the lock."""
        descriptor = self.take()
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def ask_to_stop(self, reason: str) -> None:
        """Tell the supervisor to end the run."""
        _write(self.file(_STOP), reason.encode(errors="replace"))

    def stop_reason(self) -> str | None:
        """Return why the run is to be stopped; None if it is not."""
        try:
            return _read(self.file(_STOP)).decode(errors="replace")
        except FileNotFoundError:
            return None


def _encode(fields: Mapping[str, object]) -> bytes:
    # As ASCII: what an environment holds besides UTF-8 comes back as it was.
    return json.dumps(fields).encode()


def _decode(data: bytes) -> dict[str, Any]:
    return json.loads(data)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    """Write a file so that others see all of it or the one before, also after the machine has crashed."""
    draft = f"{path}.{os.urandom(6).hex()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
