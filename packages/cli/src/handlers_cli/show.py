"""How an answer is shown: text for people, JSON for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from handler_base.messaging import wire
from handlers_cli.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from handler_messages import ChatResponse, ChatStreamChunk, DocumentSource, ErrorResponse
    from handlers_cli.terminal import Terminal


class Shower(Protocol):
    """Shows one answer."""

    streaming: bool

    def begin(self, now: float) -> None:
        """The question goes out at `now`, on the monotonic clock."""
        ...

    def chunk(self, chunk: ChatStreamChunk) -> None:
        """A piece came."""
        ...

    def answered(self, response: ChatResponse) -> None:
        """The whole answer came."""
        ...

    def failed(self, error: ErrorResponse) -> None:
        """An error came in place of the answer."""
        ...

    def stop(self) -> None:
        """Nothing more will come; leave the terminal at the start of a line."""
        ...


class Text:
    """Streams the answer, then lists sources, timings and warnings."""

    def __init__(self, terminal: Terminal) -> None:
        self.streaming = False
        self._terminal = terminal
        self._text = ""
        self._attempt = 0
        self._next = 0
        self._started = 0.0
        self._first = 0.0

    def begin(self, now: float) -> None:
        """Start the clock."""
        self._started = now

    def chunk(self, chunk: ChatStreamChunk) -> None:
        """Write the piece; a higher attempt starts the text again, what came before is not shown twice."""
        if chunk.attempt < self._attempt or (chunk.attempt == self._attempt and chunk.index < self._next):
            return
        if chunk.attempt > self._attempt:
            if self._text:
                self._terminal.write("\n")
                self._terminal.note(f"(started again, attempt {chunk.attempt})")
            self._attempt, self._text = chunk.attempt, ""
        self._next = chunk.index + 1
        if chunk.type != "chunk":
            return
        self.streaming = True
        self._first = self._first or time.monotonic()
        self._text += chunk.content
        self._terminal.write(printable(chunk.content))

    def answered(self, response: ChatResponse) -> None:
        """Complete the text and list what it stands on."""
        total = time.monotonic() - self._started
        if response.response.startswith(self._text):
            self._terminal.write(printable(response.response[len(self._text) :]))
        else:  # pieces were lost on the way; the response is whole
            self._terminal.write("\n")
            self._terminal.note("(pieces were lost; the whole answer:)")
            self._terminal.write(printable(response.response))
        self._text = ""
        self._terminal.line()
        for warning in response.warnings:
            self._terminal.warning(printable(warning))
        list_sources(self._terminal, response.sources)
        self._timings(response, total)

    def failed(self, error: ErrorResponse) -> None:
        """Say what went wrong."""
        self.stop()
        self._terminal.error(printable(error.message), error.type)

    def stop(self) -> None:
        """End the line."""
        if self._text:
            self._terminal.line()
            self._text = ""

    def _timings(self, response: ChatResponse, total: float) -> None:
        parts = [f"first token {self._first - self._started:.2f} s"] if self._first else []
        parts.append(f"total {total:.2f} s")
        steps = [
            f"{name} {seconds:.3f}"
            for name, seconds in response.timings.items()
            if name not in {"first_token", "total"}
        ]
        if steps:
            parts.append(f"steps: {', '.join(steps)}")
        if response.completion_tokens:
            parts.append(f"{response.prompt_tokens} + {response.completion_tokens} tokens")
        if response.model:
            parts.append(printable(response.model))
        self._terminal.line(f"\n{self._terminal.dim(' · '.join(parts))}")


class Whole:
    """One JSON object: the ChatResponse, or the ErrorResponse that came instead."""

    def __init__(self, terminal: Terminal) -> None:
        self.streaming = False
        self._terminal = terminal

    def begin(self, now: float) -> None:
        """Nothing to show yet."""

    def chunk(self, chunk: ChatStreamChunk) -> None:
        """Nothing to show: the whole answer follows."""

    def answered(self, response: ChatResponse) -> None:
        """Write the response."""
        self._terminal.line(_json(response))

    def failed(self, error: ErrorResponse) -> None:
        """Write the error to both: as JSON for the program, in words for the person."""
        self._terminal.line(_json(error))
        self._terminal.error(printable(error.message), error.type)

    def stop(self) -> None:
        """Nothing was begun."""


class JsonLines(Whole):
    """One JSON object a line, named by its message: chunks as they come, then the response."""

    def chunk(self, chunk: ChatStreamChunk) -> None:
        """Write the chunk."""
        self.streaming = True
        self._line(chunk)

    def answered(self, response: ChatResponse) -> None:
        """Write the response."""
        self._line(response)

    def failed(self, error: ErrorResponse) -> None:
        """Write the error to both."""
        self._line(error)
        self._terminal.error(printable(error.message), error.type)

    def _line(self, message: Message) -> None:
        self._terminal.line(f'{{"{message.DESCRIPTOR.name}": {_json(message)}}}')


def list_sources(terminal: Terminal, sources: Sequence[DocumentSource]) -> None:
    """List what an answer stands on, if anything."""
    if not sources:
        return
    terminal.line(f"\n{terminal.bold('Sources')}")
    titles = [printable(_title(source)) for source in sources]
    wide = min(60, max(map(len, titles)))
    for number, (source, title) in enumerate(zip(sources, titles, strict=True), 1):
        place = f"  {printable(source.uri)}" if source.uri and source.uri != title else ""
        shown = title if len(title) <= wide else f"{title[: wide - 1]}…"
        terminal.line(f"  [{number}] {shown:<{wide}}  {source.score:.2f}{terminal.dim(place)}")


def _json(message: Message) -> str:
    return wire.encode(message, wire.JSON).decode()


def _title(source: DocumentSource) -> str:
    return source.title or source.uri or source.document_id or "untitled"
