"""Bytes ↔ messages by content type: protobuf, protobuf's JSON mapping, MessagePack.

JSON is for people with any NATS client: field names as in the .proto file (camelCase is accepted), bytes in
base64, unknown fields refused so that a typing error is seen. MessagePack is for clients of the older system:
the same names, bytes as bytes, unknown fields ignored as protobuf does.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, TypeVar, cast

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

MAX_DEPTH = 32
"""Deepest nesting of JSON and MessagePack accepted; the contract itself nests three levels."""

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


def content_type(headers: Mapping[str, str] | None) -> str:
    """Return the content type that `headers` ask for: `PROTOBUF`, `JSON` or `MSGPACK`.

    Raises:
        UnsupportedContent: If it is another one.
    """
    if not headers:
        return PROTOBUF
    value = headers.get(HEADER)
    if value is None:
        value = next((v for k, v in headers.items() if k.lower() == "content-type"), "")
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
    fields = _json_fields(cls, data) if kind == JSON else _msgpack_fields(cls, data)
    return _from_fields(cls, fields, lenient=kind == MSGPACK)


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
    return msgspec.msgpack.encode(_plain(message))


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


def _json_fields(cls: type[Message], data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the payload is not JSON: {_reason(error)}") from error
    return _checked(cls, value, "JSON")


def _msgpack_fields(cls: type[Message], data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise InvalidRequest(f"the payload is not MessagePack: {_reason(error)}") from error
    return _checked(cls, value, "MessagePack")


def _checked(cls: type[Message], value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"a {cls.DESCRIPTOR.name} in {what} is an object with named fields")
    return cast("dict[str, Any]", _json_able(cast("object", value), 0))


def _json_able(value: object, depth: int) -> object:
    """Return `value` with bytes as base64 text, as protobuf's JSON mapping writes them."""
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {str(key): _json_able(item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [_json_able(item, depth + 1) for item in cast("list[object]", value)]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise InvalidRequest(f"a value of type {type(value).__name__} has no place in a message")


def _from_fields(cls: type[MessageT], fields: dict[str, Any], *, lenient: bool) -> MessageT:
    from google.protobuf import json_format

    try:
        return json_format.ParseDict(fields, cls(), ignore_unknown_fields=lenient)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InvalidRequest(f"not a {cls.DESCRIPTOR.name}: {_reason(error)}") from error


def _plain(message: Message) -> dict[str, Any]:
    """Return every field by name: bytes as bytes, numbers as numbers, unset fields without presence included."""
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is None:
            fields[field.name] = list(value) if field.is_repeated else value
        elif field.message_type.GetOptions().map_entry:
            fields[field.name] = dict(value)
        elif field.is_repeated:
            fields[field.name] = [_plain(item) for item in value]
        else:
            fields[field.name] = _plain(value)
    return fields


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
