"""Programs that play sound, and speech that is played while it comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from typing import IO, TYPE_CHECKING, Literal, NamedTuple, Self

from handler_base.audio import wav_header
from handler_base.errors import HandlerError
from handlers_cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Sequence


class Program(NamedTuple):
    """A program that plays sound.

    Attributes:
        name: What it is called on PATH.
        arguments: `{rate}` and `{file}` are filled in.
        takes: Raw PCM on its standard input, an audio file there, or the name of one.
    """

    name: str
    arguments: tuple[str, ...]
    takes: Literal["pcm", "stream", "file"]


PROGRAMS = (
    Program("aplay", ("-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "{rate}", "-"), "pcm"),
    Program("paplay", ("--raw", "--format=s16le", "--channels=1", "--rate={rate}"), "pcm"),
    Program("ffplay", ("-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"), "stream"),
    Program("mpv", ("--no-terminal", "--no-video", "-"), "stream"),
    Program("play", ("-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", "{rate}", "-"), "pcm"),
    Program("afplay", ("{file}",), "file"),
)
"""In the order in which they are looked for."""

_HOW = "write a file with -o answer.wav"


class PlayerError(HandlerError):
    """Sound cannot be played here."""

    type = "player"


def find_program(*, compressed: bool = False) -> Program:
    """Return the first program on PATH that plays PCM, or what is compressed.

    Raises:
        PlayerError: If there is none; says what to do.
    """
    fitting = [program for program in PROGRAMS if not compressed or program.takes != "pcm"]
    for program in fitting:
        if shutil.which(program.name):
            return program
    names = ", ".join(program.name for program in fitting)
    package = "ffmpeg" if compressed else "alsa-utils"
    raise PlayerError(
        f"no program that plays {'compressed ' if compressed else ''}sound is here ({names}): {_HOW}, or install one, "
        f"on Debian and Ubuntu with `apt install {package}`"
    )


def plays_sound() -> bool:
    """Whether a program that plays sound is here."""
    return any(shutil.which(program.name) for program in PROGRAMS)


class Player:
    """Plays speech as it comes; to enter with `async with`, leaving it ends the sound."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[bytes, str, int] | None] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._file: IO[bytes] | None = None
        self._program = find_program()
        self._feeding: asyncio.Task[None] | None = None
        self._dropped: list[asyncio.subprocess.Process] = []
        self._resets = 0

    async def __aenter__(self) -> Self:
        """Get ready to play."""
        self._feeding = asyncio.create_task(self._feed())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End what sounds."""
        assert self._feeding is not None
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)
        self._drop()
        for process in self._dropped:
            assert process.stderr is not None
            await process.stderr.read()
            await process.wait()

    def write(self, audio: bytes, form: str, rate: int) -> None:
        """Play `audio` after what came before."""
        self._queue.put_nowait((audio, form, rate))

    def reset(self) -> None:
        """Drop what waits and what sounds: something else comes in its place."""
        self._resets += 1
        while not self._queue.empty():
            self._queue.get_nowait()
        self._drop()

    async def finish(self) -> str:
        """Wait until all of it was heard; return where it went.

        Raises:
            PlayerError: If the program failed.
        """
        assert self._feeding is not None
        self._queue.put_nowait(None)
        await self._feeding
        return f"played by {self._program.name}"

    async def _feed(self) -> None:
        while (item := await self._queue.get()) is not None:
            audio, form, rate = item
            if self._process is None and self._file is None:
                self._program = find_program(compressed=form != "pcm")
                resets = self._resets
                await self._begin(form, rate)
                if resets != self._resets:  # something else is to be played by now
                    self._drop()
                    continue
                if form == "pcm" and self._program.takes != "pcm":
                    audio = wav_header(rate) + audio
            await self._pass_on(audio)
        if self._file is not None:
            self._file.flush()
            self._process = await self._start(file=self._file.name)
        if self._process is not None:
            await self._drained(self._process)

    async def _begin(self, form: str, rate: int) -> None:
        if self._program.takes == "file":
            suffix = ".wav" if form == "pcm" else f".{form}"
            self._file = tempfile.NamedTemporaryFile(suffix=suffix)  # noqa: SIM115 - closed with the player
        else:
            self._process = await self._start(rate=rate)

    async def _start(self, *, rate: int = 0, file: str = "") -> asyncio.subprocess.Process:
        arguments: Sequence[str] = [
            each.format(rate=rate, file=file) if "{" in each else each for each in self._program.arguments
        ]
        try:
            return await asyncio.create_subprocess_exec(
                self._program.name,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C at the terminal is for us
            )
        except OSError as error:
            raise PlayerError(f"{self._program.name} cannot be started: {error}; {_HOW}") from error

    async def _pass_on(self, audio: bytes) -> None:
        if self._file is not None:
            self._file.write(audio)
            return
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(audio)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            if process is self._process:  # else it was ended by us
                await self._drained(process)

    async def _drained(self, process: asyncio.subprocess.Process) -> None:
        """Wait for its end.

        Raises:
            PlayerError: If it failed.
        """
        assert process.stderr is not None
        if process.stdin is not None:
            process.stdin.close()
        said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
        code = await process.wait()
        if code and process is self._process:
            reason = printable(said[-1].strip()) if said else f"exit code {code}"
            raise PlayerError(f"{self._program.name} cannot play: {reason}; {_HOW}")

    def _drop(self) -> None:
        """End what sounds, at once."""
        if self._process is not None:
            self._dropped.append(self._process)
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None
        if self._file is not None:
            self._file.close()
            self._file = None
