"""Runs a pipeline's command as a process of this machine: once, within limits, and also when the bridge is not there.

Each run has a folder, and a supervisor of its own that starts the command and records how it ends: see
`pipeline_bridge.supervisor`. The engine makes the folder, starts the supervisor, and from then on has a look at the
folder now and again; so any replica that shares the folder can follow and stop any run.

What a crash leaves behind is brought to order by the next call: a folder without a beginning gets a supervisor, and a run
without a supervisor has been cut off, which is its end. It is not begun a second time.

Supervisors stay in the bridge's process group: what ends a whole stack, as Ctrl-C in a terminal does, ends its runs in
order. A signal to the bridge alone leaves them at work. Where the bridge is the first process of a container they end
with the container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pipeline_bridge
from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from pipeline_bridge.catalogue import filled
from pipeline_bridge.engines import ENDS, Observation
from pipeline_bridge.engines.children import Children
from pipeline_bridge.engines.environment import inherited
from pipeline_bridge.supervisor import output
from pipeline_bridge.supervisor.folder import MARK, RunFolder, RunOrder, RunState
from pipeline_bridge.supervisor.processes import kill_marked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from pipeline_bridge.catalogue import Pipeline
    from pipeline_bridge.config import LocalSettings
    from pipeline_bridge.engines import Order

BEGIN_TIMEOUT = 60.0
"""Longest wait for a run to begin, in seconds; a busy machine takes its time to start an interpreter."""

TIDY_INTERVAL = 600.0
"""Seconds between two looks for folders that were kept long enough."""

_BEGIN_POLL = 0.01
_DRAFT_KEPT = 3600.0
_LOG = "supervisor.log"
_WHERE = str(Path(pipeline_bridge.__file__).absolute().parent.parent)


class Local:
    """The engine `local`.

    A command whose program is `python` is run by the bridge's own interpreter. Another program is looked for beside that
    interpreter, then on PATH. If there is none, nothing is left behind, and the same order can be submitted again later.

    Args:
        settings: Where the folders are, and how long things take.
    """

    name = "local"

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._above = Path(settings.folder).resolve()
        self._children = Children()
        self._tidied = float("-inf")

    def run_id(self, order: Order) -> str:
        """Return the run's name: that of its folder."""
        return order.name

    async def submit(self, order: Order) -> str:
        """Start the run unless it was started before; return its name.

        Raises:
            UpstreamRejected: If there is no such program or directory.
            UpstreamUnavailable: If the folder cannot be used, or no process can be started.
        """
        folder = self._folder(order.name)
        with self._mapped():
            if not folder.exists():
                await asyncio.to_thread(folder.create, self._ordered(order))
            await self._begun(folder)
            await self._tidy()
        return order.name

    async def follow(self, order: Order, run_id: str) -> AsyncGenerator[Observation]:
        """Yield how far a run is, then every change of it; ends after an end.

        Raises:
            UpstreamRejected: If its folder is gone.
            UpstreamUnavailable: If its folder cannot be used.
        """
        folder = self._folder(run_id or order.name)
        view = _View(folder)
        last: Observation | None = None
        while True:
            with self._mapped():
                if not folder.exists():
                    raise UpstreamRejected(
                        f"there is no local run {run_id}: its folder is gone", endpoint="local"
                    )
                await self._begun(folder)
                if view.alone():
                    await asyncio.to_thread(_settle, folder)
                    view = _View(folder)
                seen = view.look()
            if seen != last:
                yield seen
            if seen.state in ENDS:
                return
            last = seen
            await asyncio.sleep(self._settings.poll)

    async def stop(self, order: Order, run_id: str, reason: str) -> bool:
        """Tell the run's supervisor to end it; it has the grace time for that.

        Returns:
            False if it had ended already.

        Raises:
            UpstreamUnavailable: If its folder cannot be used.
        """
        folder = self._folder(run_id or order.name)
        with self._mapped():
            if not folder.exists():
                return True
            before = folder.state()
            if before is not None and before.ended:
                return False
            await asyncio.to_thread(folder.ask_to_stop, reason)
            after = await asyncio.to_thread(_settle, folder)
        return before is None or not after

    async def aclose(self) -> None:
        """Watch no more; runs go on."""
        self._children.close()

    def _folder(self, name: str) -> RunFolder:
        return RunFolder(str(self._above / name))

    def _ordered(self, order: Order) -> RunOrder:
        pipeline = order.pipeline
        directory = Path(pipeline.directory).absolute()
        if not directory.is_dir():
            raise UpstreamRejected(
                f"pipeline {pipeline.name} cannot run: there is no folder {directory}", endpoint="local"
            )
        # What a Python program prints is seen at once, not when it has printed enough to fill a buffer.
        environment = inherited() | {"PYTHONUNBUFFERED": "1"} | pipeline.environment
        program, *arguments = filled(pipeline.command, order.parameters)
        return RunOrder(
            command=[_program(pipeline, program, directory, environment.get("PATH", os.defpath)), *arguments],
            environment=environment
            | {
                "PIPELINE_REQUEST_ID": order.request_id,
                "PIPELINE_NAME": pipeline.name,
                MARK: self._folder(order.name).path,
            },
            directory=str(directory),
            timeout=pipeline.timeout,
            grace=self._settings.grace,
            poll=self._settings.poll,
            max_output=self._settings.max_output,
            memory_mb=pipeline.memory_mb,
            cpu_seconds=pipeline.cpu_seconds,
        )

    async def _begun(self, folder: RunFolder) -> None:
        """Start a supervisor unless the run has begun, and wait until it has."""
        if folder.changed():
            return
        process = self._supervise(folder)
        give_up = time.monotonic() + BEGIN_TIMEOUT
        while not folder.changed():
            ended = self._children.ended(process)
            if (ended and not folder.changed()) or time.monotonic() > give_up:
                said = _log_line(folder) or "its supervisor does not say why"
                raise UpstreamUnavailable(f"no local run can be begun: {said}", endpoint="local")
            await asyncio.sleep(_BEGIN_POLL)

    def _supervise(self, folder: RunFolder) -> int:
        """Start a supervisor, which ends at once where another is at work; return its process id."""
        # Where its code is has to be said: it starts without `site`, which takes a third of the time.
        environment = inherited() | {"PYTHONPATH": _WHERE}
        command = [sys.executable, "-SP", "-X", "utf8", "-m", "pipeline_bridge.supervisor", folder.path]
        return self._children.start(command, environment, folder.file(_LOG))

    async def _tidy(self) -> None:
        now = time.monotonic()
        if now - self._tidied >= TIDY_INTERVAL:
            self._tidied = now
            await asyncio.to_thread(_remove_old, self._above, self._settings.kept)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UpstreamUnavailable(
                f"local runs in {self._above} cannot be used: {error.strerror or error}", endpoint="local"
            ) from error


