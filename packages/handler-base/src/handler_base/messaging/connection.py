"""The one connection of a process to NATS: typed messages and streams on top of `link.py`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
from nats.js.errors import NoStreamResponseError, ServiceUnavailableError

from handler_base.errors import MessagingError, NotFound, TooLarge
from handler_base.messaging import wire
from handler_base.messaging.backoff import Backoff
from handler_base.messaging.client import Client
from handler_base.messaging.link import Link
from handler_base.messaging.reasons import describe
from handler_messages import ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

    from handler_base.messaging.subscription import RawMessage

MessageT = TypeVar("MessageT", bound="Message")

MSG_ID = "Nats-Msg-Id"
"""Header by which JetStream drops a message that it has already stored."""

EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
"""Header by which JetStream refuses a message if another came to its subject since the one of this number."""

ERROR_TYPE = "Error-Type"
"""Header on every `ErrorResponse`, with its type, so that a reader need not guess from the bytes."""

JETSTREAM_TIMEOUT = 5.0
"""Longest wait for an answer of JetStream's API, in seconds."""

_TOO_LARGE_FOR_STREAM = 10054
_NO_MESSAGE = 10037
_STORE_AGAIN = Backoff(0.2, 2.0)
_RECORD_AGAIN = Backoff(0.4, 2.0)

RECORD_TRIES = 5
"""How often `Connection.record` offers a message to its stream."""


class StoredMessage(NamedTuple):
    """A message that a stream keeps."""

    data: bytes
    headers: dict[str, str]
    sequence: int
    subject: str


