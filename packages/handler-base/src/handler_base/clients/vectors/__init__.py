"""The knowledge base: chunks of documents with their vectors, in SQLite or in Milvus.

    store = open_vector_store(settings, pool)
    await store.ensure_collection("documents", dimension=384)
    await store.upsert("documents", chunks)
    passages = await store.search("documents", vector, limit=5)

Which store is a setting; see docs/decisions/0004-vector-store.md. A name of "" is the default collection.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence  # noqa: TC003  (msgspec reads the annotations)
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import msgspec

from handler_base.config import Secret, Settings, env
from handler_base.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from handler_base.http import HttpPool

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_LINKED_PORT = re.compile(r"tcp://[^/]+:(\d+)")

ENDPOINT = "vectors"
"""What the errors call the vector store."""


class Passage(msgspec.Struct, frozen=True):
    """A chunk that a search found.

    Attributes:
        text: The chunk itself.
        title: Title of its document and the headings above it.
        uri: Where the document is: a path or a URL.
        document_id: Its document.
        score: How well it fits, higher is better; cosine similarity (-1 to 1) after a search.
    """

    text: str
    title: str
    uri: str
    document_id: str
    score: float


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a document as it is stored.

    Attributes:
        document_id: Its document.
        position: Its place in the document, from 0 without gaps.
        text: The text that a prompt quotes.
        title: Title of the document and the headings above the text.
        uri: Where the document is: a path or a URL.
        source: The folder, file or URL whose ingestion brought the document.
        content_hash: Hash of the whole document as it was ingested.
        vector: The embedding of the chunk.
    """

    document_id: str
    position: int
    text: str
    title: str
    uri: str
    source: str
    content_hash: str
    vector: Sequence[float]


class Document(msgspec.Struct, frozen=True):
    """A document that is stored whole.

    Attributes:
        content_hash: Hash of the document as it was ingested.
        source: The folder, file or URL whose ingestion brought it.
        uri: Where it is: a path or a URL.
    """

    content_hash: str
    source: str
    uri: str


class VectorSettings(Settings, frozen=True):
    """Where the knowledge base is."""

    store: Annotated[
        Literal["", "sqlite", "milvus"],
        env("VECTOR_STORE", help="sqlite or milvus; default: milvus if MILVUS_HOST is set, else sqlite"),
    ] = ""
    collection: Annotated[str, env("COLLECTION_NAME", help="collection used when a request names none")] = (
        "documents"
    )
    timeout: Annotated[float, env("VECTORS_TIMEOUT", help="seconds for one search", ge=0.01)] = 10.0
    write_timeout: Annotated[
        float, env("VECTORS_WRITE_TIMEOUT", help="seconds for one write to be done and visible", ge=0.01)
    ] = 60.0
    sqlite_path: Annotated[str, env("SQLITE_PATH", help="file of the SQLite store")] = ".local/knowledge.db"
    milvus_host: Annotated[str, env("MILVUS_HOST", help="host name of Milvus")] = ""
    milvus_port: Annotated[str, env("MILVUS_PORT", help="port of Milvus' REST API")] = "19530"
    milvus_scheme: Annotated[Literal["http", "https"], env("MILVUS_SCHEME", help="http or https")] = "http"
    milvus_token: Annotated[Secret, env("MILVUS_TOKEN", help="user:password or API key")] = Secret()
    milvus_database: Annotated[str, env("MILVUS_DATABASE", help="database; default: the server's")] = ""
    milvus_api: Annotated[
        Literal["auto", "v1", "v2"], env("MILVUS_API", help="REST version: auto asks the server")
    ] = "auto"

    @property
    def kind(self) -> Literal["sqlite", "milvus"]:
        """The store in use."""
        return self.store or ("milvus" if self.milvus_host else "sqlite")

    @property
    def milvus_url(self) -> str:
        """Base URL of Milvus.

        Raises:
            ConfigError: If the host is missing or the port is not one.
        """
        if not self.milvus_host:
            raise ConfigError(["MILVUS_HOST must be set: VECTOR_STORE is milvus"])
        # Kubernetes sets MILVUS_PORT=tcp://10.0.0.1:19530 beside a Service that is called milvus.
        linked = _LINKED_PORT.fullmatch(self.milvus_port)
        port = linked[1] if linked else self.milvus_port
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError([f"MILVUS_PORT={self.milvus_port!r}: expected a port number"])
        return f"{self.milvus_scheme}://{self.milvus_host}:{port}"


