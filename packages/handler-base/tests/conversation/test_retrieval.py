import asyncio

import pytest

from handler_base.clients.vectors import Chunk, Passage
from handler_base.clients.vectors.sqlite import SqliteVectorStore
from handler_base.conversation.retrieval import Embedded, Retrieval, RetrievalSettings
from handler_base.errors import (
    NotFound,
    Overloaded,
    ShuttingDown,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
)


class Ranked:
    def __init__(self, index, score):
        self.index, self.score = index, score


class Embeddings:
    """Embeds a text as the counts of three words."""

    def __init__(self, error=None):
        self.error = error
        self.asked = []

    async def embed(self, texts):
        self.asked.append(list(texts))
        if self.error is not None:
            raise self.error
        return [[float(text.count(word)) for word in ("cat", "dog", "fish")] for text in texts]


class Reranker:
    """Prefers long documents."""

    def __init__(self, error=None, answer=None):
        self.error = error
        self.answer = answer
        self.asked = []

    async def rerank(self, query, documents, top_n):
        self.asked.append((query, list(documents), top_n))
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            return self.answer
        return [Ranked(index, float(len(text))) for index, text in enumerate(documents)][:top_n]


class Vectors:
    def __init__(self, passages=(), error=None):
        self.passages = list(passages)
        self.error = error
        self.asked = []

    async def search(self, collection, vector, limit):
        self.asked.append((collection, list(vector), limit))
        if self.error is not None:
            raise self.error
        return self.passages[:limit]


def passage(text, score=0.5):
    return Passage(text, "title", "uri", "id", score)


def retrieval(vectors=None, embeddings=None, reranker=None, **settings):
    return Retrieval(
        embeddings or Embeddings(), vectors or Vectors(), reranker, RetrievalSettings(**settings)
    )


async def test_a_question_finds_its_passages_in_the_real_store(tmp_path):
    store = SqliteVectorStore(tmp_path / "kb.db")
    await store.ensure_collection("pets", 3)
    for key, text in {"a": "cat cat", "b": "a dog and a cat", "c": "fish"}.items():
        (vector,) = await Embeddings().embed([text])
        await store.upsert("pets", [Chunk(key, 0, text, "Pets", "pets.md", "pets", "h", vector)])

    found = await retrieval(store).retrieve("cat?", collection="pets", top_k=2)

    assert [p.text for p in found.passages] == ["cat cat", "a dog and a cat"]
    assert found.warnings == []
    assert set(found.timings) == {"embed", "search"}
    assert all(seconds >= 0 for seconds in found.timings.values())
    await store.aclose()


async def test_the_reranker_sees_more_candidates_than_wanted_with_their_titles_and_sets_order_and_score():
    vectors = Vectors([passage(text) for text in ("short", "the longest of all", "a medium one", "x")])
    reranker = Reranker(answer=[Ranked(1, 0.9), Ranked(3, 0.1)])

    found = await retrieval(vectors, reranker=reranker, candidates=3).retrieve("q", top_k=2)

    assert vectors.asked[0][2] == 6
    ((query, documents, top_n),) = reranker.asked
    assert (query, top_n, len(documents)) == ("q", 2, 4)
    assert documents[0] == "title\nshort"
    assert [(p.text, p.score) for p in found.passages] == [("the longest of all", 0.9), ("x", 0.1)]
    assert set(found.timings) == {"embed", "search", "rerank"}


async def test_a_request_may_switch_the_reranker_on_and_off():
    reranker = Reranker()
    vectors = Vectors([passage("a"), passage("b")])
    await retrieval(vectors, reranker=reranker).retrieve("q", rerank=False)
    assert reranker.asked == []
    assert vectors.asked[-1][2] == 5
    await retrieval(vectors, reranker=reranker, enable_reranker=False).retrieve("q")
    assert reranker.asked == []
    await retrieval(vectors, reranker=reranker, enable_reranker=False).retrieve("q", rerank=True)
    assert len(reranker.asked) == 1


@pytest.mark.parametrize(("asked", "limit"), [(0, 3), (-5, 3), (7, 7), (1000, 8)])
async def test_top_k_has_a_default_and_a_limit(asked, limit):
    vectors = Vectors([passage(str(n)) for n in range(50)])
    found = await retrieval(vectors, top_k=3, top_k_max=8).retrieve("q", top_k=asked)
    assert len(found.passages) == limit
    assert vectors.asked[0][2] == limit


