"""The reranker: which documents answer a query best.

Two contracts: `/v1/rerank` as Cohere, Jina and vLLM have it, and `/rerank` of Hugging Face's Text Embeddings
Inference (https://huggingface.github.io/text-embeddings-inference/), by setting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from handler_base.clients._contract import base_of
from handler_base.config import Secret, Settings, env

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handler_base.http import Endpoint, HttpPool

PATHS = {"openai": "/v1/rerank", "tei": "/rerank"}


class RerankerSettings(Settings, frozen=True, kw_only=True):
    """Where the reranker is. Durations are in seconds."""

    url: Annotated[
        str, env("RERANKER_URL", help="base URL of the reranker; the path of its API is appended")
    ] = "http://127.0.0.1:8000/reranker"
    api: Annotated[
        Literal["openai", "tei"],
        env("RERANKER_API", help="openai: /v1/rerank as Cohere, Jina and vLLM have it; tei: /rerank"),
    ] = "openai"
    model: Annotated[str, env("RERANKER_MODEL", help="model to ask for; left out when empty")] = ""
    api_key: Annotated[Secret, env("RERANKER_API_KEY", help="bearer token for the reranker")] = Secret()
    timeout: Annotated[float, env("RERANKER_TIMEOUT", help="seconds to the answer", ge=0.001)] = 15.0


class Ranked(msgspec.Struct, frozen=True):
    """A document's place in the ranking.

    Attributes:
        index: Its index among the documents that were given.
        score: How well it answers; higher is better, the scale is the model's own.
    """

    index: int
    score: float


class _Result(msgspec.Struct):
    index: int
    relevance_score: float


class _Results(msgspec.Struct):
    results: list[_Result]


class _Score(msgspec.Struct):
    index: int
    score: float


class Reranker:
    """A model that orders documents by how well they answer a query.

    Args:
        pool: Where its connections come from.
        settings: Where it is.

    Attributes:
        endpoint: The endpoint it talks to.
    """

    def __init__(self, pool: HttpPool, settings: RerankerSettings) -> None:
        self.settings = settings
        self._path = PATHS[settings.api]
        self.endpoint: Endpoint = pool.endpoint(
            "reranker",
            base_of(settings.url, self._path),
            api_key=settings.api_key,
            timeout=settings.timeout,
            setting="RERANKER_URL",
        )

    async def rerank(self, query: str, documents: Sequence[str], top_n: int) -> list[Ranked]:
        """Return at most `top_n` documents, best first.

        Raises:
            UpstreamError: If the endpoint fails; `UpstreamProtocol` if it names a document that is not there, or
                one twice.
            Overloaded: If no connection becomes free in time.
        """
        if not documents or top_n < 1:
            return []
        if self.settings.api == "tei":
            ranked = await self._tei(query, documents)
        else:
            ranked = await self._openai(query, documents, top_n)
        indices = {one.index for one in ranked}
        if len(indices) != len(ranked) or not indices <= set(range(len(documents))):
            raise self.endpoint.unreadable(f"a ranking that does not fit {len(documents)} documents")
        return sorted(ranked, key=lambda one: -one.score)[:top_n]

    async def _openai(self, query: str, documents: Sequence[str], top_n: int) -> list[Ranked]:
        body: dict[str, Any] = {
            "query": query,
            "documents": list(documents),
            "top_n": min(top_n, len(documents)),
        }
        if self.settings.model:
            body["model"] = self.settings.model
        answer = await self.endpoint.post_json(self._path, body, _Results, idempotent=True)
        return [Ranked(one.index, one.relevance_score) for one in answer.results]

    async def _tei(self, query: str, documents: Sequence[str]) -> list[Ranked]:
        body = {"query": query, "texts": list(documents), "truncate": True}
        answer = await self.endpoint.post_json(self._path, body, list[_Score], idempotent=True)
        return [Ranked(one.index, one.score) for one in answer]