class VectorStore(Protocol):
    """A knowledge base. Every method may raise UpstreamError; names are checked by `collection_name`."""

    async def search(self, collection: str, vector: Sequence[float], limit: int) -> list[Passage]:
        """Return the chunks whose vectors are nearest, best first.

        Args:
            collection: Where to look.
            vector: The embedded question.
            limit: Most passages to return.

        Raises:
            NotFound: If there is no such collection; the message names those that exist.
            InvalidRequest: If the vector has another dimension than the collection, or a NaN.
        """
        ...

    async def ensure_collection(self, collection: str, dimension: int) -> None:
        """Make the collection if it is not there.

        Raises:
            InvalidRequest: If it is there with vectors of another dimension.
        """
        ...

    async def upsert(self, collection: str, chunks: Sequence[Chunk]) -> None:
        """Store whole documents, each in place of what was stored of it. Done means visible to a search.

        Until a document's last chunk is stored, `documents` does not name it (or names its former content).

        Args:
            collection: Where to.
            chunks: All chunks of one or more documents.
        """
        ...

    async def documents(self, collection: str) -> Mapping[str, Document]:
        """Return what is stored, by document id."""
        ...

    async def delete_documents(self, collection: str, ids: Sequence[str]) -> None:
        """Remove documents; ids that are not stored are no error."""
        ...

    async def collections(self) -> list[str]:
        """Return the names of the collections, sorted."""
        ...

    async def reachable(self) -> None:
        """Return if the store can be reached, else raise UpstreamError with the reason."""
        ...

    async def aclose(self) -> None:
        """Release files and threads. The pool of connections belongs to its maker."""
        ...


def open_vector_store(settings: VectorSettings, pool: HttpPool) -> VectorStore:
    """Return the store that the settings name. Connects at first use.

    Raises:
        ConfigError: If the settings contradict each other.
    """
    collection_name(settings.collection)
    if settings.kind == "milvus":
        from handler_base.clients.vectors.milvus import MilvusVectorStore

        endpoint = pool.endpoint(
            ENDPOINT, settings.milvus_url, api_key=settings.milvus_token, timeout=settings.timeout
        )
        return MilvusVectorStore(
            endpoint,
            default=settings.collection,
            database=settings.milvus_database,
            api=settings.milvus_api,
            write_timeout=settings.write_timeout,
        )
    from handler_base.clients.vectors.sqlite import SqliteVectorStore

    return SqliteVectorStore(
        Path(settings.sqlite_path), default=settings.collection, busy_timeout=settings.timeout
    )


def collection_name(name: str, default: str = "") -> str:
    """Return the name of a collection, or the default for "".

    Raises:
        InvalidRequest: If it is not made of letters, digits and underscores (Milvus' rule, kept by every store).
    """
    chosen = name or default
    if not _COLLECTION.fullmatch(chosen):
        raise InvalidRequest(
            f"collection {chosen[:64]!r} cannot be used: letters, digits and '_' only, not starting with a digit"
        )
    return chosen


def check_vector(vector: Sequence[float], dimension: int, collection: str) -> None:
    """Check a vector against its collection.

    Raises:
        InvalidRequest: If the dimension differs or a component is not a finite number.
    """
    if len(vector) != dimension:
        raise InvalidRequest(
            f"collection {collection!r} holds vectors of {dimension} dimensions, but the embedding model gives "
            f"{len(vector)}: use the model it was ingested with, or ingest into another collection"
        )
    if not math.isfinite(sum(vector)):
        raise InvalidRequest("the embedding has a component that is not a finite number")


def no_such_collection(collection: str, existing: Sequence[str]) -> str:
    """Return the sentence for a collection that is not there."""
    there_are = f"there are: {', '.join(existing)}" if existing else "nothing has been ingested yet"
    return f"there is no collection {collection!r} in the knowledge base; {there_are}"
