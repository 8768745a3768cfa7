"""Stand-ins for the voice services, and programs that play sound into a file."""

from __future__ import annotations

import asyncio
import io
import os
import stat
from array import array
from typing import TYPE_CHECKING

import pytest

from handler_base.audio import wav
from handler_base.messaging import wire
from handler_base.messaging.streams import ensure_streams
from handler_messages import ErrorResponse, TTSAudioChunk
from handler_testkit.services import Client
from handlers_cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from google.protobuf.message import Message

    from handler_testkit.nats import NatsServer

STREAMS = ("AI_VOICE_TTS", "AI_VOICE_REQUESTS", "AI_VOICE_SESSIONS", "AI_VOICE_STREAM", "AI_RESPONSES")


class Text(io.StringIO):
    """A text stream with bytes below, as standard output has."""

    def __init__(self, *, tty: bool = False) -> None:
        super().__init__()
        self.buffer = io.BytesIO()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


class Recorded(Terminal):
    """A terminal that is two strings."""

    def __init__(self, *, tty: bool = False) -> None:
        super().__init__(Text(tty=tty), Text(), {"NO_COLOR": "1"})

    @property
    def said(self) -> str:
        return self.out.getvalue()

    @property
    def noted(self) -> str:
        return self.err.getvalue()

    @property
    def binary(self) -> bytes:
        return self.out.buffer.getvalue()


class Bus:
    """Stands where the voice services stand and does what a test tells it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Client(url)
        self.tasks: list[asyncio.Future[None]] = []

    async def serve(
        self, subject: str, kind: type[Message], script: Callable[..., Awaitable[Message | None]]
    ) -> list[Message]:
        """Run `script(request)` for each message; what it returns is sent to the reply subject."""
        requests: list[Message] = []

        async def run(reply: str, request: Message) -> None:
            answer = await script(request)
            if answer is not None and reply:
                await self.publish(reply, answer)

        async def serve(message) -> None:
            request = wire.decode(kind, message.data)
            requests.append(request)
            self.tasks.append(asyncio.ensure_future(run(message.reply, request)))

        await self.client.connection.subscribe(subject, serve)
        await self.client.connection.flush()
        return requests

    async def publish(self, subject: str, message: Message, *, named: bool = False) -> None:
        headers = {"Error-Type": message.type} if isinstance(message, ErrorResponse) else {}
        if named:
            headers["Message-Type"] = message.DESCRIPTOR.name
        await self.client.connection.publish(subject, message, headers=headers or None)

    async def chunks(self, subject: str, request_id: str, *pieces: bytes, **fields) -> None:
        """Publish audio in pieces, the last one marked."""
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            chunk = TTSAudioChunk(
                request_id=request_id, chunk_index=index, audio=piece, is_last=last,
                **{"format": "pcm", "sample_rate": 16000, "attempt": 1, **fields},
            )  # fmt: skip
            await self.publish(subject, chunk, named=True)


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = Bus(nats.url)
    async with bus.client:
        await ensure_streams(bus.client.connection.jetstream, STREAMS)
        yield bus
        for task in bus.tasks:
            task.cancel()
        failed = [
            e for e in await asyncio.gather(*bus.tasks, return_exceptions=True) if isinstance(e, Exception)
        ]
        assert not failed


@pytest.fixture
def terminal() -> Recorded:
    return Recorded()


@pytest.fixture
def tty() -> Recorded:
    return Recorded(tty=True)


class Programs:
    """A PATH of our own with programs that keep what they are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, script: str = "") -> None:
        program = self.folder / name
        script = script or 'exec cat >> "$here/played"'
        program.write_text(f'#!/bin/sh\nhere="{self.folder}"\necho "$0 $@" >> "$here/calls"\n{script}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    @property
    def played(self) -> bytes:
        return (self.folder / "played").read_bytes() if (self.folder / "played").exists() else b""

    @property
    def calls(self) -> list[str]:
        if not (self.folder / "calls").exists():
            return []
        lines = (self.folder / "calls").read_text().splitlines()
        return [" ".join([line.split()[0].rpartition("/")[2], *line.split()[1:]]) for line in lines]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """No program of this machine is found, only those that a test adds (and what their scripts need)."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cat", "sleep"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setitem(os.environ, "PATH", str(folder))
    return Programs(folder)


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """A file with one second of something."""
    path = tmp_path / "question.wav"
    path.write_bytes(wav(array("h", [n % 1000 for n in range(16000)]).tobytes(), 16000))
    return path
