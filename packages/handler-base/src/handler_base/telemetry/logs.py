"""Logs as JSON lines on standard output, or readable lines on a terminal.

A line holds `time` (ISO 8601, UTC), `level`, `logger`, `message`, `service`, the fields given as `extra`, the
`exception` with its trace as one text, and `trace_id` and `span_id` when a span is current. By convention no
line holds what people wrote or said: log ids, sizes and counts.

Standard output, because a container's log is what it prints; nothing else of a service prints there.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec

from handler_base import telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_OURS = frozenset({"time", "level", "logger", "message", "service", "trace_id", "span_id", "exception"})
# A log on a terminal must not be able to move the cursor or forge a line.
_CONTROL: Mapping[int, str] = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}


def configure(level: str, format: str, service: str, stream: IO[str] | None = None) -> None:  # noqa: A002
    """Send all logs of this process to one handler; a second call replaces it.

    Args:
        level: Lowest level that is logged, for instance `info`.
        format: `json`, `console`, or `auto`: console if the stream is a terminal.
        service: Goes into every JSON line.
        stream: Instead of standard output.
    """
    stream = cast("IO[str]", stream or sys.stdout)
    terminal = stream.isatty()
    handler = _Handler(stream)
    if format == "console" or (format == "auto" and terminal):
        handler.setFormatter(ConsoleFormatter(colour=terminal))
    else:
        handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that the caller gave as `extra`; one that would hide a field of ours gets a `_` behind."""
    return {
        f"{key}_" if key in _OURS else key: value
        for key, value in record.__dict__.items()
        if key not in _STANDARD
    }


class JsonFormatter(logging.Formatter):
    """One JSON object per record; a value that JSON does not know becomes text."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        line: dict[str, Any] = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "service": self._service,
        }
        if (ids := telemetry.current_ids()) is not None:
            line["trace_id"], line["span_id"] = ids
        line.update(extras(record))
        if text := _exception(self, record):
            line["exception"] = text
        try:
            return self._encode(line).decode()
        except (TypeError, ValueError, RecursionError):
            # Half a surrogate pair, keys that are no text, a structure that contains itself.
            return self._encode({_text(key): _text(value) for key, value in line.items()}).decode()


class ConsoleFormatter(logging.Formatter):
    """`12:30:01.123 WARNING chat_handler.answer: retrieval is down endpoint=milvus`."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the exception on lines of its own."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = "".join(f" {key}={_text(value)}" for key, value in extras(record).items())
        line = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {record.name}: {record.getMessage()}{fields}"
        line = line.translate(_CONTROL)
        if self._colour and (colour := _COLOURS.get(record.levelname)):
            line = f"{colour}{line}\x1b[0m"
        if text := _exception(self, record):
            line += "\n" + "\n".join(part.translate(_CONTROL) for part in text.splitlines())
        return line


class _Handler(logging.StreamHandler[IO[str]]):
    """A stream handler that `configure` knows as its own."""


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[1] else ""
    return f"{text}\n{record.stack_info}" if record.stack_info else text


def _iso(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{stamp}.{milliseconds % 1000:03d}Z"


def _text(value: object) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()
