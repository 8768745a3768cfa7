"""Lists as the API of Kubeflow Pipelines gives them: filtered by predicates, sorted by one field, in pages.

Written after what its server does (kubeflow/pipelines, backend/src/apiserver/list and filter), oddities included: it
undoes the escaping of a filter twice, compares text without regard to case as MySQL does, and a token holds what the
list was asked for, so that it fits no other.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Json = dict[str, Any]

DEFAULT_PAGE = 20
MAX_PAGE = 200

_OLDER_NAMES = {"id": "", "name": "display_name"}
_VALUES = ("string_value", "int_value", "long_value", "timestamp_value")
_LISTS = ("string_values", "int_values", "long_values")


class ListRefused(Exception):
    """The list cannot be given as it was asked for."""


class Kind(NamedTuple):
    """What is listed.

    Attributes:
        key: The field with the id.
        fields: What may be sorted and filtered by, besides the key.
    """

    key: str
    fields: frozenset[str]

    def field(self, name: str) -> str:
        """Return the field that `name` stands for, or "" for none."""
        if name == "id":
            return self.key
        if name in {self.key, *self.fields}:
            return name
        return _OLDER_NAMES.get(name, "")


RUNS = Kind(
    "run_id",
    frozenset(
        {
            "display_name",
            "created_at",
            "finished_at",
            "description",
            "scheduled_at",
            "storage_state",
            "experiment_id",
            "state",
            "namespace",
        }
    ),
)
PIPELINES = Kind("pipeline_id", frozenset({"name", "display_name", "created_at", "description", "namespace"}))
VERSIONS = Kind("pipeline_version_id", frozenset({"name", "display_name", "created_at", "description"}))
EXPERIMENTS = Kind(
    "experiment_id", frozenset({"display_name", "created_at", "description", "namespace", "storage_state"})
)


class Page(NamedTuple):
    """A part of a list.

    Attributes:
        items: What is on it.
        total: How many there are on all pages.
        token: What to ask for the next page with; "" after the last.
    """

    items: list[Json]
    total: int
    token: str


def page(kind: Kind, items: Iterable[Json], query: Mapping[str, str], largest: int = MAX_PAGE) -> Page:
    """Return the page that a query asks for.

    Args:
        kind: What the items are.
        items: All of them.
        query: `page_token`, `page_size`, `sort_by`, `filter`.
        largest: Most items of a page, whatever is asked for.

    Raises:
        ListRefused: With the server's words.
    """
    size = int(query.get("page_size") or 0)
    if size < 0:
        raise ListRefused(f"The page size should be greater than 0. Got {size}")
    size = min(size or DEFAULT_PAGE, largest)
    asked = [query.get("sort_by", ""), query.get("filter", "")]
    start: list[Any] | None = None
    if token := query.get("page_token"):
        asked, start = _opened(token, asked)
    field, descending = _sorting(kind, asked[0])
    matches = _predicates(kind, asked[1])

    def place(item: Json) -> list[Any]:
        return [item.get(field, ""), item[kind.key]]

    found = sorted((item for item in items if matches(item)), key=place, reverse=descending)
    total = len(found)
    if start is not None:
        found = [item for item in found if (place(item) <= start if descending else place(item) >= start)]
    rest = found[size:]
    return Page(found[:size], total, _sealed(asked, place(rest[0])) if rest else "")


def _sealed(asked: list[str], start: list[Any]) -> str:
    return base64.b64encode(json.dumps([asked, start]).encode()).decode()


def _opened(token: str, asked: list[str]) -> tuple[list[str], list[Any]]:
    try:
        before, start = json.loads(base64.b64decode(token, validate=True))
    except ValueError as error:
        raise ListRefused("Invalid page token") from error
    if any(asked) and asked != before:
        raise ListRefused("page token does not match the supplied sort by and/or filtering criteria")
    return before, start


def _sorting(kind: Kind, text: str) -> tuple[str, bool]:
    words = text.lower().split()
    if len(words) > 2 or (len(words) == 2 and words[1] not in {"asc", "desc"}):
        raise ListRefused(f"Received invalid sort by format {text!r}")
    field = kind.field(words[0]) if words else "created_at"
    if not field:
        raise ListRefused(f"Invalid sorting field: {words[0]!r}")
    return field, words[1:] == ["desc"]


def _predicates(kind: Kind, text: str) -> Callable[[Json], bool]:
    if not text:
        return lambda _: True
    try:
        asked = json.loads(unquote_plus(text))
        predicates = [_predicate(kind, one) for one in asked.get("predicates", [])]
        if set(asked) - {"predicates"}:
            raise ValueError(f"unknown field in {sorted(asked)}")
    except (ValueError, AttributeError, KeyError) as error:
        raise ListRefused(f"failed to parse valid filter from {text!r}: {error}") from error
    return lambda item: all(predicate(item) for predicate in predicates)


def _predicate(kind: Kind, one: Json) -> Callable[[Json], bool]:
    values = [name for name in (*_VALUES, *_LISTS) if name in one]
    if len(values) != 1 or set(one) != {"operation", "key", values[0]}:
        raise ValueError(f"a predicate has an operation, a key and one value, not {sorted(one)}")
    (name,) = values
    operation: str = one["operation"]
    if (operation == "IN") != (name in _LISTS):
        raise ListRefused(f"cannot use operator {operation} with {name}")
    if operation == "IS_SUBSTRING" and name != "string_value":
        raise ListRefused(f"cannot use non string value type with operator {operation}")
    field = kind.field(one["key"])
    if not field:
        raise ListRefused(f"no support for filtering on unrecognized field {one['key']!r}")
    compare = _OPERATIONS.get(operation)
    if compare is None:
        raise ListRefused(f"invalid predicate operation: {operation}")
    value: Any = one[name]
    wanted = (
        [_comparable(field, each) for each in value["values"]]
        if name in _LISTS
        else _comparable(field, value)
    )
    return lambda item: compare(_comparable(field, item.get(field, "")), wanted)


_OPERATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda has, wanted: has == wanted,
    "NOT_EQUALS": lambda has, wanted: has != wanted,
    "GREATER_THAN": lambda has, wanted: has > wanted,
    "GREATER_THAN_EQUALS": lambda has, wanted: has >= wanted,
    "LESS_THAN": lambda has, wanted: has < wanted,
    "LESS_THAN_EQUALS": lambda has, wanted: has <= wanted,
    "IN": lambda has, wanted: has in wanted,
    "IS_SUBSTRING": lambda has, wanted: wanted in has,
}


def _comparable(field: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if field.endswith("_at"):
        return int(dt.datetime.fromisoformat(value).timestamp()) if value else 0
    return value.casefold()
