"""Settings of the ingestion."""

from __future__ import annotations

from typing import Annotated, Literal

from handler_base.clients.embeddings import EmbeddingsSettings
from handler_base.clients.vectors import VectorSettings
from handler_base.config import Settings, env
from handler_base.http import HttpSettings


class ChunkSettings(Settings, frozen=True, kw_only=True):
    """How documents are cut."""

    size: Annotated[int, env("CHUNK_SIZE", help="longest chunk, in CHUNK_UNIT", ge=40, le=16000)] = 900
    overlap: Annotated[
        int,
        env("CHUNK_OVERLAP", help="most that a chunk repeats of the one before it, in whole sentences", ge=0),
    ] = 150
    unit: Annotated[
        Literal["characters", "tokens"], env("CHUNK_UNIT", help="characters or (estimated) tokens")
    ] = "characters"


class IngestionSettings(Settings, frozen=True, kw_only=True):
    """Everything that `document-ingestion` can be told by the environment."""

    http: HttpSettings = HttpSettings()
    embeddings: EmbeddingsSettings = EmbeddingsSettings()
    vectors: VectorSettings = VectorSettings()
    chunks: ChunkSettings = ChunkSettings()
    base: Annotated[
        str, env("INGEST_BASE", help="folder that paths are named from; set it where checkouts move")
    ] = ""
    exclude: Annotated[
        tuple[str, ...], env("INGEST_EXCLUDE", help="patterns as in .gitignore to leave out of folders")
    ] = ()
    max_bytes: Annotated[int, env("INGEST_MAX_BYTES", help="largest file or page", ge=1)] = 32 * 1024 * 1024
    batch: Annotated[int, env("INGEST_BATCH", help="chunks per request to the embeddings", ge=1)] = 16
    timeout: Annotated[
        float, env("INGEST_TIMEOUT", help="seconds for one such request; a CPU takes its time", ge=0.01)
    ] = 120.0
    concurrency: Annotated[
        int, env("INGEST_CONCURRENCY", help="requests to the embeddings at once", ge=1)
    ] = 2
    url_timeout: Annotated[float, env("INGEST_URL_TIMEOUT", help="seconds for one page", ge=0.01)] = 30.0
