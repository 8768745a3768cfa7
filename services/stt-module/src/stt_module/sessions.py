"""Sessions: one start of each is at work, until it ends, is handed on, or comes to a bad end.

A session is one durable message. Its audio is read from the stream in order, so that any replica can take it up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from handler_base.errors import InvalidRequest
from handler_base.messaging import wire
from handler_messages import STTStreamMessage, STTTranscription
from handler_messages.subjects import VOICE_TRANSCRIPTION

if TYPE_CHECKING:
    from handler_base.clients.speech_to_text import SpeechToText
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.context import Context
    from handler_messages import ErrorResponse
    from stt_module.config import STTModuleSettings

log = logging.getLogger(__name__)

DUPLICATE_WAIT = 2.0
"""How long a second `start` waits for the `end` of the session before it, in seconds."""


class _AtWork(msgspec.Struct):
    """A session at work here."""

    ending: bool = False
    done: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class Sessions:
    """Serves `ai.voice.session.{session_id}`."""

    def __init__(self, connection: Connection, settings: STTModuleSettings, stt: SpeechToText) -> None:
        self._connection = connection
        self._settings = settings
        self._stt = stt
        self._at_work: dict[str, _AtWork] = {}

    async def run(self, context: Context, start: STTStreamMessage) -> None:
        """Work on a session until it ends.

        Raises:
            InvalidRequest: If it is no start of a session.
            MessagingError: If NATS does not take what is written down; the session is taken up again.
            TakenOver: If another replica is at work on it.
        """
        if start.type not in {"", "start"}:
            raise InvalidRequest(f"type is {start.type[:40]!r}; a session begins with `start`")
        session_id = context.session_id
        while (other := self._at_work.get(session_id)) is not None:
            if not await _ends(other):
                log.info("started twice", extra={"request_id": context.request_id})
                return
        at_work = self._at_work[session_id] = _AtWork()
        try:
            await self._run(context, start, at_work)
        finally:
            del self._at_work[session_id]
            at_work.done.set()

    async def failed(self, context: Context, error: ErrorResponse) -> None:
        """Say that a session has come to a bad end."""
        if not context.session_id:
            return
        from stt_module import takeover

        said = STTTranscription(
            session_id=context.session_id, session_end=True, error=error, timestamp=time.time()
        )
        said.sequence = (await takeover.read(self._connection, context)).sequence
        await self._connection.store(
            VOICE_TRANSCRIPTION.build(session_id=context.session_id),
            wire.encode(said, context.kind),
            msg_id=f"{takeover.start_id(context)}.end",
            headers={} if context.kind == wire.PROTOBUF else {wire.HEADER: context.kind},
        )

    async def _run(self, context: Context, start: STTStreamMessage, at_work: _AtWork) -> None:
        # Imported with the first session: start-up and memory are budgets.
        from stt_module import takeover
        from stt_module.listening import listen

        published = takeover.Published()
        if context.attempt > 1:
            await takeover.announce(self._connection, context)
            published = await takeover.read(self._connection, context)
            if published.ended:
                return
            log.info("taken over", extra={"request_id": context.request_id, "attempt": context.attempt})
        async with listen(
            context, start, self._connection, stt=self._stt, settings=self._settings, published=published
        ) as session:
            await session.listen()
            at_work.ending = True
            await session.close()


async def _ends(session: _AtWork) -> bool:
    """Wait for the end of a session at work; False if it goes on."""
    try:
        async with asyncio.timeout(DUPLICATE_WAIT):
            await session.done.wait()
    except TimeoutError:
        if not session.ending:
            return False
        await session.done.wait()
    return True
