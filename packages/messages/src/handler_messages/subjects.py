"""Every NATS subject of the contract: what it carries, how it is consumed, how to build and parse it.

The table below is the contract of `docs/architecture.md`; the runtime declares its handlers from it, so a
subject is written down once. Ids become single subject tokens and are refused when they cannot be one.
"""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from handler_messages import messages_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

MAX_TOKEN_BYTES = 128
"""Longest id accepted as a subject token, in UTF-8 bytes. NATS limits the whole control line to 4096 bytes."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# U+FFFD stands for bytes that were not UTF-8.
_FORBIDDEN = re.compile(r"[.*>\s\x00-\x20\x7f\ufffd]")


class SubjectError(ValueError):
    """An id cannot stand in a subject, or a subject does not follow its template.

    Attributes:
        value: The offending id or subject.
    """

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


class Delivery(enum.Enum):
    """How the receiver of a subject consumes it."""

    REQUEST = "request"
    """Request/reply on a queue group: one replica answers on the reply inbox."""
    DURABLE = "durable"
    """JetStream pull consumer: at least once, acknowledged after the result is published."""
    REPLAY = "replay"
    """JetStream ordered consumer: one replica reads a session's messages from the first on."""
    BROADCAST = "broadcast"
    """Core NATS, heard by every replica."""
    PUBLISHED = "published"
    """A result or an event that services publish and clients read."""


def check_token(value: str, name: str = "id") -> str:
    """Return `value` if it can be one subject token.

    Args:
        value: The id.
        name: What to call it in the error.

    Raises:
        SubjectError: If it is empty, too long, or has a dot, wildcard, white space or control character.
    """
    if not value:
        raise SubjectError(f"{name} is empty", value)
    if _FORBIDDEN.search(value):
        raise SubjectError(
            f"{name} {value[:64]!r} cannot be used: dots, '*', '>', spaces and control characters are not allowed",
            value,
        )
    if len(value.encode("utf-8", "surrogatepass")) > MAX_TOKEN_BYTES:
        raise SubjectError(f"{name} is longer than {MAX_TOKEN_BYTES} bytes", value)
    if not value.isprintable():
        raise SubjectError(f"{name} {value[:64]!r} has characters that cannot be printed", value)
    return value


@dataclass(frozen=True, slots=True)
class Subject:
    """One row of the table of subjects.

    Attributes:
        template: The subject with its ids in braces, for instance `ai.chat.user.{user_id}.message`.
        messages: The messages it may carry, the usual one first; empty for an empty payload.
        delivery: How it is consumed.
        stream: The JetStream stream that keeps it, or "" for none.
    """

    template: str
    messages: tuple[type[Message], ...]
    delivery: Delivery
    stream: str = ""
    names: tuple[str, ...] = field(init=False)
    wildcard: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(_PLACEHOLDER.findall(self.template)))
        object.__setattr__(self, "wildcard", _PLACEHOLDER.sub("*", self.template))

    @property
    def slug(self) -> str:
        """Its fixed words as a name: `chat-user-message`. Consumers and endpoints are called after it."""
        return "-".join(word for word in self.template.split(".") if word != "ai" and "{" not in word)

    def build(self, **ids: str) -> str:
        """Fill in the ids.

        Raises:
            SubjectError: If an id is missing, unknown, or cannot be a subject token.
        """
        if set(ids) != set(self.names):
            raise SubjectError(f"{self.template} takes {', '.join(self.names) or 'no id'}", self.template)
        for name, value in ids.items():
            check_token(value, name)
        return self.template.format(**ids)

    def parse(self, subject: str) -> dict[str, str]:
        """Return the ids in `subject` by name.

        Raises:
            SubjectError: If `subject` does not follow the template.
        """
        match = _pattern(self.template).fullmatch(subject)
        if match is None:
            raise SubjectError(f"{subject[:128]!r} does not follow {self.template}", subject)
        ids = match.groupdict()
        for name, value in ids.items():
            check_token(value, name)
        return ids

    def matches(self, subject: str) -> bool:
        """Whether `subject` follows the template."""
        return _pattern(self.template).fullmatch(subject) is not None


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    # Compiled at first use: all of them together take 2 ms of every start.
    return re.compile(
        "".join(
            f"(?P<{part}>[^.]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(_PLACEHOLDER.split(template))
        )
    )


CHAT_REQUEST = Subject("ai.chat.request", (pb.ChatRequest,), Delivery.REQUEST)
CHAT_USER_MESSAGE = Subject(
    "ai.chat.user.{user_id}.message", (pb.ChatRequest,), Delivery.DURABLE, "COMPANIONS_CHAT"
)
CHAT_RESPONSE = Subject(
    "ai.chat.response.{request_id}", (pb.ChatResponse, pb.ErrorResponse), Delivery.PUBLISHED, "AI_RESPONSES"
)
CHAT_RESPONSE_STREAM = Subject(
    "ai.chat.response.stream.{request_id}", (pb.ChatStreamChunk,), Delivery.PUBLISHED, "AI_CHAT_STREAM"
)
CHAT_LOGIN = Subject("ai.chat.user.{user_id}.login", (pb.LoginEvent,), Delivery.DURABLE, "COMPANIONS_LOGINS")
CHAT_GREETING_REQUEST = Subject(
    "ai.chat.user.{user_id}.greeting.request", (pb.GreetingRequest,), Delivery.DURABLE, "COMPANIONS_CHAT"
)
CHAT_GREETING_RESPONSE = Subject(
    "ai.chat.user.{user_id}.greeting.response",
    (pb.GreetingResponse, pb.ErrorResponse),
    Delivery.PUBLISHED,
    "COMPANIONS_CHAT",
)
CHAT_CANCEL = Subject("ai.chat.cancel.{request_id}", (pb.CancelRequest,), Delivery.BROADCAST)

