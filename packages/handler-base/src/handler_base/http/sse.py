"""Server-sent events out of bytes, incrementally.

Follows the WHATWG HTML standard, section 9.2.6 (https://html.spec.whatwg.org/multipage/server-sent-events.html):
any split of the bytes gives the same events, and an event that the stream does not complete is dropped. Line
ends are ASCII and never part of a longer UTF-8 sequence, so the work is done on bytes and text is decoded only
by those who want text.
"""

from __future__ import annotations

import msgspec

from handler_base.errors import UpstreamProtocol

DEFAULT_LIMIT = 1024 * 1024
"""Largest event in bytes unless told otherwise."""

_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event.

    Attributes:
        data: The data lines, joined by LF; UTF-8 unless the sender is broken.
        event: Its type.
        id: The last id that the stream has set, on this event or before.
    """

    data: bytes
    event: str = "message"
    id: str = ""

    @property
    def text(self) -> str:
        """The data as text; bytes that are not UTF-8 become U+FFFD, as the standard says."""
        return self.data.decode("utf-8", "replace")


class EventParser:
    """Turns pieces of a stream into events.

    Args:
        limit: Largest event in bytes, field names included.

    Attributes:
        retry: Milliseconds the sender asks to wait before a reconnect, or None.
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_failure",
        "_id",
        "_limit",
        "_partial",
        "_size",
        "_start",
        "_type",
        "retry",
    )

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.retry: int | None = None
        self._limit = limit
        self._start: bytes | None = b""  # the first bytes, until they show whether there is a BOM
        self._after_cr = False
        self._partial: list[bytes] = []  # pieces of a line whose end has not come yet
        self._size = 0  # bytes of the event so far, the partial line included
        self._data: list[bytes] = []
        self._type = ""
        self._id = ""
        self._failure: UpstreamProtocol | None = None

    def feed(self, piece: bytes) -> list[Event]:
        """Take the next bytes and return the events that they complete.

        Raises:
            UpstreamProtocol: If an event is over the limit. Events before it were returned by then.
        """
        if self._failure is not None:
            raise self._failure
        if self._start is not None or self._after_cr or b"\r" in piece:
            piece = self._plain(piece)
        lines = piece.split(b"\n")
        rest = lines.pop()
        events: list[Event] = []
        if lines and self._partial:
            self._size -= sum(map(len, self._partial))
            lines[0] = b"".join((*self._partial, lines[0]))
            self._partial.clear()
        for line in lines:
            if not line:
                if self._data:
                    events.append(self._event())
                self._type = ""
                self._size = 0
            elif not self._take(line):
                return self._fail(events)
        if rest:
            self._partial.append(rest)
            self._size += len(rest)
            if self._size > self._limit:
                return self._fail(events)
        return events

    def _plain(self, piece: bytes) -> bytes:
        """Drop a BOM at the start of the stream, and turn CR and CRLF into LF."""
        if self._start is not None:
            piece = self._start + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._start = piece
                return b""
            self._start = None
            piece = piece.removeprefix(_BOM)
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return piece

    def _event(self) -> Event:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        return Event(data, self._type or "message", self._id)

    def _take(self, line: bytes) -> bool:
        """Take a line that is not empty; tell whether the event is within the limit."""
        self._size += len(line)
        if self._size > self._limit:
            return False
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
        elif line.startswith(b":"):
            self._size -= len(line)  # a comment: senders keep idle streams alive with them
        else:
            self._field(line)
        return True

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry = int(value[:9])

    def _fail(self, events: list[Event]) -> list[Event]:
        self._failure = UpstreamProtocol(f"a server-sent event is larger than {self._limit} bytes")
        self._partial.clear()
        if events:
            return events
        raise self._failure

    def close(self) -> None:
        """Tell that the stream has ended.

        Raises:
            UpstreamProtocol: If an event was over the limit.
        """
        if self._failure is not None:
            raise self._failure
