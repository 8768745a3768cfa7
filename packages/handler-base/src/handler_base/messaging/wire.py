"""Bytes ↔ messages by content type: protobuf, protobuf's JSON mapping, MessagePack.

JSON is for people with any NATS client: field names as in the .proto file (camelCase is accepted), bytes in
base64, unknown fields refused so that a typing error is seen. MessagePack is for clients of the older system:
the same names, bytes as bytes, unknown fields ignored as protobuf does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from handler_base.errors import INTERNAL, HandlerError, InvalidRequest, UnsupportedContent
from handler_messages import ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

HEADER = "Content-Type"
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MSGPACK = "application/msgpack"

_KNOWN = {
    "": PROTOBUF,
    PROTOBUF: PROTOBUF,
    "application/protobuf": PROTOBUF,
    "application/vnd.google.protobuf": PROTOBUF,
    "application/octet-stream": PROTOBUF,
    JSON: JSON,
    "text/json": JSON,
    MSGPACK: MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
}

MessageT = TypeVar("MessageT", bound="Message")


def header(headers: Mapping[str, str] | None, name: str) -> str | None:
    """Return a header's value, or None. Clients differ in how they write the names of headers: any case counts."""
    if not headers:
        return None
    value = headers.get(name)
    if value is None:
        lower = name.lower()
        value = next((v for k, v in headers.items() if k.lower() == lower), None)
    return value


def content_type(headers: Mapping[str, str] | None) -> str:
    """Return the content type that `headers` ask for: `PROTOBUF`, `JSON` or `MSGPACK`.

    Raises:
        UnsupportedContent: If it is another one.
    """
    value = header(headers, HEADER) or ""
    known = _KNOWN.get(value) or _KNOWN.get(value.split(";", 1)[0].strip().lower())
    if known is None:
        raise UnsupportedContent(
            f"content type {value[:80]!r} is not supported; use {PROTOBUF}, {JSON} or {MSGPACK}"
        )
    return known


def decode(cls: type[MessageT], data: bytes, kind: str = PROTOBUF) -> MessageT:
    """Read one message.

    Args:
        cls: The protobuf class expected.
        data: The payload.
        kind: One of `PROTOBUF`, `JSON`, `MSGPACK`, as `content_type` returns it.

    Raises:
        InvalidRequest: If the bytes are not such a message.
    """
    if kind == PROTOBUF:
        from google.protobuf.message import DecodeError

        try:
            return cls.FromString(data)
        except DecodeError as error:
            raise InvalidRequest(
                f"the payload is not a {cls.DESCRIPTOR.name} in protobuf; "
                f"send header {HEADER}: {JSON} when it is JSON"
            ) from error
    name = "JSON" if kind == JSON else "MessagePack"
    try:
        value: object = msgspec.json.decode(data) if kind == JSON else msgspec.msgpack.decode(data)
    except RecursionError as error:
        raise InvalidRequest(f"the {name} is nested too deeply") from error
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise InvalidRequest(f"the payload is not {name}: {_reason(error)}") from error
    from handler_base.messaging.fields import from_plain

    return from_plain(cls, value, lenient=kind == MSGPACK)


def encode(message: Message, kind: str = PROTOBUF) -> bytes:
    """Write one message in the given content type."""
    if kind == PROTOBUF:
        return message.SerializeToString()
    if kind == JSON:
        from google.protobuf import json_format

        text = json_format.MessageToJson(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            indent=None,
            ensure_ascii=False,
        )
        return text.encode()
    from handler_base.messaging.fields import to_plain

    return msgspec.msgpack.encode(to_plain(message))


def error_response(error: BaseException, request_id: str = "") -> ErrorResponse:
    """Say `error` in the contract's words; what is outside our tree is not shown to the caller."""
    if isinstance(error, HandlerError):
        return ErrorResponse(
            error=True,
            message=error.message,
            type=error.type,
            request_id=request_id,
            retryable=error.retryable,
        )
    return ErrorResponse(
        error=True,
        message="internal error; the service's log has the details under this request id",
        type=INTERNAL,
        request_id=request_id,
    )


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
