"""What a collection in Milvus looks like: the one that we make, and any other that we meet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from handler_base.clients.vectors import ENDPOINT
from handler_base.errors import UpstreamProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VECTOR_TYPE = re.compile(r"FloatVector(?:\((\d+)\))?")

SHOWN: Final = ("text", "title", "uri", "document_id")
"""The fields that a search returns."""

FIELDS: Final[Mapping[str, dict[str, str]]] = {
    "document_id": {"max_length": "512"},
    "content_hash": {"max_length": "256"},
    "source": {"max_length": "8192"},
    "uri": {"max_length": "8192"},
    "title": {"max_length": "8192"},
    "text": {"max_length": "65535"},
}
"""The text fields of a collection that v2 makes, with their limits in bytes."""


class Shape(msgspec.Struct, frozen=True):
    """What a collection looks like.

    Attributes:
        dimension: Length of its vectors.
        vector_field: Name of the field that holds them.
        key_field: Name of the primary key.
        key_is_text: Whether the primary key is text, else an integer.
        auto_id: Whether Milvus makes the primary keys.
        metric: `COSINE`, `IP` or `L2`.
        fields: Names of its fields, or None if it takes any (dynamic fields).
        loaded: Whether it can be searched.
    """

    dimension: int
    vector_field: str
    key_field: str
    key_is_text: bool
    auto_id: bool
    metric: str
    fields: frozenset[str] | None
    loaded: bool

    def outputs(self, wanted: Sequence[str]) -> list[str]:
        """Return those of `wanted` that may be asked for."""
        return [name for name in wanted if self.fields is None or name in self.fields]


class Hit(msgspec.Struct):
    """A row that a search found: a `Passage` whose fields may be missing, and a distance by the metric in use."""

    distance: float
    text: str | None = None
    title: str | None = None
    uri: str | None = None
    document_id: str | None = None


class _Parameter(msgspec.Struct):
    key: str = ""
    value: str | float | None = ""


class _Field(msgspec.Struct, rename="camel"):
    name: str
    type: str
    primary_key: bool = False
    auto_id: bool = False
    params: list[_Parameter] | None = None


class _Index(msgspec.Struct, rename="camel"):
    field_name: str = ""
    metric_type: str = ""


class Description(msgspec.Struct, rename="camel"):
    """The answer of `describe`, in both versions of the API."""

    fields: list[_Field]
    indexes: list[_Index] | None = None
    load: str = ""
    auto_id: bool = False
    enable_dynamic: bool = False
    enable_dynamic_field: bool = False


def shape_of(found: Description, collection: str) -> Shape:
    """Return the shape that a description tells.

    Raises:
        UpstreamProtocol: If there is no field of float vectors.
    """
    key = next((field for field in found.fields if field.primary_key), None)
    for field in found.fields:
        if match := _VECTOR_TYPE.fullmatch(field.type):
            dims = [parameter.value for parameter in field.params or () if parameter.key == "dim"]
            metrics = [index.metric_type for index in found.indexes or () if index.field_name == field.name]
            dynamic = found.enable_dynamic or found.enable_dynamic_field
            if key is None or not (match[1] or dims):
                break
            return Shape(
                dimension=int(match[1] or dims[0] or 0),
                vector_field=field.name,
                key_field=key.name,
                key_is_text=key.type.startswith("VarChar"),
                auto_id=key.auto_id or found.auto_id,
                metric=metrics[0] if metrics else "COSINE",
                fields=None if dynamic else frozenset(field.name for field in found.fields),
                loaded=found.load == "LoadStateLoaded",
            )
    raise UpstreamProtocol(f"collection {collection!r} has no field of float vectors", endpoint=ENDPOINT)
