"""Where speech goes: to a file, to standard output, or to a program that plays it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from handler_base.audio import wav
from handler_base.errors import HandlerError
from handlers_cli.terminal import size
from handlers_cli.voice.player import Player

if TYPE_CHECKING:
    from handlers_cli.terminal import Terminal

COMPRESSED = {"mp3", "ogg", "opus", "flac", "aac"}
"""Formats that can be asked for by the name of a file."""


class OutputError(HandlerError):
    """The file cannot be written."""

    type = "output"


class Output(Protocol):
    """Takes speech as it comes; to enter with `async with`."""

    async def __aenter__(self) -> Self:
        """Begin."""
        ...

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop."""
        ...

    def write(self, audio: bytes, form: str, rate: int) -> None:
        """Take the next piece: 16 bit PCM at `rate` for `pcm`, else a piece of a file of the format `form`."""
        ...

    def reset(self) -> None:
        """Forget what came; it comes again, or something else in its place."""
        ...

    async def finish(self) -> str:
        """Complete it; return where it went."""
        ...


def output_to(path: str, terminal: Terminal) -> Output:
    """Return the output for `-o`: a player for "", standard output for `-`, else a file.

    Raises:
        PlayerError: If nothing here plays sound.
        OutputError: If audio would go to a terminal, or the folder is not there.
    """
    if not path:
        return Player()
    if path == "-":
        if terminal.out.isatty():
            raise OutputError(
                "-o - writes audio, which is not for a terminal; send it to a file or a program"
            )
    elif not Path(path).absolute().parent.is_dir():
        raise OutputError(f"{Path(path).parent}: there is no such folder")
    return _File(path, terminal)


def wanted_format(path: str) -> str:
    """Return the format that the name of a file asks for; "" for none."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    return suffix if suffix in COMPRESSED else ""


class _File:
    """Keeps what comes and writes it when it is complete, so that the header can say how long it is."""

    def __init__(self, path: str, terminal: Terminal) -> None:
        self._path = path
        self._terminal = terminal
        self._audio = bytearray()
        self._form = ""
        self._rate = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._audio.clear()

    def write(self, audio: bytes, form: str, rate: int) -> None:
        if not self._audio:
            self._form, self._rate = form, rate
        self._audio += audio

    def reset(self) -> None:
        self._audio.clear()

    async def finish(self) -> str:
        data = wav(bytes(self._audio), self._rate) if self._form == "pcm" else bytes(self._audio)
        if self._path == "-":
            self._terminal.write_bytes(data)
            return f"{size(len(data))} to standard output"
        try:
            Path(self._path).write_bytes(data)  # noqa: ASYNC240 - nothing else is left to do
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}") from error
        form = "wav" if self._form == "pcm" else self._form
        if wanted_format(self._path) not in {"", form}:
            return f"{self._path} ({form}, whatever its name says)"
        return self._path
