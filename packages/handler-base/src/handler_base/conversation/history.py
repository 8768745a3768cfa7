"""What was said before: one value per user and session in a key-value bucket, bounded in turns, bytes and age."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from handler_base.config import Settings, env
from handler_base.errors import MessagingError, TooLarge
from handler_base.messaging.keyvalue import Conflict, key_of
from handler_base.messaging.streams import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from handler_base.messaging.keyvalue import KeyValue

_CONFLICT_TRIES = 12
_CONFLICT_WAIT = 0.001
_CONFLICT_WAIT_MAX = 0.1


class HistorySettings(Settings, frozen=True, kw_only=True):
    """How much of a conversation is kept."""

    bucket: Annotated[str, env("HISTORY_BUCKET", help="key-value bucket of the conversations")] = (
        "chat-sessions"
    )
    turns: Annotated[int, env("HISTORY_TURNS", help="most turns kept; 0 keeps none", ge=0)] = 20
    max_bytes: Annotated[int, env("HISTORY_BYTES", help="most bytes kept per session", ge=0)] = 65536
    max_age: Annotated[
        float, env("HISTORY_MAX_AGE", help="seconds a session is kept after its last turn", ge=1)
    ] = 7 * 24 * 3600.0

    @property
    def as_bucket(self) -> Bucket:
        """The bucket to keep conversations in."""
        return Bucket(self.bucket, self.max_age)


class Turn(msgspec.Struct, frozen=True):
    """One question and its answer.

    Attributes:
        request_id: The request that made it; a repeated request replaces its turn.
        question: What the person said.
        answer: What was answered, or heard of it.
        at: Unix time in seconds.
        interrupted: Whether the answer was cut short.
    """

    request_id: str
    question: str
    answer: str
    at: float
    interrupted: bool = False


class History:
    """The conversations of all users. A session belongs to its user: nobody reads another's by its id."""

    def __init__(
        self, values: KeyValue, settings: HistorySettings, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._wall_clock = wall_clock
        self._values = values

    async def load(self, user_id: str, session_id: str) -> list[Turn]:
        """Return the turns of a session, oldest first; none for a new one.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        if not self._settings.turns:
            return []
        value = await self._values.get(_key(user_id, session_id))
        return _decode(value.data) if value is not None else []

    async def append(
        self,
        user_id: str,
        session_id: str,
        *,
        request_id: str,
        question: str,
        answer: str,
        interrupted: bool = False,
    ) -> None:
        """Add a turn, or replace the one that the same request made; the oldest go over the limits.

        Raises:
            MessagingError: If it could not be written.
        """
        if not self._settings.turns:
            return
        key = _key(user_id, session_id)
        turn = Turn(request_id, question, answer, self._wall_clock(), interrupted)
        for attempt in range(_CONFLICT_TRIES):
            if attempt:  # another turn of this session at once: read what it wrote, not all at the same time
                await asyncio.sleep(random.uniform(0, min(_CONFLICT_WAIT_MAX, _CONFLICT_WAIT * 2**attempt)))
            value = await self._values.get(key)
            turns = (
                [t for t in _decode(value.data) if t.request_id != request_id] if value is not None else []
            )
            data = self._trimmed([*turns, turn])
            try:
                await self._values.put(key, data, value.revision if value is not None else 0)
            except Conflict:
                continue
            except TooLarge as error:
                raise MessagingError(f"{error}; lower HISTORY_BYTES") from error
            return
        raise MessagingError("the conversation changes too fast to be written")

    def _trimmed(self, turns: Sequence[Turn]) -> bytes:
        kept = list(turns[-self._settings.turns :])
        data = _encoder.encode(kept)
        while len(data) > self._settings.max_bytes and len(kept) > 1:
            kept = kept[1:]
            data = _encoder.encode(kept)
        if len(data) > self._settings.max_bytes:
            last, room = kept[0], self._settings.max_bytes // 4
            short = msgspec.structs.replace(last, question=last.question[:room], answer=last.answer[:room])
            data = _encoder.encode([short])
            if len(data) > self._settings.max_bytes:
                data = _encoder.encode([])
        return data


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Turn])


def _decode(data: bytes) -> list[Turn]:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []  # deleted, or written by something else: the conversation starts anew


def _key(user_id: str, session_id: str) -> str:
    return key_of("session", user_id, session_id)
