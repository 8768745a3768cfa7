"""`handlers watch`: the traffic of the bus, decoded, one line a message."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from handler_base.errors import HandlerError
from handler_base.messaging import wire
from handler_base.messaging.connection import ERROR_TYPE
from handler_base.messaging.context import MESSAGE_TYPE
from handler_messages import ErrorResponse, subjects
from handlers_cli.exchange import over_nats
from handlers_cli.terminal import printable, size

if TYPE_CHECKING:
    import asyncio

    from google.protobuf.message import Message

    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage
    from handlers_cli.terminal import Terminal

DEFAULT_SUBJECTS = ("ai.>", "voice.>")
_TEXT_LIMIT = 80
_SHOWN_HEADERS = ("Dead-Letter-Reason", ERROR_TYPE)


@dataclass(frozen=True, slots=True)
class Watch:
    """What to watch.

    Attributes:
        subjects: Subjects, wildcards included.
        nats_url: The server, "" for the settings' one.
        full: Whether long texts are shown whole.
        as_json: One JSON object a line in place of text.
        count: Stop after so many messages, 0 for never.
    """

    subjects: tuple[str, ...] = DEFAULT_SUBJECTS
    nats_url: str = ""
    full: bool = False
    as_json: bool = False
    count: int = 0


async def watch(options: Watch, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """Show messages until `interrupt` is set; return the exit code."""
    seen = 0

    async def show(message: RawMessage) -> None:
        nonlocal seen
        if options.count and seen >= options.count:
            return
        seen += 1
        line = _as_json(message, options) if options.as_json else _as_text(message, options, terminal)
        terminal.line(line)
        if seen == options.count or terminal.closed:
            interrupt.set()

    async def run(connection: Connection) -> int:
        for subject in options.subjects:
            await connection.subscribe(subject, show)
        await connection.flush()
        if not options.as_json:
            server = connection.status().server
            terminal.note(f"watching {' '.join(options.subjects)} at {server}; Ctrl-C ends it")
        await interrupt.wait()
        return 0

    return await over_nats(options.nats_url, "handlers-watch", terminal, run)


def _as_text(message: RawMessage, options: Watch, terminal: Terminal) -> str:
    name, kind, fields = describe(message, full=options.full)
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
    form = "" if kind in {"", wire.PROTOBUF} else f" ({kind.rpartition('/')[2]})"
    extra = "".join(f" {key}={value!r}" for key, value in _headers(message).items())
    body = msgspec.json.encode(fields).decode() if fields else ""
    what = f"{terminal.bold(name)}{form} {printable(body)}" if name else f"{size(len(message.data))}{form}"
    return f"{terminal.dim(clock)} {terminal.green(printable(message.subject))} {what}{printable(extra)}"


def _as_json(message: RawMessage, options: Watch) -> str:
    name, kind, fields = describe(message, full=options.full)
    line: dict[str, Any] = {
        "time": time.time(),
        "subject": message.subject,
        "type": name or None,
        "content_type": kind,
        "bytes": len(message.data),
        "fields": fields,
    }
    if headers := _headers(message):
        line["headers"] = headers
    return msgspec.json.encode(line).decode()


def _headers(message: RawMessage) -> dict[str, str]:
    headers = message.headers or {}
    return {name: headers[name] for name in _SHOWN_HEADERS if name in headers}


def describe(message: RawMessage, *, full: bool = False) -> tuple[str, str, dict[str, Any]]:
    """Return a message's type, content type and fields that are set.

    The type is "" when the subject is not of the contract or the bytes are not what it carries. Bytes become their
    size; long texts are cut unless `full`.
    """
    try:
        kind = wire.content_type(message.headers)
    except HandlerError:
        return "", (message.headers or {}).get(wire.HEADER, ""), {}
    found = _decode(message, kind)
    if found is None:
        return "", kind, {}
    return found.DESCRIPTOR.name, kind, _fields(found, full=full)


def _decode(message: RawMessage, kind: str) -> Message | None:
    found: Message | None = None
    for candidate in _candidates(message):
        try:
            found = wire.decode(candidate, message.data, kind)
        except HandlerError:
            continue
        # Protobuf reads nearly anything as nearly anything: a field that is not known gives it away.
        if found.ByteSize() == _known_size(found):
            break
    return found


def _candidates(message: RawMessage) -> tuple[type[Message], ...]:
    """Return what a message can be, by its headers and its subject."""
    if wire.header(message.headers, ERROR_TYPE) is not None:
        return (ErrorResponse,)
    row = subjects.find(message.subject)
    carried = row.messages if row else ()
    name = wire.header(message.headers, MESSAGE_TYPE)
    return tuple(each for each in carried if each.DESCRIPTOR.name == name) or carried


def _known_size(message: Message) -> int:
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known.ByteSize()


def _fields(message: Message, *, full: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            shown[field.name] = {key: _value(item, full=full) for key, item in value.items()}
        elif field.is_repeated:
            shown[field.name] = [_value(item, full=full) for item in value]
        else:
            shown[field.name] = _value(value, full=full)
    return shown


def _value(value: Any, *, full: bool) -> Any:
    if isinstance(value, bytes):
        return f"<{size(len(value))}>"
    if isinstance(value, str):
        return value if full or len(value) <= _TEXT_LIMIT else f"{value[:_TEXT_LIMIT]}…"
    if isinstance(value, float):
        return round(value, 6)
    return _fields(value, full=full) if hasattr(value, "DESCRIPTOR") else value
