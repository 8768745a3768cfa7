"""What the commands write to: plain text, or colours on a terminal that wants them."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import IO, TYPE_CHECKING, AnyStr, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130


class Terminal:
    """Standard output for results and standard error for everything else.

    Attributes:
        out: Where results go.
        err: Where notices and errors go.
        closed: Whether nobody reads the results any more.
    """

    def __init__(
        self, out: TextIO | None = None, err: TextIO | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.closed = False
        self._environ = os.environ if environ is None else environ
        # See https://no-color.org
        self._colours = not self._environ.get("NO_COLOR") and self._environ.get("TERM") != "dumb"

    def write(self, text: str) -> None:
        """Write a piece of a result, now; what nobody reads any more is dropped."""
        self._put(self.out, text)

    def write_bytes(self, data: bytes) -> None:
        """Write a result that is no text; as `write`."""
        self._put(self.out.buffer, data)

    def aside(self) -> Terminal:
        """Return a terminal for everything that is no result, when the result is no text."""
        return Terminal(self.err, self.err, self._environ)

    @property
    def live(self) -> bool:
        """Whether lines of results can be drawn over."""
        return self.out.isatty() and self._environ.get("TERM") != "dumb"

    def line(self, text: str = "") -> None:
        """Write a line of a result."""
        self.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Write a line that is not the result."""
        self.err.write(f"{text}\n")
        self.err.flush()

    def error(self, text: str, kind: str = "") -> None:
        """Say what went wrong, in red where there are colours."""
        label = self._styled("error", "31;1", self.err)
        self.note(f"{label}: {text}" + (f" ({kind})" if kind else ""))

    def warning(self, text: str) -> None:
        """Say what a person should know."""
        self.note(f"{self._styled('warning', '33', self.err)}: {text}")

    def dim(self, text: str) -> str:
        """Return `text` less bright."""
        return self._styled(text, "2", self.out)

    def bold(self, text: str) -> str:
        """Return `text` bold."""
        return self._styled(text, "1", self.out)

    def green(self, text: str) -> str:
        """Return `text` green."""
        return self._styled(text, "32", self.out)

    def red(self, text: str) -> str:
        """Return `text` red."""
        return self._styled(text, "31", self.out)

    def _put(self, stream: IO[AnyStr], data: AnyStr) -> None:
        if self.closed:
            return
        try:
            stream.write(data)
            stream.flush()
        except BrokenPipeError:  # the reader is gone, as with `| head`
            self.closed = True
            # The interpreter would try to flush it once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.out.fileno())

    def _styled(self, text: str, code: str, stream: TextIO) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and stream.isatty() else text


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.1f} kB" if count < 999_950 else f"{count / 1_000_000:.1f} MB"


# Control characters, broken surrogates, odd line ends; and what would turn the order of the text around.
_NOT_SHOWN = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Return `text` without the characters that could steer a terminal; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _steers(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in _NOT_SHOWN or character in _TURNING