class _View:
    """What a folder says; it reads no file again that has not changed."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._state: RunState | None = None
        self._line = ""
        self._seen: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    def look(self) -> Observation:
        seen = (self._folder.changed(), output.changed(self._folder.path))
        if seen[0] != self._seen[0]:
            self._state = self._folder.state()
        if seen[1] != self._seen[1]:
            self._line = output.last_line(self._folder.path)
        self._seen = seen
        state = self._state
        if state is None or state.stage == "starting":
            return Observation("pending", started=False)
        if state.stage == "running":
            return Observation("running", self._line)
        return Observation(state.stage, state.message, started=state.started)

    def alone(self) -> bool:
        """Return whether nobody is at work on a run that had not ended when it was last looked at."""
        return not (self._state is not None and self._state.ended) and not self._folder.taken()


def _settle(folder: RunFolder) -> bool:
    """Record the end of a run that has begun, or is not to begin, and has no supervisor; return whether it has ended."""
    held = folder.take()
    if held is None:
        return False
    try:
        state = folder.state()
        if state is None:
            reason = folder.stop_reason()
            if reason is None:
                return False
            folder.record(RunState("failed", f"was stopped before it began: {reason}"))
        elif not state.ended:
            kill_marked(MARK, folder.path, state.pid)
            with contextlib.suppress(
                ChildProcessError
            ):  # as the first process of a container, we are its parent
                os.waitpid(state.pid or os.getpid(), os.WNOHANG)
            folder.record(RunState("failed", _how_cut_off(folder), started=state.started, pid=state.pid))
        return True
    finally:
        os.close(held)


def _how_cut_off(folder: RunFolder) -> str:
    said = _log_line(folder) or "it, the container or the machine was ended by force"
    return f"was cut off, since nothing watched over it any more: {said}"


def _program(pipeline: Pipeline, program: str, directory: Path, path: str) -> str:
    if program == "python":
        return sys.executable
    if "/" in program:
        found = shutil.which(directory / program)
    else:
        found = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{path}")
    if found is None:
        raise UpstreamRejected(
            f"pipeline {pipeline.name} cannot run: there is no program {program[:200]!r}, or it is not executable",
            endpoint="local",
        )
    return str(Path(found).absolute())


def _remove_old(above: Path, kept: float) -> None:
    now = time.time()
    for path in above.iterdir():
        folder = RunFolder(str(path))
        with contextlib.suppress(OSError):  # another replica was faster, or it is none of ours
            if path.name.startswith((".new-", ".old-")):
                if now - path.stat().st_mtime > _DRAFT_KEPT:
                    folder.remove()
            elif (ended := folder.ended_at()) is not None and now - ended >= kept:
                folder.remove()


def _log_line(folder: RunFolder) -> str:
    try:
        return output.line_of(Path(folder.file(_LOG)).read_bytes()[-4096:])
    except FileNotFoundError:
        return ""
