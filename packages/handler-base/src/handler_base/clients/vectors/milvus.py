"""The store in Milvus (or Zilliz Cloud) over REST: v2, or v1 on servers older than 2.4.

Milvus reads a little behind its writes (consistency `Bounded`), so a write here ends when it is seen.
A document's chunk at position 0 is written last and stands for the whole: without it, the document
is not stored, and the next ingestion repairs it.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from handler_base.clients.vectors import (
    ENDPOINT,
    Chunk,
    Document,
    Passage,
    check_vector,
    collection_name,
    no_such_collection,
)
from handler_base.clients.vectors._milvus_rest import Rest, RestV1, RestV2, Row, quoted
from handler_base.errors import InvalidRequest, NotFound, UpstreamRejected, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from handler_base.clients.vectors._milvus_schema import Shape
    from handler_base.http import Endpoint

QUERY_LIMIT = 16384
"""Most rows that Milvus returns to one query or search."""

_ROWS_MAX = 500
_FLOATS_MAX = 100_000
_IDS_MAX = 100
_PAUSE_MIN, _PAUSE_MAX = 0.02, 0.5
_STORED = ("document_id", "content_hash", "source", "uri")

T = TypeVar("T")


class _Stored(msgspec.Struct):
    document_id: str
    content_hash: str
    source: str
    uri: str


class MilvusVectorStore:
    """A `VectorStore` in Milvus.

    Args:
        endpoint: Where Milvus is, with its token.
        default: Collection used for the name "".
        database: Database, or "" for the server's default.
        api: Version of REST, or `auto` to ask the server at first use.
        write_timeout: Seconds for one write to be done and visible.
        query_limit: Most rows to ask for at once.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        default: str = "documents",
        database: str = "",
        api: Literal["auto", "v1", "v2"] = "auto",
        write_timeout: float = 60.0,
        query_limit: int = QUERY_LIMIT,
    ) -> None:
        self._endpoint = endpoint
        self._default = default
        self._database = database
        self._write_timeout = write_timeout
        self._query_limit = query_limit
        self._shapes: dict[str, Shape] = {}
        self._rest: Rest | None = None
        if api != "auto":
            self._rest = (RestV1 if api == "v1" else RestV2)(endpoint, database)

    async def search(self, collection: str, vector: Sequence[float], limit: int) -> list[Passage]:
        """See `VectorStore.search`."""
        name = collection_name(collection, self._default)
        rest = await self._api()
        shape = await self._shape(name)
        check_vector(vector, shape.dimension, name)
        if limit <= 0:
            return []
        try:
            hits = await rest.search(name, shape, list(vector), min(limit, self._query_limit))
        except NotFound as error:  # it was dropped since
            raise await self._not_found(name) from error
        except UpstreamRejected:  # it may have been made anew with another shape
            self._shapes.pop(name, None)
            raise
        score = _score(shape.metric)
        return [
            Passage(
                text=hit.text or "",
                title=hit.title or "",
                uri=hit.uri or "",
                document_id=hit.document_id or "",
                score=score(hit.distance),
            )
            for hit in hits
        ]

    async def ensure_collection(self, collection: str, dimension: int) -> None:
        """See `VectorStore.ensure_collection`."""
        name = collection_name(collection, self._default)
        rest = await self._api()
        try:
            shape = await rest.describe(name)
        except NotFound:
            await rest.create(name, dimension, self._write_timeout)
            shape = await rest.describe(name)
        if shape.dimension != dimension:
            raise InvalidRequest(
                f"collection {name!r} holds vectors of {shape.dimension} dimensions, not {dimension}: use the "
                "embedding model it was made with, or another collection"
            )
        if not shape.loaded:
            await rest.load(name, self._write_timeout)

            async def loaded() -> bool:
                return (await rest.describe(name)).loaded

            await self._until(loaded, f"to load collection {name!r}")
        self._shapes[name] = shape

    async def upsert(self, collection: str, chunks: Sequence[Chunk]) -> None:
        """See `VectorStore.upsert`."""
        name = collection_name(collection, self._default)
        rest = await self._api()
        shape = await self._shape(name)
        hashes = {chunk.document_id: chunk.content_hash for chunk in chunks}
        for chunk in chunks:
            check_vector(chunk.vector, shape.dimension, name)
        upsert = rest.upserts and not shape.auto_id
        if not upsert:
            for ids in _batches(hashes, _IDS_MAX):
                await self._erase(name, shape, _among(ids))
        # Position 0 last, see above; what a former version had beyond the new end goes in between.
        await self._write(name, shape, [chunk for chunk in chunks if chunk.position], upsert=upsert)
        if upsert:
            for sizes in _batches(_sizes(chunks).items(), _IDS_MAX):
                beyond = (f"(document_id == {quoted(key)} and position >= {size})" for key, size in sizes)
                await self._erase(name, shape, " or ".join(beyond))
        await self._write(name, shape, [chunk for chunk in chunks if not chunk.position], upsert=upsert)
        for ids in _batches(hashes, _IDS_MAX):

            async def written(ids: list[str] = ids) -> bool:
                rows = await self._stored(name, f"{_among(ids)} and position == 0")
                return {row.document_id: row.content_hash for row in rows} == {
                    key: hashes[key] for key in ids
                }

            await self._until(written, "to show what was written")

    async def documents(self, collection: str) -> Mapping[str, Document]:
        """See `VectorStore.documents`."""
        name = collection_name(collection, self._default)
        return await self._range(name, "", None)

    async def delete_documents(self, collection: str, ids: Sequence[str]) -> None:
        """See `VectorStore.delete_documents`."""
        name = collection_name(collection, self._default)
        shape = await self._shape(name)
        for batch in _batches(ids, _IDS_MAX):
            await self._erase(name, shape, _among(batch))

    async def collections(self) -> list[str]:
        """See `VectorStore.collections`."""
        return sorted(await (await self._api()).collections())

    async def reachable(self) -> None:
        """See `VectorStore.reachable`."""
        await self._endpoint.reachable()

    async def aclose(self) -> None:
        """Nothing is held here."""

    async def _api(self) -> Rest:
        if self._rest is None:
            rest: Rest = RestV2(self._endpoint, self._database)
            try:
                await rest.collections()
            except UpstreamRejected as error:
                if error.status != 404:
                    raise
                rest = RestV1(self._endpoint, self._database)
            self._rest = rest
        return self._rest

    async def _shape(self, name: str) -> Shape:
        if name not in self._shapes:
            try:
                self._shapes[name] = await (await self._api()).describe(name)
            except NotFound as error:
                raise await self._not_found(name) from error
        return self._shapes[name]

    async def _not_found(self, name: str) -> NotFound:
        self._shapes.pop(name, None)
        return NotFound(no_such_collection(name, await self.collections()))

    async def _write(self, name: str, shape: Shape, chunks: Sequence[Chunk], *, upsert: bool) -> None:
        rest = await self._api()
        for batch in _batches(chunks, max(1, min(_ROWS_MAX, _FLOATS_MAX // shape.dimension))):
            rows = [_row(chunk, shape) for chunk in batch]
            await rest.write(name, rows, upsert=upsert, timeout=self._write_timeout)

    async def _erase(self, name: str, shape: Shape, where: str) -> None:
        """Delete until none is seen: a row that was written a moment ago may show up late."""
        rest = await self._api()

        async def erased() -> bool:
            rows = await rest.query(name, where, self._query_limit, [shape.key_field], list[Row])
            keys = [str(row[shape.key_field]) for row in rows]
            for some in _batches(keys, _ROWS_MAX):
                await rest.delete(name, shape, some, self._write_timeout)
            return not keys

        await self._until(erased, "to delete")

    async def _range(self, name: str, low: str, high: str | None) -> dict[str, Document]:
        """Return the documents with low <= id < high, in halves if one answer cannot hold them."""
        below = "" if high is None else f" and document_id < {quoted(high)}"
        rows = await self._stored(name, f"position == 0 and document_id >= {quoted(low)}{below}")
        found = {row.document_id: Document(row.content_hash, row.source, row.uri) for row in rows}
        if len(rows) < self._query_limit or len(found) < 2:
            return found
        middle = sorted(found)[len(found) // 2]
        return await self._range(name, low, middle) | await self._range(name, middle, high)

    async def _stored(self, name: str, where: str) -> list[_Stored]:
        await self._shape(name)
        return await (await self._api()).query(name, where, self._query_limit, _STORED, list[_Stored])

    async def _until(self, done: Callable[[], Awaitable[bool]], what: str) -> None:
        """Ask again and again, with growing pauses, until it is done.

        Raises:
            UpstreamTimeout: If it is not done in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._write_timeout
        pause = _PAUSE_MIN
        while not await done():
            if loop.time() + pause > deadline:
                raise UpstreamTimeout(
                    f"Milvus took longer than {self._write_timeout:g} s {what}", endpoint=ENDPOINT
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_MAX)


def _row(chunk: Chunk, shape: Shape) -> Row:
    row: Row = {
        "document_id": chunk.document_id,
        "position": chunk.position,
        "text": chunk.text,
        "title": chunk.title,
        "uri": chunk.uri,
        "source": chunk.source,
        "content_hash": chunk.content_hash,
        shape.vector_field: list(chunk.vector),
    }
    if not shape.auto_id:
        row[shape.key_field] = f"{chunk.document_id}:{chunk.position:06d}"
    return row


def _sizes(chunks: Iterable[Chunk]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for chunk in chunks:
        sizes[chunk.document_id] = max(sizes.get(chunk.document_id, 0), chunk.position + 1)
    return sizes


def _among(ids: Iterable[str]) -> str:
    return f"document_id in [{', '.join(map(quoted, ids))}]"


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _score(metric: str) -> Callable[[float], float]:
    """Return what turns Milvus' distance into a cosine similarity (of vectors of length 1)."""
    if metric.upper() == "L2":  # Milvus leaves the distance squared
        return lambda distance: 1.0 - distance / 2.0
    return lambda distance: distance
