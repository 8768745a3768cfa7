"""Milvus' REST API in its two versions, reduced to what the store needs.

v1 (`/v1/vector/...`) came with Milvus 2.2.9, v2 (`/v2/vectordb/...`) with 2.4. Both answer HTTP 200 to almost
everything and put what went wrong into `code` and `message`; the codes are those of Milvus' `merr` package.
Sources: https://milvus.io/api-reference/restful/v2.3.x/About.md and .../v2.4.x/About.md.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from handler_base.clients.vectors import ENDPOINT
from handler_base.clients.vectors._milvus_schema import FIELDS, SHOWN, Description, Hit, Shape, shape_of
from handler_base.errors import (
    NotFound,
    UpstreamError,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from handler_base.http import Endpoint

T = TypeVar("T")

_SUCCESS = {0, 200}
_COLLECTION_NOT_FOUND = 100
_DATABASE_NOT_FOUND = 800
_NOT_AUTHENTICATED = {1400, 1401, 1800}
_TIMED_OUT = {10000, 10001}
# Not ready, unavailable, too many requests, rate limit, resources, not (fully) loaded, recovering, REST limiter.
_RETRYABLE = {1, 2, 4, 8, 12, 101, 103, 106, 1807}

Row = dict[str, Any]
"""One entity: names of fields and JSON values."""


class _Answer(msgspec.Struct):
    code: int = 0
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class Rest(Protocol):
    """One version of the API. Every method may raise UpstreamError, or NotFound for what is not there."""

    version: Literal["v1", "v2"]
    upserts: bool

    async def collections(self) -> list[str]:
        """Return the names of the collections."""
        ...

    async def describe(self, collection: str) -> Shape:
        """Return what a collection looks like."""
        ...

    async def create(self, collection: str, dimension: int, timeout: float) -> None:
        """Make a collection for cosine similarity and begin to load it."""
        ...

    async def load(self, collection: str, timeout: float) -> None:
        """Begin to load a collection that was released."""
        ...

    async def search(self, collection: str, shape: Shape, vector: Sequence[float], limit: int) -> list[Hit]:
        """Return the nearest rows, best first."""
        ...

    async def query(
        self,
        collection: str,
        where: str,
        limit: int,
        fields: Sequence[str],
        kind: type[T],
    ) -> T:
        """Return rows that match a filter, in no order."""
        ...

    async def write(self, collection: str, rows: Sequence[Row], *, upsert: bool, timeout: float) -> None:
        """Insert rows, or put them in the place of those with the same key."""
        ...

    async def delete(self, collection: str, shape: Shape, keys: Sequence[str], timeout: float) -> None:
        """Delete rows by primary key."""
        ...


class _Caller:
    """Sends requests and reads answers; what both versions have in common."""

    def __init__(self, endpoint: Endpoint, database: str) -> None:
        self._endpoint = endpoint
        self._database = {"dbName": database} if database else {}

    async def _get(self, path: str, kind: type[T], **params: str) -> T:
        with _token_refused():
            response = await self._endpoint.request(
                "GET", path, params={**self._database, **params}, idempotent=True
            )
        return _decoded(_data(response.content), kind)

    async def _ask(self, path: str, kind: type[T], body: Row) -> T:
        return _decoded(await self._post(path, body, repeatable=True, timeout=None), kind)

    async def _tell(self, path: str, body: Row, timeout: float, *, repeatable: bool = True) -> None:
        await self._post(path, body, repeatable=repeatable, timeout=timeout)

    async def _post(self, path: str, body: Row, *, repeatable: bool, timeout: float | None) -> msgspec.Raw:
        with _token_refused():
            response = await self._endpoint.request(
                "POST",
                path,
                content=msgspec.json.encode({**self._database, **body}),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                idempotent=repeatable,
                timeout=timeout,
            )
        return _data(response.content)


class RestV1(_Caller):
    """`/v1/vector`: collections that it makes have integer keys made by Milvus, so it cannot upsert."""

    version: Literal["v1", "v2"] = "v1"
    upserts = False

    async def collections(self) -> list[str]:
        """See `Rest`."""
        return await self._get("/v1/vector/collections", list[str])

    async def describe(self, collection: str) -> Shape:
        """See `Rest`."""
        found = await self._get("/v1/vector/collections/describe", Description, collectionName=collection)
        return shape_of(found, collection)

    async def create(self, collection: str, dimension: int, timeout: float) -> None:
        """See `Rest`."""
        body = {"collectionName": collection, "dimension": dimension, "metricType": "COSINE"}
        await self._tell("/v1/vector/collections/create", body, timeout)

    async def load(self, collection: str, timeout: float) -> None:
        """v1 has no request for it: the collection is loaded when it is made."""

    async def search(self, collection: str, shape: Shape, vector: Sequence[float], limit: int) -> list[Hit]:
        """See `Rest`."""
        body = {
            "collectionName": collection,
            "vector": vector,
            "limit": limit,
            "outputFields": shape.outputs(SHOWN),
        }
        return await self._ask("/v1/vector/search", list[Hit], body)

    async def query(
        self,
        collection: str,
        where: str,
        limit: int,
        fields: Sequence[str],
        kind: type[T],
    ) -> T:
        """See `Rest`."""
        body = {"collectionName": collection, "filter": where, "limit": limit, "outputFields": fields}
        return await self._ask("/v1/vector/query", kind, body)

    async def write(self, collection: str, rows: Sequence[Row], *, upsert: bool, timeout: float) -> None:
        """See `Rest`."""
        assert not upsert, "v1 cannot upsert"
        body = {"collectionName": collection, "data": rows}
        await self._tell("/v1/vector/insert", body, timeout, repeatable=False)

    async def delete(self, collection: str, shape: Shape, keys: Sequence[str], timeout: float) -> None:
        """See `Rest`."""
        del shape  # v1 takes the keys as text whatever their type
        await self._tell("/v1/vector/delete", {"collectionName": collection, "id": keys}, timeout)


class RestV2(_Caller):
    """`/v2/vectordb`: collections with a schema of our own and text keys, so rows are upserted."""

    version: Literal["v1", "v2"] = "v2"
    upserts = True

    async def collections(self) -> list[str]:
        """See `Rest`."""
        return await self._ask("/v2/vectordb/collections/list", list[str], {})

    async def describe(self, collection: str) -> Shape:
        """See `Rest`."""
        body = {"collectionName": collection}
        return shape_of(await self._ask("/v2/vectordb/collections/describe", Description, body), collection)

    async def create(self, collection: str, dimension: int, timeout: float) -> None:
        """See `Rest`."""
        fields: list[Row] = [
            {
                "fieldName": "id",
                "dataType": "VarChar",
                "isPrimary": True,
                "elementTypeParams": {"max_length": "600"},
            },
            {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": str(dimension)}},
            {"fieldName": "position", "dataType": "Int64"},
        ]
        fields += [
            {"fieldName": name, "dataType": "VarChar", "elementTypeParams": limits}
            for name, limits in FIELDS.items()
        ]
        body = {
            "collectionName": collection,
            "schema": {"autoID": False, "enableDynamicField": False, "fields": fields},
            "indexParams": [
                {
                    "fieldName": "vector",
                    "indexName": "vector",
                    "metricType": "COSINE",
                    "indexType": "AUTOINDEX",
                }
            ],
        }
        await self._tell("/v2/vectordb/collections/create", body, timeout)

    async def load(self, collection: str, timeout: float) -> None:
        """See `Rest`."""
        await self._tell("/v2/vectordb/collections/load", {"collectionName": collection}, timeout)

    async def search(self, collection: str, shape: Shape, vector: Sequence[float], limit: int) -> list[Hit]:
        """See `Rest`."""
        body = {
            "collectionName": collection,
            "data": [vector],
            "annsField": shape.vector_field,
            "limit": limit,
            "outputFields": shape.outputs(SHOWN),
        }
        return await self._ask("/v2/vectordb/entities/search", list[Hit], body)

    async def query(
        self,
        collection: str,
        where: str,
        limit: int,
        fields: Sequence[str],
        kind: type[T],
    ) -> T:
        """See `Rest`. Asks for strong consistency; servers before 2.5 read with the collection's."""
        body = {
            "collectionName": collection,
            "filter": where,
            "limit": limit,
            "outputFields": fields,
            "consistencyLevel": "Strong",
        }
        return await self._ask("/v2/vectordb/entities/query", kind, body)

    async def write(self, collection: str, rows: Sequence[Row], *, upsert: bool, timeout: float) -> None:
        """See `Rest`."""
        path = f"/v2/vectordb/entities/{'upsert' if upsert else 'insert'}"
        await self._tell(path, {"collectionName": collection, "data": rows}, timeout, repeatable=upsert)

    async def delete(self, collection: str, shape: Shape, keys: Sequence[str], timeout: float) -> None:
        """See `Rest`."""
        listed = ", ".join(quoted(key) if shape.key_is_text else str(int(key)) for key in keys)
        body = {"collectionName": collection, "filter": f"{shape.key_field} in [{listed}]"}
        await self._tell("/v2/vectordb/entities/delete", body, timeout)