class Connection(Link):
    """The one connection of a process. `connect()` returns when there is a server, however long it takes."""

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        kind: str = wire.PROTOBUF,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Publish a message in the given content type; see `publish_bytes`."""
        if kind != wire.PROTOBUF:
            headers = {**(headers or {}), wire.HEADER: kind}
        await self.publish_bytes(subject, wire.encode(message, kind), headers, reply)

    async def store(
        self,
        subject: str,
        payload: bytes,
        *,
        msg_id: str,
        headers: Mapping[str, str] | None = None,
        tries: int = 5,
        timeout: float = 3.0,
    ) -> bool:
        """Publish into a stream and wait until it is stored; safe to repeat thanks to `msg_id`.

        Returns:
            False if the stream had a message with this `msg_id` already.

        Raises:
            TooLarge: If it is more than the server takes.
            MessagingError: If it was not acknowledged after `tries`.
        """
        sent = {**(headers or {}), MSG_ID: msg_id}
        problem: MessagingError | None = None
        for attempt in range(tries):
            if attempt:
                await asyncio.sleep(_STORE_AGAIN.wait(attempt))
            try:
                return await self._store_once(subject, payload, sent, timeout)
            except _Refused as error:
                problem = error
                break
            except MessagingError as error:
                problem = error
        raise MessagingError(f"{subject} was not stored: {problem}") from problem

    async def _store_once(
        self, subject: str, payload: bytes, headers: Mapping[str, str], timeout: float
    ) -> bool:
        try:
            reply = await self.request_bytes(subject, payload, timeout=timeout, headers=headers)
            ack = msgspec.json.decode(reply.data, type=_Ack)
        except NotFound as error:
            raise MessagingError(describe(NoStreamResponseError())) from error
        except msgspec.DecodeError as error:
            raise MessagingError("the answer is not from JetStream") from error
        if ack.error is None:
            if not ack.stream:
                raise MessagingError("the answer is not from JetStream")
            return not ack.duplicate
        if ack.error.err_code == _TOO_LARGE_FOR_STREAM:
            raise TooLarge(f"{len(payload)} bytes are more than the stream of {subject} takes")
        raise (MessagingError if ack.error.code >= 500 else _Refused)(ack.error.description)

    async def record(
        self,
        stream: str,
        subject: str,
        payload: bytes,
        *,
        msg_id: str,
        headers: Mapping[str, str] | None = None,
        there: Callable[[StoredMessage], bool] | None = None,
    ) -> bool:
        """Make sure that a message is the newest of its subject in a stream, and heard once.

        Who listens on the subject hears what is published even when the stream drops it as a copy, or is not there
        to store it (a server that stops takes its streams down first). So the stream is asked right before: it has
        no such message, and it answers. What comes into it between our question and our message makes it refuse ours,
        and it is asked again.

        Args:
            stream: The stream that keeps the subject.
            subject: Where.
            payload: What.
            msg_id: What the newest message of the subject has as `Nats-Msg-Id` if it is this one.
            headers: Further headers.
            there: Says of the newest message whether ours need not come any more, instead of by its id.

        Returns:
            False if it was there.

        Raises:
            TooLarge: If it is more than the server takes.
            MessagingError: If it could not be stored.
        """
        problem = MessagingError("not tried")
        for attempt in range(RECORD_TRIES):
            if attempt:
                await asyncio.sleep(_RECORD_AGAIN.wait(attempt))
            try:
                stored = await self.last_stored(stream, subject)
                if stored is not None and (
                    stored.headers.get(MSG_ID) == msg_id if there is None else there(stored)
                ):
                    return attempt > 0
                expected = {EXPECTED_LAST: str(stored.sequence if stored is not None else 0)}
                await self.store(
                    subject, payload, msg_id=msg_id, headers={**(headers or {}), **expected}, tries=1
                )
            except MessagingError as error:
                problem = error
            else:
                return True
        raise problem

    async def last_stored(self, stream: str, subject: str) -> StoredMessage | None:
        """Return the newest message of a stream on a subject, as its leader knows it; None without one.

        Raises:
            MessagingError: If the stream does not answer.
        """
        return await self._stored(stream, {"last_by_subj": subject})

    async def next_stored(self, stream: str, subject: str, sequence: int) -> StoredMessage | None:
        """Return the oldest message on a subject from number `sequence` of the stream on; None without one.

        The subject may have wildcards.

        Raises:
            MessagingError: If the stream does not answer.
        """
        return await self._stored(stream, {"seq": sequence, "next_by_subj": subject})

    async def _stored(self, stream: str, wanted: Mapping[str, str | int]) -> StoredMessage | None:
        try:
            reply = await self.request_bytes(
                f"$JS.API.STREAM.MSG.GET.{stream}",
                msgspec.json.encode(wanted),
                timeout=JETSTREAM_TIMEOUT,
            )
            found = msgspec.json.decode(reply.data, type=_Found)
        except NotFound as error:
            raise MessagingError(
                f"stream {stream} does not answer: {describe(ServiceUnavailableError())}"
            ) from error
        except msgspec.DecodeError as error:
            raise MessagingError(f"stream {stream} answers what is not JetStream's") from error
        if found.message is not None:
            headers = Client.parse_headers(found.message.hdrs)
            headers.pop(EXPECTED_LAST, None)  # was for the stream, and would hold for whoever sends it on
            return StoredMessage(
                found.message.data,
                headers,
                found.message.seq,
                found.message.subject,
            )
        if found.error is not None and found.error.err_code == _NO_MESSAGE:
            return None
        raise MessagingError(
            f"stream {stream} does not answer: {found.error.description if found.error else 'no reason'}"
        )

    async def request(
        self,
        subject: str,
        message: Message,
        answer: type[MessageT],
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> MessageT | ErrorResponse:
        """Send a protobuf request; return the answer, or the `ErrorResponse` that came instead.

        Raises:
            NotFound, MessagingError, TooLarge: As `request_bytes`.
            InvalidRequest: If the answer is neither.
        """
        reply = await self.request_bytes(subject, wire.encode(message), timeout=timeout, headers=headers)
        return decode_answer(reply, answer)


def decode_answer(reply: RawMessage, answer: type[MessageT]) -> MessageT | ErrorResponse:
    """Read an answer that may be an `ErrorResponse` instead.

    The header `Error-Type`, which our services set on every `ErrorResponse`, tells them apart.

    Raises:
        InvalidRequest: If it is neither.
    """
    kind = wire.content_type(reply.headers)
    if reply.headers and ERROR_TYPE in reply.headers:
        return wire.decode(ErrorResponse, reply.data, kind)
    return wire.decode(answer, reply.data, kind)


class _Refused(MessagingError):
    """The stream has decided; asking again does not help."""


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    duplicate: bool = False
    error: _ApiError | None = None


class _Stored(msgspec.Struct):
    seq: int
    subject: str = ""
    data: bytes = b""
    hdrs: bytes = b""


class _Found(msgspec.Struct):
    message: _Stored | None = None
    error: _ApiError | None = None
