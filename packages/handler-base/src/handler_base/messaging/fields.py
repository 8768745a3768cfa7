"""Plain objects ↔ messages, for the content types that carry names: JSON and MessagePack.

Follows protobuf's JSON mapping (https://protobuf.dev/programming-guides/json/) for what the contract uses, which
has no enums and no well-known types. `google.protobuf.json_format` is not used for reading: it drops bad base64
characters silently, and its errors list every field or say what Python thinks.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import functools
import math
import re
import sys
from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.protobuf.descriptor import FieldDescriptor

from handler_base.errors import InvalidRequest

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

MessageT = TypeVar("MessageT", bound="Message")

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_LARGEST: dict[Any, float] = {
    # Half a step above the largest of 32 bits, which is written as 3.4028235e+38.
    FieldDescriptor.CPPTYPE_FLOAT: 3.402823567797336e38,
    FieldDescriptor.CPPTYPE_DOUBLE: sys.float_info.max,
}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_URL_SAFE = str.maketrans("-_", "+/")


def from_plain(cls: type[MessageT], value: object, *, lenient: bool) -> MessageT:
    """Return the message that an object with named fields stands for.

    Args:
        cls: The protobuf class.
        value: What came; field names as in the .proto file or in camelCase, null for a field that is not set.
        lenient: Ignore fields that the message does not have.

    Raises:
        InvalidRequest: If it is not such a message; names the field and never shows its value.
    """
    message = cls()
    _fill(message, value, cls.DESCRIPTOR.name, lenient=lenient)
    return message


def to_plain(message: Message) -> dict[str, Any]:
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
            fields[field.name] = [to_plain(item) for item in value]
        else:
            fields[field.name] = to_plain(value)
    return fields


def _fill(message: Any, value: object, where: str, *, lenient: bool) -> None:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}: expected an object with named fields, got {_kind(value)}")
    names = _names(message.DESCRIPTOR)
    seen: set[str] = set()
    for key, item in cast("dict[object, object]", value).items():
        field = names.get(key)
        if field is None:
            if lenient:
                continue
            raise InvalidRequest(_unknown(where, key, names))
        here = f"{where}.{field.name}"
        if field.name in seen:
            raise InvalidRequest(f"{here} is given twice")
        seen.add(field.name)
        if item is not None:
            _set(message, field, item, here, lenient=lenient)


def _set(message: Any, field: FieldDescriptor, item: object, where: str, *, lenient: bool) -> None:
    inner: Any = field.message_type
    try:
        if inner is not None and inner.GetOptions().map_entry:
            _fill_map(getattr(message, field.name), inner, item, where)
        elif field.is_repeated:
            _fill_list(getattr(message, field.name), field, item, where, lenient=lenient)
        elif inner is not None:
            part: Any = getattr(message, field.name)
            part.SetInParent()
            _fill(part, item, where, lenient=lenient)
        else:
            setattr(message, field.name, _scalar(field, item, where))
    except ValueError as error:  # protobuf's own check of the range
        raise InvalidRequest(f"{where}: the number is out of range") from error


def _fill_map(target: Any, entry: Descriptor, item: object, where: str) -> None:
    if not isinstance(item, dict):
        raise _wrong(where, "an object", item)
    keys, values = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for key, value in cast("dict[object, object]", item).items():
        target[_scalar(keys, key, f"a key of {where}")] = _scalar(values, value, f"a value of {where}")


def _fill_list(target: Any, field: FieldDescriptor, item: object, where: str, *, lenient: bool) -> None:
    if not isinstance(item, list):
        raise _wrong(where, "a list", item)
    for index, value in enumerate(cast("list[object]", item)):
        here = f"{where}[{index}]"
        if field.message_type is None:
            target.append(_scalar(field, value, here))
        else:
            _fill(target.add(), value, here, lenient=lenient)


def _scalar(field: FieldDescriptor, value: object, where: str) -> object:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes(value, where)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _text(value, where)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise _wrong(where, "true or false", value)
        return value
    if kind in _INTEGERS:
        return _integer(value, where)
    return _number(value, where, largest=_LARGEST[kind])


def _text(value: object, where: str) -> str:
    if isinstance(value, bytes):  # older MessagePack encoders do not tell text from bytes
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{where}: the bytes are not text in UTF-8") from error
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    return value


def _bytes(value: object, where: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise _wrong(where, "bytes in base64", value)
    text = value.translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{where}: expected bytes in base64, got other text") from error


def _integer(value: object, where: str) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(where, "a whole number", value)


def _number(value: object, where: str, *, largest: float) -> float:
    if isinstance(value, str):
        if value in _NOT_FINITE:
            return _NOT_FINITE[value]
        if not _NUMBER.fullmatch(value):
            raise _wrong(where, "a number", value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(where, "a number", value)
    elif isinstance(value, float) and not math.isfinite(value):
        return value
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if abs(number) > largest:
        raise InvalidRequest(f"{where}: the number is out of range")
    return number


@functools.cache
def _names(descriptor: Descriptor) -> dict[object, FieldDescriptor]:
    both = {field.json_name: field for field in descriptor.fields}
    return {**both, **descriptor.fields_by_name}


def _unknown(where: str, key: object, names: dict[object, FieldDescriptor]) -> str:
    text = str(key)[:64]
    near = difflib.get_close_matches(text, dict.fromkeys(f.name for f in names.values()), 1)
    return f"{where} has no field {text!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _wrong(where: str, expected: str, value: object) -> InvalidRequest:
    return InvalidRequest(f"{where}: expected {expected}, got {_kind(value)}")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    for types, name in _KINDS:
        if isinstance(value, types):
            return name
    return type(value).__name__


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "text"),
    ((int, float), "a number"),
    (bytes, "bytes"),
    (list, "a list"),
    (dict, "an object"),
)
