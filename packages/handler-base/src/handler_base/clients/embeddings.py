"""Embeddings: OpenAI's `/v1/embeddings`, in batches.

Contract: https://platform.openai.com/docs/api-reference/embeddings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from handler_base.clients._contract import ModelName, base_of
from handler_base.config import Secret, Settings, env

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handler_base.http import Endpoint, HttpPool

PATH = "/v1/embeddings"


class EmbeddingsSettings(Settings, frozen=True, kw_only=True):
    """Where the embeddings come from. Durations are in seconds."""

    url: Annotated[
        str, env("EMBEDDINGS_URL", help="base URL of the embeddings; /v1/embeddings is appended")
    ] = "http://127.0.0.1:8000/embeddings"
    model: Annotated[
        str,
        env("EMBEDDINGS_MODEL", help="model to ask for; when empty, the first one that the endpoint lists"),
    ] = ""
    api_key: Annotated[Secret, env("EMBEDDINGS_API_KEY", help="bearer token for the embeddings")] = Secret()
    timeout: Annotated[
        float, env("EMBEDDINGS_TIMEOUT", help="seconds to the answer for one batch", ge=0.001)
    ] = 30.0
    batch_size: Annotated[int, env("EMBEDDINGS_BATCH_SIZE", help="texts per request", ge=1)] = 32


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


class Embeddings:
    """A model that turns texts into vectors.

    Args:
        pool: Where its connections come from.
        settings: Where it is.

    Attributes:
        endpoint: The endpoint it talks to.
    """

    def __init__(self, pool: HttpPool, settings: EmbeddingsSettings) -> None:
        self.settings = settings
        self.endpoint: Endpoint = pool.endpoint(
            "embeddings",
            base_of(settings.url, PATH),
            api_key=settings.api_key,
            timeout=settings.timeout,
            setting="EMBEDDINGS_URL",
        )
        self._model = ModelName(self.endpoint, settings.model)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in the order of `texts`; all have the same dimension.

        Raises:
            UpstreamError: If the endpoint fails; `UpstreamProtocol` if vectors are missing, doubled or uneven.
            Overloaded: If no connection becomes free in time.
        """
        vectors: list[list[float]] = []
        size = self.settings.batch_size
        for start in range(0, len(texts), size):
            vectors += await self._batch(texts[start : start + size])
        dimensions = {len(vector) for vector in vectors}
        if len(dimensions) > 1 or 0 in dimensions:
            raise self.endpoint.unreadable(f"vectors of {sorted(dimensions)} dimensions")
        return vectors

    async def _batch(self, texts: Sequence[str]) -> list[list[float]]:
        answer = await self.endpoint.post_json(
            PATH,
            {"model": await self._model.get(), "input": list(texts), "encoding_format": "float"},
            _Embeddings,
            idempotent=True,
        )
        vectors = {item.index: item.embedding for item in answer.data}
        if len(answer.data) != len(texts) or vectors.keys() != set(range(len(texts))):
            raise self.endpoint.unreadable(f"{len(vectors)} different vectors for {len(texts)} texts")
        return [vectors[index] for index in range(len(texts))]
