"""The reranker client: both contracts, and rankings that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_base.clients.reranker import Ranked, Reranker, RerankerSettings
from handler_base.errors import UpstreamProtocol
from handler_testkit.endpoints import Exchange, HttpEndpoint, answering
from handler_testkit.models import inference

if TYPE_CHECKING:
    from handler_base.http import HttpPool

DOCUMENTS = ["nothing of use", "the answer is forty two", "what is the answer"]


async def test_the_best_documents_come_first(pool: HttpPool) -> None:
    async with HttpEndpoint(inference()) as server:
        reranker = Reranker(pool, RerankerSettings(url=f"{server.url}/reranker", model="m"))
        ranked = await reranker.rerank("what is the answer", DOCUMENTS, 2)
        assert ranked == [Ranked(2, 4.0), Ranked(1, 3.0)]
        assert server.requests[0].json() == {
            "query": "what is the answer", "documents": DOCUMENTS, "top_n": 2, "model": "m",
        }  # fmt: skip
        assert len(await reranker.rerank("answer", DOCUMENTS, 50)) == 3
        assert server.requests[1].json()["top_n"] == 3


async def test_tei_has_other_names_for_the_same(pool: HttpPool) -> None:
    async def tei(exchange: Exchange) -> None:
        texts = exchange.request.json()["texts"]
        await exchange.json([{"index": index, "score": index / 10} for index in range(len(texts))])

    async with HttpEndpoint(tei) as server:
        reranker = Reranker(pool, RerankerSettings(url=f"{server.url}/rerank", api="tei"))
        assert await reranker.rerank("q", DOCUMENTS, 2) == [Ranked(2, 0.2), Ranked(1, 0.1)]
        assert server.requests[0].path == "/rerank"


async def test_nothing_to_rank_needs_no_call(pool: HttpPool) -> None:
    reranker = Reranker(pool, RerankerSettings(url="http://127.0.0.1:1"))
    assert await reranker.rerank("q", [], 3) == []
    assert await reranker.rerank("q", DOCUMENTS, 0) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"results": [{"index": 3, "relevance_score": 1}]},
        {"results": [{"index": -1, "relevance_score": 1}]},
        {"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 2}]},
        {"results": [{"index": 0}]},
        {"results": [{"index": 0, "relevance_score": "high"}]},
        {},
        [{"index": 0, "score": 1}],
    ],
)
async def test_a_ranking_that_does_not_fit_is_an_error(pool: HttpPool, answer: object) -> None:
    async with HttpEndpoint(answering(answer)) as server:
        with pytest.raises(UpstreamProtocol, match=r"reranker at .* answered something we cannot read"):
            await Reranker(pool, RerankerSettings(url=server.url)).rerank("q", DOCUMENTS, 3)
