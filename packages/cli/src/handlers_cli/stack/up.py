"""`handlers up`: start the parts, watch over them, stop them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from handler_base.errors import ConfigError
from handlers_cli.ask import SERVICE, Question, ask
from handlers_cli.connecting import Unreachable, connected, is_running
from handlers_cli.stack.board import Board
from handlers_cli.stack.layout import (
    HOST,
    StackOptions,
    can_speak,
    check_ports,
    data_folder,
    layout,
    write_settings,
)
from handlers_cli.stack.process import PartFailed, PartProcess, follow
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Terminal, printable
from handlers_cli.voice.player import plays_sound

if TYPE_CHECKING:
    from collections.abc import Generator

_NO_VOICE = (
    "flite is missing, so nothing can be spoken: install it with `apt install flite` on Debian and Ubuntu, `brew install "
    "flite` on macOS, or set TTS_URL; --no-voice leaves the voice services out"
)


async def up(options: StackOptions, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Run the stack until `interrupt` is set, a part dies, or the one question is answered.

    Returns:
        The exit code: 0 after an orderly stop, that of the question when it is all that was asked for.
    """
    url = f"nats://{HOST}:{options.ports.nats}"
    if options.one_question and await _runs_already(url):
        terminal.note(f"asking the stack that runs already at {url}")
        return await ask(Question(options.question, nats_url=url), terminal, interrupt)
    try:
        data = data_folder(options)
        with _alone(data):
            check_ports(options)
            (data / "logs").mkdir(exist_ok=True)
            write_settings(options)
            if not can_speak(options):
                terminal.warning(_NO_VOICE)
            return await _Stack(options, data, terminal).run(interrupt)
    except ConfigError as error:
        for problem in error.problems:
            terminal.error(problem)
        return EXIT_USAGE