def quoted(text: str) -> str:
    """Return a string literal of Milvus' filter language: JSON's escapes are among those it reads."""
    return json.dumps(text, ensure_ascii=False)


@contextlib.contextmanager
def _token_refused() -> Generator[None]:
    try:
        yield
    except UpstreamRejected as error:
        if error.status not in {401, 403}:
            raise
        raise UpstreamRejected(
            "Milvus refuses the token: check MILVUS_TOKEN", endpoint=ENDPOINT, status=error.status
        ) from error


def _data(content: bytes) -> msgspec.Raw:
    answer = _decoded(content, _Answer)
    if answer.code not in _SUCCESS:
        raise _error(answer.code, answer.message)
    return answer.data


def _decoded(content: bytes | msgspec.Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise UpstreamProtocol(f"Milvus answered something unreadable: {error}", endpoint=ENDPOINT) from error


def _error(code: int, message: str) -> NotFound | UpstreamError:
    if code == _COLLECTION_NOT_FOUND or "can't find collection" in message:
        return NotFound(message)
    if code == _DATABASE_NOT_FOUND:
        return NotFound(f"{message}: check MILVUS_DATABASE")
    said = f"Milvus answered code {code}: {message[:500]}"
    if code in _RETRYABLE:
        return UpstreamUnavailable(said, endpoint=ENDPOINT)
    if code in _TIMED_OUT:
        return UpstreamTimeout(said, endpoint=ENDPOINT)
    if code in _NOT_AUTHENTICATED:
        said += "; check MILVUS_TOKEN"
    return UpstreamRejected(said, endpoint=ENDPOINT)