async def test_passages_below_the_least_score_are_left_out():
    vectors = Vectors([passage("good", 0.8), passage("bad", 0.2)])
    found = await retrieval(vectors, min_score=0.5).retrieve("q")
    assert [p.text for p in found.passages] == ["good"]

    reranker = Reranker(answer=[Ranked(0, 3.0), Ranked(1, -2.0)])
    found = await retrieval(vectors, reranker=reranker, rerank_min_score=0.0).retrieve("q")
    assert [p.text for p in found.passages] == ["good"]


async def test_a_vector_embedded_before_is_not_embedded_again():
    embeddings, vectors = Embeddings(), Vectors([passage("a")])
    room = retrieval(vectors, embeddings)
    embedded = await room.embed("cat")
    found = await room.retrieve("cat", vector=embedded, collection="pets")
    assert embeddings.asked == [["cat"]]
    assert vectors.asked == [("pets", [1.0, 0.0, 0.0], 5)]
    assert found.timings["embed"] == embedded.seconds


DOWN = UpstreamUnavailable("refused", endpoint="x")


@pytest.mark.parametrize("error", [DOWN, UpstreamTimeout("slow"), Overloaded("too many")])
async def test_without_embeddings_there_are_no_passages_but_a_warning(error):
    vectors = Vectors([passage("a")])
    found = await retrieval(vectors, Embeddings(error)).retrieve("q")
    assert found.passages == []
    assert vectors.asked == []
    (warning,) = found.warnings
    assert "without the knowledge base" in warning
    assert error.message in warning
    assert set(found.timings) == {"embed"}


@pytest.mark.parametrize("error", [DOWN, NotFound("there is no collection 'x'"), UpstreamProtocol("damaged")])
async def test_without_the_store_there_are_no_passages_but_a_warning(error):
    reranker = Reranker()
    found = await retrieval(Vectors(error=error), reranker=reranker).retrieve("q")
    assert found.passages == []
    assert reranker.asked == []
    (warning,) = found.warnings
    assert error.message in warning
    assert set(found.timings) == {"embed", "search"}


async def test_without_the_reranker_the_order_of_the_search_stays_with_a_warning():
    vectors = Vectors([passage(str(n)) for n in range(9)])
    found = await retrieval(vectors, reranker=Reranker(DOWN)).retrieve("q", top_k=2)
    assert [p.text for p in found.passages] == ["0", "1"]
    (warning,) = found.warnings
    assert "not reranked" in warning
    assert set(found.timings) == {"embed", "search", "rerank"}


async def test_nothing_found_is_not_reranked_and_no_warning():
    reranker = Reranker()
    found = await retrieval(reranker=reranker).retrieve("q")
    assert (found.passages, found.warnings, reranker.asked) == ([], [], [])


@pytest.mark.parametrize("step", ["embed", "search", "rerank"])
async def test_a_step_that_stalls_is_given_up_with_a_warning(step):
    async def stall(*_):
        await asyncio.Event().wait()

    parts = {"embed": Embeddings(), "search": Vectors([passage("a")]), "rerank": Reranker()}
    setattr(parts[step], step, stall)
    room = retrieval(parts["search"], parts["embed"], parts["rerank"], timeout=0.01)
    found = await room.retrieve("q")
    assert f"{step} took longer than 0.01 s" in found.warnings[0]
    assert [p.text for p in found.passages] == (["a"] if step == "rerank" else [])


@pytest.mark.parametrize("step", ["embed", "search", "rerank"])
async def test_cancellation_goes_through_every_step(step):
    entered = asyncio.Event()

    async def stall(*_):
        entered.set()
        await asyncio.Event().wait()

    parts = {"embed": Embeddings(), "search": Vectors([passage("a")]), "rerank": Reranker()}
    setattr(parts[step], step, stall)
    task = asyncio.create_task(retrieval(parts["search"], parts["embed"], parts["rerank"]).retrieve("q"))
    async with asyncio.timeout(5):
        await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_was_told_to_stop_is_not_taken_for_a_failing_step():
    with pytest.raises(ShuttingDown):
        await retrieval(embeddings=Embeddings(ShuttingDown("bye"))).retrieve("q")


async def test_an_embedding_that_failed_before_carries_its_warning_on():
    found = await retrieval().retrieve("q", vector=Embedded((), 0.5, ("because",)))
    assert (found.warnings, found.timings) == (["because"], {"embed": 0.5})
