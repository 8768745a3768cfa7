"""The ingestion, top to bottom: find, compare, read, cut, embed, store, remove what is gone."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from document_ingestion.chunks import cut, measure_of
from document_ingestion.fetch import Page, fetch
from document_ingestion.read import kind_of, parse
from document_ingestion.report import Failure, Progress, Report
from document_ingestion.sources import Namer, Source, find, without_password
from handler_base.clients.embeddings import Embeddings
from handler_base.clients.vectors import Chunk, collection_name, open_vector_store
from handler_base.errors import (
    HandlerError,
    NotFound,
    Overloaded,
    Stopped,
    TooLarge,
    UpstreamError,
)
from handler_base.http import HttpPool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from document_ingestion.chunks import Piece
    from document_ingestion.config import IngestionSettings
    from document_ingestion.report import OnProgress
    from handler_base.clients.vectors import Document, VectorStore

_FORMAT = 1
"""Changes whenever the same document would be cut or embedded in another way."""


class _Work(NamedTuple):
    """A document that is to be stored."""

    source: Source
    content_hash: str
    pieces: list[Piece]


async def ingest(
    sources: Sequence[str],
    settings: IngestionSettings,
    *,
    progress: OnProgress | None = None,
    dry_run: bool = False,
) -> Report:
    """Bring the knowledge base up to date with files, folders and pages.

    A document that fails is reported and does not stop the others; what was stored of it before stays.

    Args:
        sources: Files, folders, and URLs.
        settings: Where everything is.
        progress: Called whenever a document is done with.
        dry_run: Whether only to report what would be done; needs the vector store but no embeddings.

    Raises:
        ConfigError: If settings contradict each other.
        InvalidRequest: If the collection holds vectors of another dimension, or has an impossible name.
        UpstreamError: If the vector store or the embeddings cannot be had at all.
    """
    pool = HttpPool(settings.http)
    try:
        store = open_vector_store(settings.vectors, pool)
        try:
            run = _Ingestion(settings, pool, store, progress or _silent, dry_run=dry_run)
            return await run.ingest(sources)
        finally:
            await store.aclose()
    finally:
        await pool.aclose()


class _Ingestion:
    def __init__(
        self,
        settings: IngestionSettings,
        pool: HttpPool,
        store: VectorStore,
        progress: OnProgress,
        *,
        dry_run: bool,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        # A question waits for its vector with a person behind it; a batch of chunks need not hurry.
        self._embeddings = Embeddings(
            pool,
            msgspec.structs.replace(settings.embeddings, batch_size=settings.batch, timeout=settings.timeout),
        )
        self._progress = progress
        self._dry_run = dry_run
        self._collection = collection_name(settings.vectors.collection)
        self._report = Report(self._collection, dry_run=dry_run)
        self._stored: Mapping[str, Document] = {}
        self._gone: list[str] = []
        self._group: list[_Work] = []
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._done = self._total = 0
        self._made = False
        self._down = ""

    async def ingest(self, sources: Sequence[str]) -> Report:
        started = time.monotonic()
        documents, folders = await self._find(sources)
        try:
            self._stored = await self._store.documents(self._collection)
        except NotFound:
            self._stored = {}
        self._gone += [
            key for key, stored in self._stored.items() if stored.source in folders and key not in documents
        ]
        self._total = len(documents)
        fatal: Exception | None = None
        try:
            await self._store_all(documents.values())
        except* HandlerError as errors:
            fatal = errors.exceptions[0]
        if fatal is not None:
            raise fatal
        if self._gone and not self._dry_run:
            await self._store.delete_documents(self._collection, self._gone)
        self._report.removed = len(self._gone)
        self._report.seconds = time.monotonic() - started
        return self._report

    async def _store_all(self, documents: Iterable[Source]) -> None:
        """Read documents one after the other; embed and store them in groups, several at once."""
        async with asyncio.TaskGroup() as tasks:
            for source in documents:
                work = await self._prepare(source)
                if work is not None:
                    self._group.append(work)
                if sum(len(one.pieces) for one in self._group) >= self._settings.batch:
                    await self._dispatch(tasks)
            await self._dispatch(tasks)

    async def _find(self, sources: Sequence[str]) -> tuple[dict[str, Source], set[str]]:
        """Return the documents by id, each once, and the folders among the sources."""
        namer = Namer(self._settings.base)
        documents: dict[str, Source] = {}
        folders: set[str] = set()
        for source in sources:
            try:
                root = await asyncio.to_thread(find, source, namer, self._settings.exclude)
            except HandlerError as error:
                self._report.failed.append(Failure(without_password(source), error.message))
                continue
            if root.is_folder:
                folders.add(root.name)
            for document in root.documents:
                documents.setdefault(document.document_id, document)
        return documents, folders

    async def _prepare(self, source: Source) -> _Work | None:
        """Return the document cut into pieces, or None if there is nothing to store."""
        try:
            page = await self._content(source)
            digest = self._digest(page.content)
            stored = self._stored.get(source.document_id)
            if stored is not None and stored.content_hash == digest:
                self._report.unchanged += 1
            elif pieces := await asyncio.to_thread(self._cut, source, page):
                return _Work(source, digest, pieces)
            else:
                self._report.empty += 1
                if stored is not None:
                    self._gone.append(source.document_id)
        except Stopped:
            raise
        except HandlerError as error:
            self._fail(source, error.message)
        except TimeoutError:
            self._fail(source, f"did not come within {self._settings.url_timeout:g} s")
        except OSError as error:
            self._fail(source, f"cannot be read: {error.strerror or error}")
        self._tick(source)
        return None

    async def _content(self, source: Source) -> Page:
        limit = self._settings.max_bytes
        if source.path:
            return await asyncio.to_thread(_read_file, Path(source.path), limit)
        return await fetch(self._pool, source.uri, max_bytes=limit, timeout=self._settings.url_timeout)

    def _digest(self, content: bytes) -> str:
        chunks = self._settings.chunks
        recipe = f"{_FORMAT} {chunks.size} {chunks.overlap} {chunks.unit} {self._settings.embeddings.model}\n"
        return hashlib.sha256(recipe.encode() + content).hexdigest()[:32]

    def _cut(self, source: Source, page: Page) -> list[Piece]:
        chunks = self._settings.chunks
        parsed = parse(page.content, kind_of(source.uri, page.content_type), page.charset)
        return cut(
            parsed,
            parsed.title or _name(source.uri),
            size=chunks.size,
            overlap=min(chunks.overlap, chunks.size // 2),
            measure=measure_of(chunks.unit),
        )

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        """Hand the documents at hand to a task, as soon as one may start."""
        group, self._group = self._group, []
        if not group:
            return
        await self._slots.acquire()
        task = tasks.create_task(self._put(group))
        task.add_done_callback(lambda _: self._slots.release())
        if not self._made and not self._dry_run:
            await asyncio.wait([task])  # the first one makes the collection

    async def _put(self, group: Sequence[_Work]) -> None:
        """Embed and store some documents, and report what became of them."""
        reason = "" if self._dry_run else self._down or await self._try(group)
        if reason and not self._down and len(group) > 1:
            for work in group:  # one of them is at fault
                await self._put([work])
            return
        for work in group:
            if reason:
                self._fail(work.source, reason)
            else:
                known = work.source.document_id in self._stored
                self._report.changed += known
                self._report.added += not known
                self._report.chunks += len(work.pieces)
            self._tick(work.source)

    async def _try(self, group: Sequence[_Work]) -> str:
        """Embed and store some documents; return why that cannot be done, or ""."""
        try:
            await self._embed_and_store(group)
        except (UpstreamError, Overloaded, TooLarge) as error:
            if not self._made:
                raise  # nothing could be stored yet, so nothing will be
            if error.retryable:
                self._down = error.message
            return error.message
        return ""

    async def _embed_and_store(self, group: Sequence[_Work]) -> None:
        vectors = await self._embeddings.embed([piece.embedded for work in group for piece in work.pieces])
        if not self._made:
            await self._store.ensure_collection(self._collection, len(vectors[0]))
            self._made = True
        remaining = iter(vectors)
        await self._store.upsert(
            self._collection,
            [
                Chunk(
                    document_id=work.source.document_id,
                    position=position,
                    text=piece.text,
                    title=piece.title,
                    uri=work.source.uri,
                    source=self._root(work.source),
                    content_hash=work.content_hash,
                    vector=next(remaining),
                )
                for work in group
                for position, piece in enumerate(work.pieces)
            ],
        )

    def _root(self, source: Source) -> str:
        """Return what brought the document first: a file ingested alone still belongs to its folder."""
        stored = self._stored.get(source.document_id)
        return source.root if stored is None else stored.source

    def _fail(self, source: Source, reason: str) -> None:
        self._report.failed.append(Failure(source.uri, reason))

    def _tick(self, source: Source) -> None:
        self._done += 1
        self._progress(Progress(self._done, self._total, source.uri))


def _read_file(path: Path, limit: int) -> Page:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLarge(f"is larger than INGEST_MAX_BYTES ({limit})")
    return Page(content, "", "")


def _name(uri: str) -> str:
    """Return a title for a document that names none."""
    path = PurePath(unquote(urlsplit(uri).path) if "://" in uri else uri)
    return path.stem or uri


def _silent(_: Progress) -> None:
    pass
