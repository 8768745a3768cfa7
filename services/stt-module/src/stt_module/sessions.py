"""A session from its start to its end: listen to its stream, write down what is said, hand on what is left.

A session is one durable message. Its audio is read from the stream in order, so that any replica can take it up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from handler_base import telemetry
from handler_base.errors import HandlerError, InvalidRequest
from handler_base.messaging import wire
from handler_base.messaging.replay import Replay
from handler_messages import STTInterrupt, STTStreamMessage, STTTranscription
from handler_messages.subjects import VOICE_INTERRUPT, VOICE_STREAM, VOICE_TRANSCRIPTION
from stt_module import takeover
from stt_module.beginning import Beginning
from stt_module.events import Event, Finished, Interrupted, Paused, Resumed, Spoken
from stt_module.hearing import Hearing
from stt_module.writing import Writer

if TYPE_CHECKING:
    from handler_base.clients.speech_to_text import SpeechToText
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.context import Context
    from handler_base.messaging.replay import Replayed
    from handler_messages import ErrorResponse
    from stt_module.config import STTModuleSettings

log = logging.getLogger(__name__)

DUPLICATE_WAIT = 2.0
"""How long a second `start` waits for the `end` of the session before it, in seconds."""

FRESH = 2.0
"""Age from which audio that is read later interrupts nobody, in seconds."""

CATCHING_UP = 1.0
"""How long is waited for a message that the stream has, in seconds, before it is asked for again."""

BREATH = 32
"""Messages that are read at once before others get their turn."""


@dataclass(slots=True)
class _AtWork:
    """A session at work here."""

    ending: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)


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
        published = takeover.Published()
        if context.attempt > 1:
            published = await takeover.read(self._connection, context)
            if published.ended:
                return
            log.info("taken over", extra={"request_id": context.request_id, "attempt": context.attempt})
        hearing = Hearing(
            self._settings.hearing,
            context.session_id,
            began=context.published,
            language=start.language,
            rate=start.sample_rate,
            known=published.speakers,
            first_number=published.first_number,
        )
        subject = VOICE_STREAM.build(session_id=context.session_id)
        beginning = Beginning(context.published)
        try:
            async with (
                Replay(self._connection, VOICE_STREAM.stream, subject, since=beginning.since) as replay,
                asyncio.TaskGroup() as tasks,
            ):
                writer = Writer(
                    context,
                    self._connection,
                    stt=self._stt,
                    settings=self._settings.writing,
                    published=published,
                    tasks=tasks,
                )
                listener = _Listener(
                    context,
                    self._connection,
                    hearing=hearing,
                    writer=writer,
                    replay=replay,
                    beginning=beginning,
                )
                await listener.run()
                at_work.ending = True
                problem = None
                if hearing.problem and not hearing.audio:
                    problem = wire.error_response(InvalidRequest(hearing.problem), context.request_id)
                await writer.close(problem)
        finally:
            self._tell(context, hearing)

    def _tell(self, context: Context, hearing: Hearing) -> None:
        counts = dict(hearing.counts)
        for what, number in counts.items():
            telemetry.count("stt.chunks", number, what=what)
        log.info(
            "session: %s",
            hearing.ended or "handed back",
            extra={"request_id": context.request_id, **{f"chunks_{what}": n for what, n in counts.items()}},
        )


class _Listener:
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

    async def run(self) -> None:
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
