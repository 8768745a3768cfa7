"""From a question to the passages that may answer it: embed, search, rerank.

Retrieval never fails an answer. A step that cannot be done costs passages or their order, and a warning says so.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import msgspec

from handler_base import telemetry
from handler_base.config import Settings, env
from handler_base.errors import HandlerError, Stopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from handler_base.clients.embeddings import Embeddings
    from handler_base.clients.reranker import Reranker
    from handler_base.clients.vectors import Passage, VectorStore


T = TypeVar("T")


class RetrievalSettings(Settings, frozen=True, kw_only=True):
    """What is looked up for a question, unless the request says otherwise."""

    enable_rag: Annotated[bool, env("ENABLE_RAG", help="answer from the knowledge base")] = True
    enable_reranker: Annotated[bool, env("ENABLE_RERANKER", help="let the reranker order what was found")] = (
        True
    )
    top_k: Annotated[int, env("TOP_K", help="passages per question", ge=1)] = 5
    top_k_max: Annotated[int, env("TOP_K_MAX", help="most passages a request may ask for", ge=1)] = 20
    candidates: Annotated[
        int,
        env("RERANK_CANDIDATES", help="passages searched for each one wanted when there is a reranker", ge=1),
    ] = 4
    min_score: Annotated[
        float, env("RETRIEVAL_MIN_SCORE", help="least cosine similarity of a passage", ge=-1, le=1)
    ] = 0.0
    rerank_min_score: Annotated[
        float | None,
        env("RERANK_MIN_SCORE", help="least score of a reranked passage, on the reranker's own scale"),
    ] = None
    timeout: Annotated[
        float, env("RETRIEVAL_TIMEOUT", help="seconds for each of the three steps", ge=0.001)
    ] = 10.0


class Embedded(msgspec.Struct, frozen=True):
    """A question as a vector.

    Attributes:
        vector: The embedding; empty if there is none.
        seconds: How long it took.
        warnings: Why there is none.
    """

    vector: Sequence[float]
    seconds: float
    warnings: tuple[str, ...] = ()


class Retrieved(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        passages: Best first; at most `top_k`.
        warnings: One sentence for each step that could not be done.
        timings: Seconds by step: `embed`, `search`, `rerank`; only of the steps that were tried.
    """

    passages: list[Passage]
    warnings: list[str]
    timings: dict[str, float]


class _Failed(NamedTuple):
    reason: str


class Retrieval:
    """Finds passages for questions. A failing step degrades; cancellation is passed on.

    Args:
        embeddings: Turns the question into a vector.
        vectors: The knowledge base.
        reranker: Orders what was found by how well it answers, or None.
        settings: Defaults and limits.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        vectors: VectorStore,
        reranker: Reranker | None,
        settings: RetrievalSettings,
    ) -> None:
        self._embeddings = embeddings
        self._vectors = vectors
        self._reranker = reranker
        self._settings = settings

    async def embed(self, question: str) -> Embedded:
        """Embed a question, for a caller that has other things to do meanwhile; pass it on to `retrieve`."""
        started = time.perf_counter()
        vector = await self._step("embed", self._vector(question))
        seconds = time.perf_counter() - started
        if isinstance(vector, _Failed):
            warning = (
                f"answered without the knowledge base: the question could not be embedded ({vector.reason})"
            )
            return Embedded((), seconds, (warning,))
        return Embedded(vector, seconds)

    async def retrieve(
        self,
        question: str,
        *,
        vector: Embedded | None = None,
        collection: str = "",
        top_k: int = 0,
        rerank: bool | None = None,
    ) -> Retrieved:
        """Find passages.

        Args:
            question: What is asked.
            vector: The question as `embed` returned it; None to embed it here.
            collection: Where to look; "" for the default collection.
            top_k: How many passages; 0 for the default. Cut to the limit of the settings.
            rerank: Whether to rerank; None for the default.
        """
        settings = self._settings
        if vector is None:
            vector = await self.embed(question)
        found = Retrieved([], list(vector.warnings), {"embed": vector.seconds})
        if not vector.vector:
            return found
        top_k = min(top_k if top_k > 0 else settings.top_k, settings.top_k_max)
        reranker = self._reranker if (settings.enable_reranker if rerank is None else rerank) else None
        passages = await self._search(
            found, collection, vector.vector, top_k * (settings.candidates if reranker else 1)
        )
        if reranker is not None and passages:
            passages = await self._rerank(found, reranker, question, passages, top_k)
        found.passages.extend(passages[:top_k])
        return found

    async def _search(
        self, found: Retrieved, collection: str, vector: Sequence[float], limit: int
    ) -> list[Passage]:
        started = time.perf_counter()
        passages = await self._step("search", self._vectors.search(collection, vector, limit))
        found.timings["search"] = time.perf_counter() - started
        if isinstance(passages, _Failed):
            found.warnings.append(f"answered without the knowledge base: {passages.reason}")
            return []
        return [passage for passage in passages if passage.score >= self._settings.min_score]

    async def _rerank(
        self, found: Retrieved, reranker: Reranker, question: str, passages: list[Passage], top_k: int
    ) -> list[Passage]:
        started = time.perf_counter()
        ranked = await self._step("rerank", _ranked(reranker, question, passages, top_k))
        found.timings["rerank"] = time.perf_counter() - started
        if isinstance(ranked, _Failed):
            found.warnings.append(f"passages are in the order of the search, not reranked: {ranked.reason}")
            return passages
        least = self._settings.rerank_min_score
        return [passage for passage in ranked if least is None or passage.score >= least]

    async def _vector(self, question: str) -> list[float]:
        (vector,) = await self._embeddings.embed([question])
        return vector

    async def _step(self, name: str, work: Awaitable[T]) -> T | _Failed:
        """Return the result of one step, or why there is none."""
        with telemetry.span(f"retrieval.{name}") as span:
            try:
                async with asyncio.timeout(self._settings.timeout):
                    return await work
            except Stopped:
                raise
            except HandlerError as error:
                span.error(error)
                return _Failed(error.message)
            except TimeoutError as error:
                span.error(error)
                return _Failed(f"{name} took longer than {self._settings.timeout:g} s")


async def _ranked(reranker: Reranker, question: str, passages: list[Passage], top_k: int) -> list[Passage]:
    texts = [f"{passage.title}\n{passage.text}" if passage.title else passage.text for passage in passages]
    ranked = await reranker.rerank(question, texts, top_k)
    return [msgspec.structs.replace(passages[item.index], score=item.score) for item in ranked]
