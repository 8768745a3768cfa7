"""The embedded store: one SQLite file, exact cosine search by sqlite-vec.

Several processes may read while one writes (write-ahead log). The connection lives on one thread of its own, so
the event loop never waits for the disk. `apsw` carries its own SQLite with extension loading, which many
builds of Python lack; both packages are the extra `handler-base[sqlite]` and are imported at first use.
"""

from __future__ import annotations

import asyncio
import itertools
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from handler_base.clients.vectors import (
    ENDPOINT,
    Chunk,
    Document,
    Passage,
    check_vector,
    collection_name,
    no_such_collection,
)
from handler_base.clients.vectors._sqlite_file import (
    SqliteFile,
    mapped_error,
    sqlite_library,
    transaction,
)
from handler_base.errors import InvalidRequest, NotFound, UpstreamProtocol, UpstreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from handler_base.clients.vectors._sqlite_file import Connection

T = TypeVar("T")

_MAGIC = b"SQLite format 3\0"
_NEAREST_MAX = 4096
"""sqlite-vec refuses to return more."""
_DIMENSION_MAX = 8192


class SqliteVectorStore:
    """A `VectorStore` in one SQLite file.

    Args:
        path: The file; made with its folder by the first write.
        default: Collection used for the name "".
        busy_timeout: Seconds to wait for another process that writes.
    """

    def __init__(self, path: Path, *, default: str = "documents", busy_timeout: float = 10.0) -> None:
        self._path = path
        self._default = default
        self._file = SqliteFile(path, busy_timeout)
        self._executor: ThreadPoolExecutor | None = None

    async def search(self, collection: str, vector: Sequence[float], limit: int) -> list[Passage]:
        """See `VectorStore.search`."""
        name = collection_name(collection, self._default)
        return await self._run(lambda: self._search(name, vector, limit))

    async def ensure_collection(self, collection: str, dimension: int) -> None:
        """See `VectorStore.ensure_collection`."""
        name = collection_name(collection, self._default)
        if not 0 < dimension <= _DIMENSION_MAX:
            raise InvalidRequest(f"vectors of {dimension} dimensions cannot be stored: 1 to {_DIMENSION_MAX}")
        await self._run(lambda: self._ensure(name, dimension))

    async def upsert(self, collection: str, chunks: Sequence[Chunk]) -> None:
        """See `VectorStore.upsert`. Each document is one transaction."""
        name = collection_name(collection, self._default)
        ordered = sorted(chunks, key=lambda chunk: (chunk.document_id, chunk.position))
        for _, document in itertools.groupby(ordered, key=lambda chunk: chunk.document_id):
            whole = list(document)
            await self._run(lambda whole=whole: self._replace(name, whole))

    async def documents(self, collection: str) -> Mapping[str, Document]:
        """See `VectorStore.documents`."""
        name = collection_name(collection, self._default)
        return await self._run(lambda: self._documents(name))

    async def delete_documents(self, collection: str, ids: Sequence[str]) -> None:
        """See `VectorStore.delete_documents`."""
        name = collection_name(collection, self._default)
        await self._run(lambda: self._delete(name, ids))

    async def collections(self) -> list[str]:
        """See `VectorStore.collections`."""
        return await self._run(self._names)

    async def reachable(self) -> None:
        """Return if the file can be read or is not there yet; does not load SQLite."""

        def look() -> None:
            try:
                with self._path.open("rb") as file:
                    head = file.read(len(_MAGIC))
            except FileNotFoundError:
                return
            except OSError as error:
                raise UpstreamUnavailable(
                    f"the knowledge base cannot be read: {error}", endpoint=ENDPOINT
                ) from error
            if head not in {b"", _MAGIC}:
                raise UpstreamProtocol(f"{self._path} is not a SQLite file", endpoint=ENDPOINT)

        await asyncio.to_thread(look)

    async def aclose(self) -> None:
        """Close the file and end the thread."""
        if self._executor is not None:
            await self._run(self._file.close)
            self._executor.shutdown(wait=False)
            self._executor = None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="vectors")

        def mapped() -> T:
            apsw = sqlite_library()
            try:
                return work()
            except apsw.Error as error:
                raise mapped_error(error, self._path) from error
            except OSError as error:
                raise UpstreamUnavailable(
                    f"the knowledge base cannot be opened: {error}", endpoint=ENDPOINT
                ) from error

        return await asyncio.get_running_loop().run_in_executor(self._executor, mapped)

    # From here on everything runs on the thread of the connection.

    def _names(self) -> list[str]:
        connection = self._file.reader()
        if connection is None:
            return []
        return [name for (name,) in connection.execute("SELECT name FROM collections ORDER BY name")]

    def _find(self, name: str) -> tuple[Connection, int, int]:
        """Return the connection, and the id and dimension of the collection."""
        connection = self._file.reader()
        if connection is not None:
            row = connection.execute("SELECT id, dimension FROM collections WHERE name = ?", (name,))
            for number, dimension in row.fetchall():
                return connection, number, dimension
        raise NotFound(no_such_collection(name, self._names()))

    def _ensure(self, name: str, dimension: int) -> None:
        connection = self._file.writer()
        with transaction(connection):
            connection.execute(
                "INSERT INTO collections (name, dimension) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (name, dimension),
            )
            if connection.changes():
                connection.execute(
                    f"CREATE VIRTUAL TABLE vectors_{connection.last_insert_rowid()} "
                    f"USING vec0(embedding float[{dimension}] distance_metric=cosine)"
                )
        _, _, stored = self._find(name)
        if stored != dimension:
            raise InvalidRequest(
                f"collection {name!r} holds vectors of {stored} dimensions, not {dimension}: use the embedding "
                "model it was made with, or another collection"
            )

    def _search(self, name: str, vector: Sequence[float], limit: int) -> list[Passage]:
        connection, number, dimension = self._find(name)
        check_vector(vector, dimension, name)
        rows = connection.execute(
            f"WITH nearest AS (SELECT rowid AS id, distance FROM vectors_{number} WHERE embedding MATCH ? AND k = ?)"  # noqa: S608  (a number of our own)
            " SELECT text, title, uri, document_id, distance FROM nearest JOIN chunks USING (id)"
            " JOIN documents ON documents.id = chunks.document ORDER BY distance, chunks.id",
            (array("f", vector).tobytes(), max(0, min(limit, _NEAREST_MAX))),
        )
        return [
            Passage(text=text, title=title, uri=uri, document_id=key, score=1.0 - distance)
            for text, title, uri, key, distance in rows
            if distance is not None  # a vector of zeros has no direction: nothing resembles it
        ]

    def _documents(self, name: str) -> dict[str, Document]:
        connection, number, _ = self._find(name)
        rows = connection.execute(
            "SELECT document_id, content_hash, source, uri FROM documents WHERE collection = ?", (number,)
        )
        return {key: Document(digest, source, uri) for key, digest, source, uri in rows}

    def _replace(self, name: str, chunks: Sequence[Chunk]) -> None:
        connection, number, dimension = self._find(name)
        for chunk in chunks:
            check_vector(chunk.vector, dimension, name)
        first = chunks[0]
        with transaction(connection):
            self._remove(connection, number, first.document_id)
            connection.execute(
                "INSERT INTO documents (collection, document_id, content_hash, source, uri) VALUES (?, ?, ?, ?, ?)",
                (number, first.document_id, first.content_hash, first.source, first.uri),
            )
            document = connection.last_insert_rowid()
            for chunk in chunks:
                connection.execute(
                    "INSERT INTO chunks (document, position, title, text) VALUES (?, ?, ?, ?)",
                    (document, chunk.position, chunk.title, chunk.text),
                )
                connection.execute(
                    f"INSERT INTO vectors_{number} (rowid, embedding) VALUES (?, ?)",  # noqa: S608
                    (connection.last_insert_rowid(), array("f", chunk.vector).tobytes()),
                )

    def _delete(self, name: str, ids: Sequence[str]) -> None:
        connection, number, _ = self._find(name)
        with transaction(connection):
            for key in ids:
                self._remove(connection, number, key)

    def _remove(self, connection: Connection, number: int, key: str) -> None:
        for (document,) in connection.execute(
            "SELECT id FROM documents WHERE collection = ? AND document_id = ?", (number, key)
        ).fetchall():
            connection.execute(
                f"DELETE FROM vectors_{number} WHERE rowid IN (SELECT id FROM chunks WHERE document = ?)",  # noqa: S608
                (document,),
            )
            connection.execute("DELETE FROM documents WHERE id = ?", (document,))
