"""The model behind the routes: loaded in the background, computing in one thread beside the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from local_inference.wire import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_inference.extractive import Quoter
    from local_inference.minilm import Floats, MiniLM
    from local_inference.passages import Prompt

_SLICE_TOKENS = 1024
"""Tokens computed in one go, about 0.2 s on two cores: what a cancel or a short question waits for at most."""

T = TypeVar("T")


class Engine:
    """MiniLM and what stands on it. numpy uses every core by itself, so one thread is enough.

    Args:
        max_tokens: Where texts are cut.
    """

    def __init__(self, *, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="minilm")
        self._model: MiniLM | None = None
        self._quoter: Quoter | None = None

    @property
    def ready(self) -> bool:
        """Whether the weights are loaded."""
        return self._quoter is not None

    async def load(self) -> None:
        """Load the weights and compute once, so that the first request is as quick as the next."""
        await self._run(self._load)

    def close(self) -> None:
        """Give up the thread; what runs there ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def embed(self, texts: Sequence[str]) -> tuple[Floats, int]:
        """Return the vectors of `texts` and the number of tokens they took.

        Work is cut into slices, so that a long batch shares the thread with others and stops when it is cancelled.

        Raises:
            ApiError: 503 while the weights load.
        """
        import numpy as np

        model, _ = self._loaded()
        tokens = await self._run(model.tokenize, texts)
        parts: list[Floats] = []
        start = held = 0
        for end, ids in enumerate(tokens, 1):
            held += len(ids)
            if held >= _SLICE_TOKENS or end == len(tokens):
                parts.append(await self._run(model.embed, tokens[start:end]))
                start, held = end, 0
        return np.concatenate(parts), sum(map(len, tokens))

    async def quote(self, prompt: Prompt) -> str:
        """Return the stand-in's answer.

        Raises:
            ApiError: 503 while the weights load.
        """
        _, quoter = self._loaded()
        return await self._run(quoter.answer, prompt)

    async def rank(self, query: str, documents: Sequence[str]) -> list[float]:
        """Return a BM25 score between 0 and 1 for each document."""
        from local_inference.ranking import bm25

        return await self._run(bm25, query, documents)

    def _loaded(self) -> tuple[MiniLM, Quoter]:
        if self._model is None or self._quoter is None:
            raise ApiError(503, "the model is still loading", code="model_loading")
        return self._model, self._quoter

    def _load(self) -> None:
        from local_inference.extractive import Quoter
        from local_inference.minilm import MiniLM, model_folder
        from local_inference.ranking import bm25

        model = MiniLM(model_folder(), max_tokens=self._max_tokens)
        self._model, self._quoter = model, Quoter(lambda texts: model.embed(model.tokenize(texts)))
        model.embed(model.tokenize(["warm"]))
        bm25("warm", ["warm"])

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
