"""What a command prints: its end is kept within a limit of bytes, and its last line is for people.

Two files hold it. When the newer is full, it takes the place of the older: so at least half of the limit is there, and
nothing is ever copied.
"""

from __future__ import annotations

import contextlib
import os
import re

NEWER, OLDER = "output", "output.before"

MAX_LINE_CHARS = 200
"""Longest line that is told."""

_LOOKED_AT = 4096
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\^_])")


class Output:
    """Writes what a command prints.

    Output that cannot be written, because the disk is full or gone, is dropped: a run need not fail of that.

    Args:
        folder: Where to.
        limit: Bytes to keep.
    """

    def __init__(self, folder: str, limit: int) -> None:
        self._newer, self._older = os.path.join(folder, NEWER), os.path.join(folder, OLDER)
        self._half = max(1, limit // 2)
        self._size = 0
        self._descriptor = self._open()

    def write(self, data: bytes) -> None:
        """Add some bytes."""
        data = data[-self._half :]
        try:
            if self._size + len(data) > self._half:
                self._turn()
            self._size += os.write(self._descriptor, data)
        except OSError:
            # The next piece turns the files, which makes room on a full disk.
            self._size = self._half

    def close(self) -> None:
        """End it."""
        os.close(self._descriptor)

    def _turn(self) -> None:
        if os.path.exists(self._newer):
            os.replace(self._newer, self._older)
        fresh = self._open()
        os.close(self._descriptor)
        self._descriptor, self._size = fresh, 0

    def _open(self) -> int:
        return os.open(self._newer, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def discard(folder: str) -> None:
    """Remove what was kept."""
    for name in (NEWER, OLDER):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


def changed(folder: str) -> tuple[int, ...]:
    """Return what is different after something was printed."""
    try:
        found = os.stat(os.path.join(folder, NEWER))
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def last_line(folder: str) -> str:
    """Return the last line that is not empty, as text that can be shown; "" if there is none.

    Of a line that a command writes over, as progress bars do, it is what was written last.
    """
    newer = _end_of(os.path.join(folder, NEWER))
    older = _end_of(os.path.join(folder, OLDER)) if len(newer) < _LOOKED_AT else b""
    return line_of(older + newer)


def line_of(data: bytes) -> str:
    """Return the last line of `data` as `last_line` does."""
    text = _ESCAPES.sub("", data.decode(errors="ignore"))
    for line in reversed(re.split(r"[\r\n]", text)):
        shown = " ".join("".join(c if c.isprintable() else " " for c in line).split())
        if shown:
            return shown if len(shown) <= MAX_LINE_CHARS else shown[: MAX_LINE_CHARS - 1] + "…"
    return ""


def _end_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOOKED_AT))
            return file.read(_LOOKED_AT)
    except FileNotFoundError:
        return b""
