"""A session at work: read its stream, pass on what is heard in it, write it down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from handler_base import telemetry
from handler_base.errors import HandlerError, InvalidRequest
from handler_base.messaging import wire
from handler_base.messaging.replay import Replay
from handler_messages import STTInterrupt, STTStreamMessage
from handler_messages.subjects import VOICE_INTERRUPT, VOICE_STREAM
from stt_module.beginning import Beginning
from stt_module.events import Event, Finished, Interrupted, Paused, Resumed, Spoken
from stt_module.hearing import Hearing
from stt_module.takeover import TAKEOVER, TakenOver
from stt_module.writing import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from handler_base.clients.speech_to_text import SpeechToText
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.context import Context
    from handler_base.messaging.replay import Replayed
    from stt_module.config import STTModuleSettings
    from stt_module.takeover import Published

log = logging.getLogger(__name__)

FRESH = 2.0
"""Age from which audio that is read later interrupts nobody, in seconds."""

CATCHING_UP = 1.0
"""How long is waited for a message that the stream has, in seconds, before it is asked for again."""

BREATH = 32
"""Messages that are read at once before others get their turn."""


@contextlib.asynccontextmanager
async def listen(
    context: Context,
    start: STTStreamMessage,
    connection: Connection,
    *,
    stt: SpeechToText,
    settings: STTModuleSettings,
    published: Published,
) -> AsyncGenerator[Session]:
    """Open a session for the length of a block; what it has under way ends with that.

    Args:
        context: Its context.
        start: What started it.
        connection: Where its messages come from, and where transcriptions go.
        stt: Who understands speech.
        settings: How to listen and write.
        published: What is published of it already.
    """
    hearing = Hearing(
        settings.hearing,
        context.session_id,
        began=context.published,
        language=start.language,
        rate=start.sample_rate,
        known=published.speakers,
        first_number=published.first_number,
    )
    beginning = Beginning(context.published)
    subject = VOICE_STREAM.build(session_id=context.session_id)
    try:
        async with (
            Replay(connection, VOICE_STREAM.stream, subject, since=beginning.since) as replay,
            asyncio.TaskGroup() as tasks,
        ):
            writer = Writer(
                context, connection, stt=stt, settings=settings.writing, published=published, tasks=tasks
            )
            yield Session(
                context, connection, hearing=hearing, writer=writer, replay=replay, beginning=beginning
            )
    finally:
        _tell(context, hearing)


def _tell(context: Context, hearing: Hearing) -> None:
    counts = dict(hearing.counts)
    for what, number in counts.items():
        telemetry.count("stt.chunks", number, what=what)
    log.info(
        "session: %s",
        hearing.ended or "handed back",
        extra={"request_id": context.request_id, **{f"chunks_{what}": n for what, n in counts.items()}},
    )


class Session:
    """Reads the messages of a session and passes on what is heard in them."""

    def __init__(
        self,
        context: Context,
        connection: Connection,
        *,
        hearing: Hearing,
        writer: Writer,
        replay: Replay,
        beginning: Beginning,
    ) -> None:
        self._context = context
        self._connection = connection
        self._hearing = hearing
        self._writer = writer
        self._replay = replay
        self._beginning = beginning
        # The time of the stream, and when it was that in the loop's time.
        self._published = context.published
        self._arrived = asyncio.get_running_loop().time()

    async def listen(self) -> None:
        """Listen until the session ends."""
        messages = 0
        resting = True
        while not self._hearing.ended:
            await self._writer.room()
            up_to_date = self._replay.caught_up
            if up_to_date and resting:
                # The time without anybody at work was nobody's silence.
                self._hearing.alive(self._now())
                resting = False
            due = min(self._hearing.due, self._beginning.due)
            try:
                message = await self._replay.next(due - self._now() if up_to_date else CATCHING_UP)
            except TimeoutError:
                if up_to_date:
                    await self._tick()
                continue
            live = up_to_date and not message.pending
            if not message.pending:
                self._published, self._arrived = message.published, asyncio.get_running_loop().time()
            await self._take(message, live=live or time.time() - message.published < FRESH)
            messages += 1
            if messages % BREATH == 0:
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Publish what is left of the session, and its end."""
        hearing, problem = self._hearing, None
        if hearing.problem and not hearing.audio:
            problem = wire.error_response(InvalidRequest(hearing.problem), self._context.request_id)
        await self._writer.close(problem)

    def _now(self) -> float:
        """Return the time of the stream, whose clock may be another one than ours."""
        return self._published + asyncio.get_running_loop().time() - self._arrived

    async def _tick(self) -> None:
        now = self._now()
        if not self._connection.connected:
            self._hearing.alive(now)
        if now >= self._beginning.due:
            await self._begin(followed=False)
        await self._act(self._hearing.advance(now))

    async def _take(self, message: Replayed, *, live: bool) -> None:
        try:
            heard = wire.decode(STTStreamMessage, message.raw.data, wire.content_type(message.raw.headers))
        except HandlerError:
            self._hearing.counts["undecodable"] += 1
            return
        if heard.type == TAKEOVER:
            if heard.sequence > self._context.attempt:
                raise TakenOver("another replica is at work on this session")
            return
        if self._beginning.hold(heard, message.published):
            return
        await self._begin(followed=True)
        await self._act(self._hearing.hear(heard, message.published, live=live))

    async def _begin(self, *, followed: bool) -> None:
        for heard, published in self._beginning.release(followed=followed):
            await self._act(self._hearing.hear(heard, published))

    async def _act(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Interrupted):
                await self._interrupt(event)
            elif isinstance(event, Spoken):
                self._writer.spoken(event.utterance)
            elif isinstance(event, Paused):
                self._writer.paused(event.utterance)
            elif isinstance(event, Resumed):
                self._writer.resumed(event.speaker)
            elif isinstance(event, Finished):
                self._writer.finished(event.utterance)

    async def _interrupt(self, event: Interrupted) -> None:
        session_id = self._context.session_id
        said = STTInterrupt(
            session_id=session_id,
            type="barge_in",
            speaker_id=event.speaker,
            timestamp=time.time(),
            start_ms=event.start_ms,
        )
        telemetry.count("stt.interrupts")
        try:
            await self._context.publish(VOICE_INTERRUPT.build(session_id=session_id), said)
        except HandlerError as error:
            log.warning(
                "an interrupt was not heard: %s", error, extra={"request_id": self._context.request_id}
            )