class _Stack:
    def __init__(self, options: StackOptions, data: Path, terminal: Terminal) -> None:
        self._options = options
        self._data = data
        self._terminal = terminal
        self._processes = [PartProcess(part, data / "logs" / f"{part.name}.log") for part in layout(options)]
        self._ready = {process.part.name: asyncio.Event() for process in self._processes}
        # The answer to a question is the result; the list then goes beside it.
        self._stream = terminal.err if options.one_question else terminal.out
        self._board: Board | None = None
        self._unfinished: list[PartProcess] = []

    async def run(self, interrupt: asyncio.Event) -> int:
        live = self._stream.isatty()
        names = [process.part.name for process in self._processes]
        colours = live and self._terminal.green("x") != "x"
        self._board = Board(names, self._stream, in_place=live and not self._options.verbose, colours=colours)
        try:
            try:
                return await self._supervise(interrupt)
            finally:
                await self._stop()
        except PartFailed as failure:
            self._tell(failure)
            return EXIT_FAILED

    async def _supervise(self, interrupt: asyncio.Event) -> int:
        """Run until there is a reason to end.

        Raises:
            PartFailed: When a part ended by itself.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = [tasks.create_task(self._keep(process)) for process in self._processes]
                if self._options.verbose:
                    watching += [
                        tasks.create_task(follow(process.log, process.part.name, self._terminal.note))
                        for process in self._processes
                    ]
                code = await tasks.create_task(self._serve(interrupt))
                for task in watching:
                    task.cancel()
        except BaseExceptionGroup as group:
            failure = next((error for error in group.exceptions if isinstance(error, PartFailed)), None)
            if failure is None:
                raise
            self._show(failure.part, "failed", failure.reason)
            raise failure from None
        return code

    async def _serve(self, interrupt: asyncio.Event) -> int:
        everything = asyncio.ensure_future(self._everything_ready())
        interrupted = asyncio.ensure_future(interrupt.wait())
        try:
            await asyncio.wait((everything, interrupted), return_when=asyncio.FIRST_COMPLETED)
            if interrupt.is_set():
                return EXIT_INTERRUPTED if self._options.one_question else 0
            if self._board is not None:
                self._board.freeze()
            for process in self._unfinished:
                self._terminal.warning(f"{process.part.name} did not do all of its work:")
                for line in process.last_lines():
                    self._terminal.note(f"  {printable(line)}")
            if self._options.question:
                question = Question(
                    self._options.question, nats_url=f"nats://{HOST}:{self._options.ports.nats}"
                )
                self._terminal.note(f"\n{question.text}\n" if self._options.stay else "")
                code = await ask(question, self._terminal, interrupt)
                if not self._options.stay:
                    return code
            self._invite()
            await interrupted
            return 0
        finally:
            everything.cancel()
            interrupted.cancel()

    async def _everything_ready(self) -> None:
        for event in self._ready.values():
            await event.wait()

    async def _keep(self, process: PartProcess) -> None:
        """Start a part in its turn, and see to it that it lives."""
        part = process.part
        for name in part.after:
            await self._ready[name].wait()
        self._show(process.part.name, "starting")
        await process.start()
        telling = asyncio.ensure_future(self._tell_progress(process))
        try:
            complete = await process.wait_ready()
        finally:
            telling.cancel()
        if not complete:
            self._unfinished.append(process)
        if part.ready == "exit":
            self._show(process.part.name, "done", _last(process))
        else:
            self._show(process.part.name, "ready", f"port {part.port}")
        self._ready[part.name].set()
        if part.ready != "exit":
            await process.watch()

    async def _tell_progress(self, process: PartProcess) -> None:
        """Show the time and the last line of a part that works towards its end."""
        seconds = 0
        while process.part.ready == "exit" and self._stream.isatty():
            self._show(process.part.name, "starting", f"{seconds} s  {_last(process)}".rstrip())
            await asyncio.sleep(1)
            seconds += 1

    async def _stop(self) -> None:
        try:
            for process in reversed(self._processes):
                if process.running:
                    self._show(process.part.name, "stopping")
                    await process.stop()
                    self._show(process.part.name, "stopped")
        finally:  # in a hurry: a second Ctrl-C
            for process in self._processes:
                process.kill()

    def _show(self, name: str, state: str, detail: str = "") -> None:
        if self._board is not None:
            self._board.set(name, state, detail)

    def _tell(self, failure: PartFailed) -> None:
        self._terminal.note("")
        self._terminal.error(f"{failure.part} {failure.reason}; its last lines:")
        for line in failure.log or ["(it printed nothing)"]:
            self._terminal.note(f"  {printable(line)}")
        self._terminal.note(f"the whole log: {self._data / 'logs' / f'{failure.part}.log'}")

    def _invite(self) -> None:
        """Say what to try next."""
        ports, bold = self._options.ports, self._terminal.bold
        url = f"nats://{HOST}:{ports.nats}"
        own = "" if ports.nats == 4222 else f" --nats-url {url}"
        by_hand = """'{"query": "What can you tell me?"}'"""
        spoken = (
            f'  {_command()} say{own} "Who is told about a dead letter?" -o question.wav',
            f"  {_command()} talk{own} question.wav{'' if plays_sound() else ' -o answer.wav'}",
        )
        for line in (
            "",
            bold("The stack is ready. From another terminal:"),
            "",
            f'  {_command()} ask{own} "Who is told about a dead letter?"',
            *(spoken if self._options.voice else ()),
            f"  {_command()} trigger{own} document-ingestion source-url=FOLDER",
            f"  {_command()} watch{own}",
            "",
            bold("By hand, with any NATS client:"),
            "",
            f"  nats -s {url} request ai.chat.request -H Content-Type:application/json {by_hand}",
            f"  nats -s {url} sub 'ai.>'",
            "",
            bold("Health and logs:"),
            "",
            *(f"  http://{HOST}:{ports.probes(name)}/readyz  {name}" for name in self._options.services),
            f"  http://{HOST}:{ports.inference}/readyz  local-inference",
            f"  {self._data / 'logs'}",
            "",
            "Ctrl-C stops everything.",
        ):
            self._terminal.line(line)


def _command() -> str:
    """Return how to call us from the folder we were started in: the environment need not be activated there."""
    beside = Path(sys.executable).parent / "handlers"
    here = Path.cwd()
    return str(beside.relative_to(here)) if beside.exists() and beside.is_relative_to(here) else "handlers"


async def _runs_already(url: str) -> bool:
    try:
        async with connected(url, name="handlers-up") as connection:
            return await is_running(connection, SERVICE)
    except Unreachable:
        return False


@contextlib.contextmanager
def _alone(data: Path) -> Generator[None]:
    """Make sure that no other stack uses the folder: two servers on one store would ruin it."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("w")
    except OSError as error:
        raise ConfigError(
            [f"cannot write to {data}: {error.strerror}; choose another folder with --data"]
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                [f"another `handlers up` uses {data}; stop it, or choose another folder with --data"]
            ) from None
        yield


def _last(process: PartProcess) -> str:
    lines = process.last_lines(1)
    return printable(lines[0].strip())[:100] if lines else ""
