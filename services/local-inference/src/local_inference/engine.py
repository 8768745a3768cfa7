"""The model behind the routes: loaded in the background, computing in threads beside the event loop."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from local_inference.wire import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from local_inference.extractive import Quoter
    from local_inference.minilm import Floats, MiniLM
    from local_inference.passages import Prompt

_SLICE_TOKENS = 512
"""Tokens that one thread computes in one go, about 0.15 s: what a cancel or a short question waits for."""

T = TypeVar("T")


class Engine:
    """MiniLM and what stands on it.

    The cores are shared by texts, one thread each, not by the parts of one matrix product: the threads of a BLAS
    wait for each other in busy loops, which on a busy machine costs more than they bring.

    Args:
        max_tokens: Where texts are cut.
        threads: How many compute, 0 for one per core.
    """

    def __init__(self, *, max_tokens: int, threads: int = 0) -> None:
        self._max_tokens = max_tokens
        self._threads = threads or os.cpu_count() or 1
        self._compute = ThreadPoolExecutor(self._threads, thread_name_prefix="minilm")
        self._text = ThreadPoolExecutor(1, thread_name_prefix="text")
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
        """Give up the threads; what runs there ends by itself."""
        for pool in (self._compute, self._text):
            pool.shutdown(wait=False, cancel_futures=True)

    async def embed(self, texts: Sequence[str]) -> tuple[Floats, int]:
        """Return the vectors of `texts` and the number of tokens they took.

        Work is cut into slices, so that a long batch shares the threads with others and stops when it is cancelled.

        Raises:
            ApiError: 503 while the weights load.
        """
        import numpy as np

        model, _ = self._loaded()
        tokens = await self._run(model.tokenize, texts)
        slices = list(_sliced(tokens))
        parts: list[Floats] = [np.empty(0, np.float32)] * len(slices)
        waiting = iter(enumerate(slices))
        loop = asyncio.get_running_loop()

        async def work() -> None:
            for index, part in waiting:
                parts[index] = await loop.run_in_executor(self._compute, model.embed, part)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._threads, len(slices))):
                group.create_task(work())
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
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        os.environ.setdefault("MKL_NUM_THREADS", "1")
        import numpy as np

        from local_inference.extractive import Quoter
        from local_inference.minilm import MiniLM, model_folder
        from local_inference.ranking import bm25

        model = MiniLM(model_folder(), max_tokens=self._max_tokens)

        def embed(texts: Sequence[str]) -> Floats:
            return np.concatenate(list(self._compute.map(model.embed, _sliced(model.tokenize(texts)))))

        self._model, self._quoter = model, Quoter(embed)
        embed(["warm"])
        bm25("warm", ["warm"])

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._text, function, *arguments)


def _sliced(tokens: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    part: list[list[int]] = []
    held = 0
    for ids in tokens:
        part.append(ids)
        held += len(ids)
        if held >= _SLICE_TOKENS:
            yield part
            part, held = [], 0
    if part:
        yield part
