"""What is published of a session already: whoever takes it over goes on behind that."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import msgspec

from handler_base.errors import HandlerError, MessagingError
from handler_base.messaging import wire
from handler_base.messaging.connection import MSG_ID
from handler_base.messaging.replay import Replay
from handler_base.messaging.streams import STREAMS
from handler_messages import STTStreamMessage, STTTranscription
from handler_messages.subjects import VOICE_STREAM, VOICE_TRANSCRIPTION
from stt_module.events import Checkpoint
from stt_module.hearing import Resume

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.context import Context

log = logging.getLogger(__name__)

TAKEOVER = "takeover"
"""Type of the message in a session's stream by which a replica says that it is at work now; `sequence` is its attempt."""

PER_SECOND = 16
"""More transcriptions than a session publishes in a second."""


class TakenOver(MessagingError):
    """Another replica is at work on a session: we were not heard of for too long."""

    # What we say of the message now must not count before the other replica says that it is alive.
    retry_after = 15.0


class Published(msgspec.Struct):
    """What is published of a session.

    Attributes:
        sequence: Of the next transcription.
        first_number: Of the first utterance of somebody of whom nothing is known.
        speakers: Where those go on of whom something is.
        ended: Whether its end is.
    """

    sequence: int = 0
    first_number: int = 0
    speakers: dict[str, Resume] = msgspec.field(default_factory=dict[str, Resume])
    ended: bool = False


def start_id(context: Context) -> str:
    """Return what the transcriptions of one start of a session are known by; an id may be used again."""
    return f"{context.session_id}.{context.request_id}.{context.published:.6f}"


async def announce(connection: Connection, context: Context) -> None:
    """Say that this replica is at work now; one that only seemed to be gone stops when it hears it."""
    await connection.publish(
        VOICE_STREAM.build(session_id=context.session_id),
        STTStreamMessage(session_id=context.session_id, type=TAKEOVER, sequence=context.attempt),
    )


async def read(connection: Connection, context: Context) -> Published:
    """Read what is published of a session.

    Raises:
        MessagingError: If the stream cannot be read.
    """
    found = Published()
    subject = VOICE_TRANSCRIPTION.build(session_id=context.session_id)
    ours = f"{start_id(context)}."
    async with Replay(connection, VOICE_TRANSCRIPTION.stream, subject, since=context.published) as replay:
        for message in await replay.history():
            headers = message.raw.headers or {}
            try:
                said = wire.decode(STTTranscription, message.raw.data, wire.content_type(headers))
            except HandlerError:
                log.warning("a transcription cannot be read", extra={"subject": subject})
                continue
            found.sequence = max(found.sequence, said.sequence + 1)
            if not headers.get(MSG_ID, "").startswith(ours):
                continue
            found.ended = found.ended or said.session_end
            if said.is_final:
                at = said.checkpoint
                checkpoint = Checkpoint(at.sequence, at.sample, at.position, at.sample_rate or 1)
                found.speakers[said.speaker_id] = Resume(said.utterance + 1, checkpoint, message.published)
    age = time.time() - context.published
    if age > STREAMS[VOICE_TRANSCRIPTION.stream].max_age:
        # The first ones are gone: go on above whatever they were.
        found.first_number = int(age)
        if not found.sequence:
            found.sequence = int(age * PER_SECOND)
    return found
