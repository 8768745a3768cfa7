"""A recording that is spoken into a session: piece by piece, no faster than somebody hears it."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING

from handler_base.audio import BYTES
from handler_base.messaging import wire
from handler_messages import STTStreamMessage, subjects

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handlers_cli.voice.recording import Recording

PIECE_SECONDS = 0.1
"""Length of a chunk."""

LEAD_SECONDS = 60.0
"""How much audio may be sent that nobody has heard yet: the stream keeps a few minutes only."""

RATE = 16_000
"""Most samples per second that are sent: what recognisers work with."""


class Microphone:
    """Sends the chunks of one session.

    Args:
        connection: Where.
        session_id: The session.
        rate: Samples per second of the recording.
        realtime: Whether to speak as fast as people do; else up to `LEAD_SECONDS` ahead of what was heard.

    Attributes:
        sent: Seconds of audio sent so far.
        closed: Whether nobody listens any more; what is left is not sent.
    """

    def __init__(self, connection: Connection, session_id: str, rate: int, *, realtime: bool) -> None:
        self._connection = connection
        self._session_id = session_id
        self._subject = subjects.VOICE_STREAM.build(session_id=session_id)
        self._lead = 0.0 if realtime else LEAD_SECONDS
        self._began = time.monotonic()
        self._heard = 0.0
        self._news = asyncio.Event()
        self._sequence = 0
        # A session can be gone on with: its chunks of before are not to be taken for these.
        self._run = uuid.uuid4().hex
        self.rate = min(rate, RATE)
        self.sent = 0.0
        self.closed = False

    def heard(self, seconds: float) -> None:
        """Note that so much of the session was written down."""
        if seconds > self._heard:
            self._heard = seconds
            self._news.set()

    async def speak(self, recording: Recording) -> None:
        """Send a recording.

        Raises:
            MessagingError: If a chunk could not be stored.
        """
        self._began = time.monotonic()
        for piece in recording.pieces(PIECE_SECONDS, self.rate):
            await self._turn()
            if self.closed:
                return
            await self._send(STTStreamMessage(type="chunk", audio=piece))
            self.sent += len(piece) / BYTES / self.rate

    async def silence(self) -> None:
        """Send silence as a microphone does when nobody speaks, for ever."""
        piece = bytes(BYTES * round(PIECE_SECONDS * self.rate))
        while True:
            await self._turn()
            await self._send(STTStreamMessage(type="chunk", audio=piece))
            self.sent += PIECE_SECONDS

    async def end(self) -> None:
        """Say that nothing follows."""
        await self._send(STTStreamMessage(type="end"))

    async def _turn(self) -> None:
        """Wait until the next piece may be sent."""
        while True:
            heard = self._heard if self._lead else 0.0
            ahead = self.sent - max(heard, time.monotonic() - self._began) - self._lead
            if ahead <= 0:
                return
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ahead):
                    await self._news.wait()

    async def _send(self, message: STTStreamMessage) -> None:
        message.session_id = self._session_id
        message.sequence = self._sequence
        message.sample_rate = self.rate
        await self._connection.store(
            self._subject, wire.encode(message), msg_id=f"{self._run}-{self._sequence}"
        )
        self._sequence += 1
