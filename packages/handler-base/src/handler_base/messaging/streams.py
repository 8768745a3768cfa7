"""The JetStream streams and buckets of the contract: declared once, ensured at start and after a reconnect.

A stream that exists is taken as it is (an operator may have tuned it), except that subjects it lacks are added.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handler_base.errors import MessagingError
from handler_base.messaging.reasons import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

_MINUTE = 60.0
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_MIB = 1024 * 1024
_OVERLAP = 10065


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream with limits retention.

    Attributes:
        name: Its name.
        subjects: What it captures; disjoint from every other stream's.
        max_age: How long a message is kept, in seconds.
        memory: Kept in memory instead of in files.
        max_bytes: Size limit in bytes (the oldest go), -1 for none.
        duplicate_window: How long a `Nats-Msg-Id` is remembered, in seconds.
    """

    name: str
    subjects: tuple[str, ...]
    max_age: float
    memory: bool = False
    max_bytes: int = -1
    duplicate_window: float = 2 * _MINUTE


RESPONSES_MAX_AGE = _HOUR
"""How long a result is kept, and so how long a redelivered request is recognised, in seconds."""

STREAMS: dict[str, Stream] = {
    stream.name: stream
    for stream in (
        Stream("COMPANIONS_LOGINS", ("ai.chat.user.*.login",), 7 * _DAY),
        Stream("COMPANIONS_CHAT", ("ai.chat.user.*.message", "ai.chat.user.*.greeting.*"), 30 * _DAY),
        Stream(
            "AI_CHAT_STREAM", ("ai.chat.response.stream.>",), 5 * _MINUTE, memory=True, max_bytes=64 * _MIB
        ),
        Stream(
            "AI_RESPONSES",
            ("ai.chat.response.*", "ai.voice.response.*"),
            RESPONSES_MAX_AGE,
            duplicate_window=RESPONSES_MAX_AGE,
        ),
        Stream("AI_VOICE_REQUESTS", ("ai.voice.user.*.request",), _HOUR),
        # The work on a session lasts as long as people talk: docs/decisions/0007-voice-sessions.md.
        Stream("AI_VOICE_SESSIONS", ("ai.voice.session.*",), _DAY),
        Stream(
            "AI_VOICE_STREAM",
            ("ai.voice.stream.*", "ai.voice.transcription.*"),
            5 * _MINUTE,
            memory=True,
            max_bytes=128 * _MIB,
        ),
        Stream(
            "AI_VOICE_TTS",
            ("ai.voice.tts.request.*", "ai.voice.tts.audio.*", "ai.voice.tts.status.*"),
            5 * _MINUTE,
            memory=True,
            max_bytes=128 * _MIB,
        ),
        Stream(
            "AI_PIPELINE",
            ("ai.pipeline.trigger", "ai.pipeline.cancel.*", "ai.pipeline.status.*"),
            30 * _DAY,
        ),
        Stream("AI_DLQ", ("ai.dlq.*",), 30 * _DAY),
    )
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """One key-value bucket.

    Attributes:
        name: Its name.
        max_age: How long a value is kept after it was written, in seconds.
        max_value_bytes: Largest value.
    """

    name: str
    max_age: float
    max_value_bytes: int = -1


async def ensure_streams(js: Any, names: Iterable[str]) -> None:
    """Make sure that the named streams exist, all at once.

    Raises:
        MessagingError: If one cannot be made or extended; says of each which and why.
    """
    results = await asyncio.gather(
        *(_ensure_stream(js, STREAMS[name]) for name in names), return_exceptions=True
    )
    problems: list[str] = []
    for result in results:
        if isinstance(result, MessagingError):
            problems.append(result.message)
        elif isinstance(result, BaseException):
            raise result
    if problems:
        raise MessagingError("; ".join(dict.fromkeys(problems)))


async def _ensure_stream(js: Any, stream: Stream) -> None:
    from nats.errors import Error
    from nats.js.errors import APIError, NotFoundError

    wanted = list(stream.subjects)
    try:
        try:
            info: Any = await js.stream_info(stream.name)
        except NotFoundError:
            info = await js.add_stream(_config(stream))
        have: list[str] = list(info.config.subjects or [])
        missing = [subject for subject in stream.subjects if not _covered(subject, have)]
        if missing:
            wanted = [*(subject for subject in have if not _covered(subject, missing)), *missing]
            info.config.subjects = wanted
            await js.update_stream(info.config)
    except APIError as error:
        reason = describe(error)
        if error.err_code == _OVERLAP:
            reason = await _who_has(js, stream.name, wanted) or reason
        raise MessagingError(f"stream {stream.name} cannot be made ready: {reason}") from error
    except Error as error:
        raise MessagingError(f"stream {stream.name} cannot be made ready: {describe(error)}") from error


async def _who_has(js: Any, name: str, subjects: list[str]) -> str:
    """Name the other streams that keep some of `subjects`, and what to do about it."""
    from nats.errors import Error

    others: set[str] = set()
    try:
        for info in await js.streams_info():
            theirs: list[str] = list(info.config.subjects or [])
            if info.config.name != name and any(_overlap(a, b) for a in theirs for b in subjects):
                others.add(f"{info.config.name} ({', '.join(theirs)})")
    except Error:
        return ""
    return (
        f"its subjects are kept by {', '.join(sorted(others))} already; change or delete that stream"
        if others
        else ""
    )


def _config(stream: Stream) -> Any:
    from nats.js import api

    return api.StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        max_age=stream.max_age,
        max_bytes=stream.max_bytes,
        storage=api.StorageType.MEMORY if stream.memory else api.StorageType.FILE,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        duplicate_window=min(stream.duplicate_window, stream.max_age),
        allow_direct=True,
    )


async def ensure_bucket(js: Any, bucket: Bucket) -> Any:
    """Return the named bucket, made if it does not exist.

    Raises:
        MessagingError: If it cannot be made.
    """
    from nats.errors import Error
    from nats.js import api
    from nats.js.errors import BucketNotFoundError

    try:
        try:
            return await js.key_value(bucket.name)
        except BucketNotFoundError:
            return await js.create_key_value(
                api.KeyValueConfig(
                    bucket=bucket.name,
                    ttl=bucket.max_age,
                    max_value_size=bucket.max_value_bytes,
                    history=1,
                    direct=True,
                )
            )
    except Error as error:
        raise MessagingError(f"bucket {bucket.name} cannot be made ready: {describe(error)}") from error


def _covered(subject: str, by: Iterable[str]) -> bool:
    return any(_covers(pattern.split("."), subject.split(".")) for pattern in by)


def _covers(pattern: list[str], subject: list[str]) -> bool:
    for index, token in enumerate(pattern):
        if token == ">":
            return len(subject) > index
        if index >= len(subject) or (token not in {"*", subject[index]}) or subject[index] == ">":
            return False
    return len(pattern) == len(subject)


def _overlap(one: str, other: str) -> bool:
    return _meet(one.split("."), other.split("."))


def _meet(one: list[str], other: list[str]) -> bool:
    for a, b in zip(one, other, strict=False):
        if ">" in {a, b}:
            return True
        if a != b and "*" not in {a, b}:
            return False
    return len(one) == len(other)
