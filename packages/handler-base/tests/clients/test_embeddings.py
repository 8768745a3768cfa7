"""The embeddings client: batches, order, and answers that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from handler_base.clients.embeddings import Embeddings, EmbeddingsSettings
from handler_base.errors import UpstreamProtocol, UpstreamRejected
from handler_testkit.endpoints import HttpEndpoint, answering, in_turn, routed
from handler_testkit.models import embeddings, inference, vector_of

if TYPE_CHECKING:
    from handler_base.http import HttpPool


def embeddings_at(pool: HttpPool, server: HttpEndpoint, **settings: Any) -> Embeddings:
    return Embeddings(pool, EmbeddingsSettings(url=server.url, **{"model": "m", **settings}))


async def test_vectors_come_in_the_order_of_the_texts_over_several_batches(pool: HttpPool) -> None:
    texts = [f"text {number}" for number in range(10)]
    async with HttpEndpoint(embeddings(16)) as server:
        assert await embeddings_at(pool, server, batch_size=4).embed(texts) == [
            vector_of(text, 16) for text in texts
        ]
        assert [len(request.json()["input"]) for request in server.requests] == [4, 4, 2]
        assert {request.path for request in server.requests} == {"/v1/embeddings"}
        assert server.requests[0].json()["encoding_format"] == "float"


async def test_no_texts_need_no_call(pool: HttpPool) -> None:
    assert await Embeddings(pool, EmbeddingsSettings(url="http://127.0.0.1:1")).embed([]) == []


async def test_the_first_model_that_the_endpoint_lists_is_asked_for(pool: HttpPool) -> None:
    async with HttpEndpoint(inference()) as server:
        client = Embeddings(pool, EmbeddingsSettings(url=f"{server.url}/embeddings/v1"))
        assert len(await client.embed(["a"])) == 1
        assert server.requests[-1].json()["model"] == "scripted"


async def test_a_failing_batch_is_repeated(pool: HttpPool) -> None:
    async with HttpEndpoint(in_turn(answering({}, 500), embeddings())) as server:
        assert await embeddings_at(pool, server).embed(["a"]) == [vector_of("a")]


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}],
        [{"index": index, "embedding": [1.0]} for index in range(3)],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": "AACAPw=="}, {"index": 1, "embedding": "AACAPw=="}],
        [{"index": 0, "embedding": [None]}, {"index": 1, "embedding": [None]}],
    ],
    ids=["none", "too few", "doubled", "shifted", "too many", "uneven", "empty", "base64", "null"],
)
async def test_vectors_that_do_not_fit_the_texts_are_an_error(pool: HttpPool, data: list) -> None:
    async with HttpEndpoint(answering({"data": data})) as server:
        with pytest.raises(UpstreamProtocol, match=r"embeddings at .* answered something we cannot read"):
            await embeddings_at(pool, server).embed(["a", "b"])


async def test_a_rejection_names_the_setting(pool: HttpPool) -> None:
    async with HttpEndpoint(routed({})) as server:
        with pytest.raises(UpstreamRejected, match="check EMBEDDINGS_URL and the model's name"):
            await embeddings_at(pool, server).embed(["a"])
