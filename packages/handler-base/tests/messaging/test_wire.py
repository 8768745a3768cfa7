"""Bytes ↔ messages: round trips in three formats, and no bytes at all that end in anything but a clear refusal."""

from __future__ import annotations

import base64
import json
import math
import time
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings, strategies as st

import handler_messages
from handler_base.errors import (
    Cancelled,
    InvalidRequest,
    MessagingError,
    RequestError,
    TooLarge,
    UnsupportedContent,
)
from handler_base.messaging import wire
from handler_base.messaging.connection import ERROR_TYPE, decode_answer
from handler_messages import (
    ChatRequest,
    ChatResponse,
    ChatStreamChunk,
    DocumentSource,
    ErrorResponse,
    LoginEvent,
    PipelineTrigger,
    VoiceRequest,
)

MESSAGES: list[Any] = [getattr(handler_messages, name) for name in handler_messages.__all__]
KINDS = [wire.PROTOBUF, wire.JSON, wire.MSGPACK]

# Generating is slow at first and on a busy machine; neither is what is tested.
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

message_types = st.sampled_from(MESSAGES)


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Return every value that a scalar field may have."""
    kinds = FieldDescriptor
    if field.type == kinds.TYPE_BYTES:
        return st.binary(max_size=64)
    return {
        kinds.CPPTYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        kinds.CPPTYPE_BOOL: st.booleans(),
        kinds.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        kinds.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        kinds.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False),
        kinds.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
    }[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, cls: Any = None) -> Any:
    """Return a message of any type with any fields set."""
    cls = cls or draw(message_types)
    message = cls()
    for field in cls.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            keys, entries = (values(inner.fields_by_name[name]) for name in ("key", "value"))
            getattr(message, field.name).update(draw(st.dictionaries(keys, entries, max_size=3)))
        elif inner is not None and field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(messages(inner._concrete_class), max_size=3)))
        elif inner is not None:
            getattr(message, field.name).CopyFrom(draw(messages(inner._concrete_class)))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values(field), max_size=3)))
        else:
            setattr(message, field.name, draw(values(field)))
    return message


# -- round trips -----------------------------------------------------------------------------------------------


@given(messages(), st.sampled_from(KINDS))
@RELAXED
def test_what_is_written_is_read_back(message: Any, kind: str) -> None:
    assert wire.decode(type(message), wire.encode(message, kind), kind) == message


@given(messages())
@RELAXED
def test_protobufs_own_json_is_read_in_both_spellings(message: Any) -> None:
    for original_names in (True, False):
        text = json_format.MessageToJson(message, preserving_proto_field_name=original_names)
        assert wire.decode(type(message), text.encode(), wire.JSON) == message


@given(messages())
@RELAXED
def test_our_json_is_read_by_protobuf(message: Any) -> None:
    assert json_format.Parse(wire.encode(message, wire.JSON), type(message)()) == message


@given(messages())
@RELAXED
def test_messagepack_holds_names_and_bytes(message: Any) -> None:
    plain = msgspec.msgpack.decode(wire.encode(message, wire.MSGPACK))
    for field in message.DESCRIPTOR.fields:
        assert (field.name in plain) == (not field.has_presence or message.HasField(field.name))
        if field.type == FieldDescriptor.TYPE_BYTES:
            assert plain[field.name] == getattr(message, field.name)


def test_json_shows_every_field_with_its_name_in_the_proto_file() -> None:
    shown = json.loads(wire.encode(ChatResponse(request_id="r", response="grüße"), wire.JSON))
    assert (shown["request_id"], shown["response"], shown["prompt_tokens"]) == ("r", "grüße", 0)
    assert "grüße".encode() in wire.encode(ChatResponse(response="grüße"), wire.JSON)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_float_of_32_bits_is_read_back(kind: str) -> None:
    source = DocumentSource(score=3.4028234663852886e38)
    assert wire.decode(DocumentSource, wire.encode(source, kind), kind) == source


def test_what_is_unset_and_what_is_false_are_told_apart() -> None:
    for kind in KINDS:
        off = wire.decode(ChatRequest, wire.encode(ChatRequest(enable_rag=False), kind), kind)
        unset = wire.decode(ChatRequest, wire.encode(ChatRequest(), kind), kind)
        assert off.HasField("enable_rag")
        assert not unset.HasField("enable_rag")


@given(messages(), st.sampled_from(KINDS))
@RELAXED
def test_not_a_number_survives(message: Any, kind: str) -> None:
    chunk = ChatStreamChunk(timestamp=math.nan)
    assert math.isnan(wire.decode(ChatStreamChunk, wire.encode(chunk, kind), kind).timestamp)


# -- what may be written by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "fields", "expected"),
    [
        (ChatRequest, {"sessionId": "s", "top_k": 3}, ChatRequest(session_id="s", top_k=3)),
        (ChatRequest, {"session_id": "s", "topK": "3"}, ChatRequest(session_id="s", top_k=3)),
        (ChatRequest, {"top_k": 3.0, "message": None}, ChatRequest(top_k=3)),
        (LoginEvent, {"timestamp": "9223372036854775807"}, LoginEvent(timestamp=2**63 - 1)),
        (ChatStreamChunk, {"timestamp": 1}, ChatStreamChunk(timestamp=1)),
        (ChatStreamChunk, {"timestamp": "-1.5e3"}, ChatStreamChunk(timestamp=-1500)),
        (ChatStreamChunk, {"timestamp": "-Infinity"}, ChatStreamChunk(timestamp=-math.inf)),
        (ChatStreamChunk, {"error": {}}, ChatStreamChunk(error=ErrorResponse())),
        (VoiceRequest, {"audio": "-_8="}, VoiceRequest(audio=b"\xfb\xff")),
        (VoiceRequest, {"audio": "+/8"}, VoiceRequest(audio=b"\xfb\xff")),
        (VoiceRequest, {"audio": ""}, VoiceRequest()),
        (PipelineTrigger, {"parameters": {"a.b": "c"}}, PipelineTrigger(parameters={"a.b": "c"})),
    ],
)
def test_json_as_a_person_may_write_it(cls: Any, fields: dict[str, Any], expected: Any) -> None:
    assert wire.decode(cls, json.dumps(fields).encode(), wire.JSON) == expected


def test_messagepack_as_older_clients_write_it() -> None:
    data = msgspec.msgpack.encode(
        {"message": b"text as bytes", "unknown": {1: [msgspec.msgpack.Ext(5, b"x")]}, 7: 8, "top_k": 2}
    )
    assert wire.decode(ChatRequest, data, wire.MSGPACK) == ChatRequest(message="text as bytes", top_k=2)


# -- what is refused, and how ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "text", "message"),
    [
        (ChatRequest, '{"mesage": "x"}', "ChatRequest has no field 'mesage'; did you mean 'message'?"),
        (ChatRequest, '{"sessionid": "x"}', "ChatRequest has no field 'sessionid'; did you mean 'session_id'?"),
        (ChatRequest, '{"zzz": 1}', "ChatRequest has no field 'zzz'"),
        (ChatResponse, '{"sources": [{}, {"txt": 1}]}', "ChatResponse.sources[1] has no field 'txt'; did you mean 'text'?"),
        (ChatRequest, '{"session_id": "a", "sessionId": "b"}', "ChatRequest.session_id is given twice"),
        (ChatRequest, '{"message": 5}', "ChatRequest.message: expected text, got a number"),
        (ChatRequest, '{"message": ["secret"]}', "ChatRequest.message: expected text, got a list"),
        (ChatRequest, '{"top_k": "secret"}', "ChatRequest.top_k: expected a whole number, got text"),
        (ChatRequest, '{"top_k": 1.5}', "ChatRequest.top_k: expected a whole number, got a number"),
        (ChatRequest, '{"top_k": true}', "ChatRequest.top_k: expected a whole number, got true or false"),
        (ChatRequest, '{"top_k": 2147483648}', "ChatRequest.top_k: the number is out of range"),
        (ChatRequest, '{"top_k": 1' + "0" * 400 + "}", "ChatRequest.top_k: the number is out of range"),
        (LoginEvent, '{"timestamp": "99999999999999999999"}', "LoginEvent.timestamp: the number is out of range"),
        (ChatRequest, '{"enable_rag": "true"}', "ChatRequest.enable_rag: expected true or false, got text"),
        (ChatRequest, '{"enable_rag": 1}', "ChatRequest.enable_rag: expected true or false, got a number"),
        (VoiceRequest, '{"audio": "%%%"}', "VoiceRequest.audio: expected bytes in base64, got other text"),
        (VoiceRequest, '{"audio": "a"}', "VoiceRequest.audio: expected bytes in base64, got other text"),
        (VoiceRequest, '{"audio": "grüße"}', "VoiceRequest.audio: expected bytes in base64, got other text"),
        (VoiceRequest, '{"audio": [1, 2]}', "VoiceRequest.audio: expected bytes in base64, got a list"),
        (ChatResponse, '{"sources": {}}', "ChatResponse.sources: expected a list, got an object"),
        (ChatResponse, '{"sources": [null]}', "ChatResponse.sources[0]: expected an object with named fields, got null"),
        (ChatResponse, '{"warnings": ["a", 1]}', "ChatResponse.warnings[1]: expected text, got a number"),
        (ChatResponse, '{"timings": []}', "ChatResponse.timings: expected an object, got a list"),
        (ChatResponse, '{"timings": {"a": "x"}}', "a value of ChatResponse.timings: expected a number, got text"),
        (ChatResponse, '{"sources": [{"score": 1e39}]}', "ChatResponse.sources[0].score: the number is out of range"),
        (ChatStreamChunk, '{"timestamp": "1_0"}', "ChatStreamChunk.timestamp: expected a number, got text"),
        (ChatStreamChunk, '{"timestamp": "1e999"}', "ChatStreamChunk.timestamp: the number is out of range"),
        (ChatStreamChunk, '{"timestamp": false}', "ChatStreamChunk.timestamp: expected a number, got true or false"),
        (ChatStreamChunk, '{"timestamp": 1' + "0" * 400 + "}", "ChatStreamChunk.timestamp: the number is out of range"),
        (ChatStreamChunk, '{"error": 5}', "ChatStreamChunk.error: expected an object with named fields, got a number"),
        (ChatRequest, "[]", "ChatRequest: expected an object with named fields, got a list"),
        (ChatRequest, '"text"', "ChatRequest: expected an object with named fields, got text"),
        (ChatRequest, "null", "ChatRequest: expected an object with named fields, got null"),
        (ChatRequest, "true", "ChatRequest: expected an object with named fields, got true or false"),
    ],
)  # fmt: skip
def test_the_reason_names_the_field_and_never_shows_its_value(cls: Any, text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.decode(cls, text.encode(), wire.JSON)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", '{"message": NaN}', '{"top_k": 1e400}', "{}{}", "\ufeff{}", '{"message": "\\ud800"}', '{"message": "\\ud800x"}',
     '{"top_k": ' + "1" * 10_000 + "}", '{"a": "\x00"}'],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.decode(ChatRequest, text.encode(), wire.JSON)
    assert len(caught.value.message) < 300


def test_the_last_of_equal_keys_counts() -> None:
    assert wire.decode(ChatRequest, b'{"message": "a", "message": "b"}', wire.JSON).message == "b"


def test_a_name_from_outside_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.decode(ChatRequest, json.dumps({"x" * 100_000: 1}).encode(), wire.JSON)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"message": b"\xff"}, "ChatRequest.message: the bytes are not text in UTF-8"),
        ({"top_k": msgspec.msgpack.Ext(5, b"")}, "ChatRequest.top_k: expected a whole number, got Ext"),
        ({"top_k": b"1"}, "ChatRequest.top_k: expected a whole number, got bytes"),
        ({"top_k": math.inf}, "ChatRequest.top_k: expected a whole number, got a number"),
    ],
)
def test_messagepack_that_fits_no_field_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.decode(ChatRequest, msgspec.msgpack.encode(fields), wire.MSGPACK)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (wire.JSON, b"[" * 100_000),
        (wire.JSON, b'{"a":' * 100_000),
        (wire.JSON, b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        (wire.MSGPACK, b"\x91" * 100_000),
        (wire.MSGPACK, b"\x81\xa1a" * 100_000),
        (wire.MSGPACK, b"\xdd\xff\xff\xff\xff" * 1000),
        (wire.MSGPACK, b"\xdf\xff\xff\xff\xff"),
        (wire.MSGPACK, b"\xc6\xff\xff\xff\xff"),
    ],
)
def test_deep_nesting_and_large_claims_are_refused_at_once(kind: str, data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest):
        wire.decode(ChatRequest, data, kind)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("depth", [30, 300, 900])
def test_nesting_that_the_parser_takes_has_no_place_in_a_field(depth: int) -> None:
    data = b'{"message":' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(InvalidRequest, match=r"ChatRequest\.message: expected text, got a list"):
        wire.decode(ChatRequest, data, wire.JSON)


def test_bytes_that_are_no_protobuf_are_refused_with_a_hint() -> None:
    with pytest.raises(
        InvalidRequest, match="not a ChatRequest in protobuf; send header Content-Type: application/json"
    ):
        wire.decode(ChatRequest, b'{"message": "hello"}')


# -- any bytes at all ------------------------------------------------------------------------------------------

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(cls: Any, data: bytes, kind: str) -> Any:
    """Return the message, or None when it was refused in few words."""
    try:
        return wire.decode(cls, data, kind)
    except RequestError as refused:
        if len(refused.message) > 400:
            raise AssertionError(refused.message) from refused
        return None


@given(message_types, st.sampled_from(KINDS), st.binary(max_size=200))
@settings(RELAXED, max_examples=400)
def test_arbitrary_bytes_give_a_message_or_a_request_error(cls: Any, kind: str, data: bytes) -> None:
    message = read(cls, data, kind)
    if message is not None:
        wire.encode(message, wire.JSON)


@given(st.data())
@settings(RELAXED, max_examples=400)
def test_broken_messages_give_a_message_or_a_request_error(data: st.DataObject) -> None:
    message, kind = data.draw(messages()), data.draw(st.sampled_from(KINDS))
    good = bytearray(wire.encode(message, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        if good:
            good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    read(type(message), bytes(good[: data.draw(st.integers(0, len(good)))]), kind)


@given(st.data())
@settings(RELAXED, max_examples=300)
def test_wrong_types_in_known_fields_give_a_message_or_a_request_error(data: st.DataObject) -> None:
    cls = data.draw(message_types)
    names = [f.name for f in cls.DESCRIPTOR.fields] + [f.json_name for f in cls.DESCRIPTOR.fields]
    fields = data.draw(st.dictionaries(st.sampled_from(names), json_values, max_size=4))
    for kind, write in ((wire.JSON, json.dumps(fields).encode), (wire.MSGPACK, lambda: _packed(fields))):
        payload = write()
        if payload is None:
            continue
        read(cls, payload, kind)


def _packed(value: Any) -> bytes | None:
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        return None  # MessagePack has no such integer


# -- content types ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        (None, wire.PROTOBUF),
        ({}, wire.PROTOBUF),
        ({"Other": "x"}, wire.PROTOBUF),
        ({"Content-Type": ""}, wire.PROTOBUF),
        ({"Content-Type": "application/x-protobuf"}, wire.PROTOBUF),
        ({"Content-Type": "application/json"}, wire.JSON),
        ({"content-type": "Application/JSON; charset=utf-8"}, wire.JSON),
        ({"CONTENT-TYPE": "application/x-msgpack"}, wire.MSGPACK),
    ],
)
def test_content_types(headers: dict[str, str] | None, kind: str) -> None:
    assert wire.content_type(headers) == kind


@given(st.text())
@RELAXED
def test_any_content_type_is_known_or_refused(value: str) -> None:
    try:
        kind = wire.content_type({"Content-Type": value})
    except UnsupportedContent as error:
        kind = wire.JSON if wire.JSON in error.message and len(error.message) < 500 else ""
    assert kind in KINDS


# -- errors ----------------------------------------------------------------------------------------------------


def test_errors_of_the_tree_are_told_and_others_are_not() -> None:
    known = wire.error_response(MessagingError("NATS is away"), "r1")
    assert known == ErrorResponse(
        error=True, message="NATS is away", type="messaging", request_id="r1", retryable=True
    )
    assert not wire.error_response(TooLarge("x")).retryable
    assert wire.error_response(Cancelled("x")).type == "cancelled"
    bug = wire.error_response(ZeroDivisionError("a secret of ours"), "r1")
    assert bug.type == "internal"
    assert "secret" not in bug.message


class Reply:
    subject = reply = ""

    def __init__(self, data: bytes, headers: dict[str, str] | None) -> None:
        self.data, self.headers = data, headers


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_told_from_an_error(kind: str) -> None:
    headers = {wire.HEADER: kind}
    answer = ChatResponse(response="hello")
    assert decode_answer(Reply(wire.encode(answer, kind), headers), ChatResponse) == answer
    error = ErrorResponse(error=True, message="no", type="forbidden")
    reply = Reply(wire.encode(error, kind), {**headers, ERROR_TYPE: "forbidden"})
    assert decode_answer(reply, ChatResponse) == error
    with pytest.raises(RequestError):
        decode_answer(Reply(b"\xff\xff", headers), ChatResponse)


def test_base64_is_as_protobuf_writes_it() -> None:
    audio = bytes(range(256))
    shown = json.loads(wire.encode(VoiceRequest(audio=audio), wire.JSON))
    assert base64.b64decode(shown["audio"]) == audio