VOICE_USER_REQUEST = Subject(
    "ai.voice.user.{user_id}.request", (pb.VoiceRequest,), Delivery.DURABLE, "AI_VOICE_REQUESTS"
)
VOICE_REQUEST = Subject("voice.request", (pb.VoiceRequest,), Delivery.REQUEST)
VOICE_RESPONSE = Subject(
    "ai.voice.response.{request_id}", (pb.VoiceResponse, pb.ErrorResponse), Delivery.PUBLISHED, "AI_RESPONSES"
)
VOICE_PLAIN_RESPONSE = Subject(
    "voice.response.{request_id}", (pb.VoiceResponse, pb.ErrorResponse), Delivery.PUBLISHED
)
VOICE_RESPONSE_STREAM = Subject(
    "ai.voice.response.stream.{request_id}", (pb.TTSAudioChunk,), Delivery.PUBLISHED
)
VOICE_SESSION = Subject(
    "ai.voice.session.{session_id}", (pb.STTStreamMessage,), Delivery.DURABLE, "AI_VOICE_SESSIONS"
)
VOICE_STREAM = Subject(
    "ai.voice.stream.{session_id}", (pb.STTStreamMessage,), Delivery.REPLAY, "AI_VOICE_STREAM"
)
VOICE_TRANSCRIPTION = Subject(
    "ai.voice.transcription.{session_id}", (pb.STTTranscription,), Delivery.PUBLISHED, "AI_VOICE_STREAM"
)
VOICE_CANCEL = Subject("ai.voice.cancel.{request_id}", (pb.CancelRequest,), Delivery.BROADCAST)
VOICE_INTERRUPT = Subject("ai.voice.interrupt.{session_id}", (pb.STTInterrupt,), Delivery.BROADCAST)

TTS_REQUEST = Subject("ai.voice.tts.request.{session_id}", (pb.TTSRequest,), Delivery.DURABLE, "AI_VOICE_TTS")
TTS_AUDIO = Subject(
    "ai.voice.tts.audio.{session_id}",
    (pb.TTSAudioChunk, pb.TTSFullResponse),
    Delivery.PUBLISHED,
    "AI_VOICE_TTS",
)
TTS_STATUS = Subject("ai.voice.tts.status.{session_id}", (pb.TTSStatus,), Delivery.PUBLISHED, "AI_VOICE_TTS")
TTS_VOICES_LIST = Subject("ai.voice.tts.voices.list", (), Delivery.REQUEST)
TTS_VOICES_REFRESH = Subject("ai.voice.tts.voices.refresh", (), Delivery.REQUEST)

PIPELINE_TRIGGER = Subject("ai.pipeline.trigger", (pb.PipelineTrigger,), Delivery.DURABLE, "AI_PIPELINE")
PIPELINE_STATUS = Subject(
    "ai.pipeline.status.{request_id}", (pb.PipelineStatus,), Delivery.PUBLISHED, "AI_PIPELINE"
)
PIPELINE_CANCEL = Subject(
    "ai.pipeline.cancel.{request_id}", (pb.CancelRequest,), Delivery.DURABLE, "AI_PIPELINE"
)
PIPELINE_LIST = Subject("ai.pipeline.list", (), Delivery.REQUEST)
PIPELINE_RUNS_LIST = Subject("ai.pipeline.runs.list", (pb.PipelineRunListRequest,), Delivery.REQUEST)

DEAD_LETTER = Subject("ai.dlq.{service}", (), Delivery.PUBLISHED, "AI_DLQ")

ALL: tuple[Subject, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Subject))
"""Every subject of the contract."""


def find(subject: str) -> Subject | None:
    """Return the row that `subject` belongs to, or None for a subject outside the contract."""
    return next((row for row in ALL if row.matches(subject)), None)


def check_response_subject(subject: str) -> str:
    """Return `subject` if a client may ask for its answer there.

    A response that lands on a subject which a service consumes would be taken for a request, and one under `$`
    would be a command to the server, so a response may go to any subject outside the contract (an inbox, for
    instance) and to the response subjects of the contract.

    Raises:
        SubjectError: If it is malformed, has wildcards, is the server's own, or is not meant for responses.
    """
    if not subject or len(subject.encode("utf-8", "surrogatepass")) > 512:
        raise SubjectError("response subject is empty or longer than 512 bytes", subject)
    for token in subject.split("."):
        check_token(token, "response subject token")
    first = subject.split(".", 1)[0]
    if first.startswith("$"):
        raise SubjectError(f"response subject {subject!r} belongs to the NATS server", subject)
    if first in {"ai", "voice"}:
        row = find(subject)
        if row is None or row.delivery is not Delivery.PUBLISHED or row is DEAD_LETTER:
            raise SubjectError(f"response subject {subject!r} is not a subject for responses", subject)
    return subject
