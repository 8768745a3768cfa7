"""What every vector store promises, against SQLite, the real Milvus (REST v1) and the strict stand-in for REST v2."""

import asyncio
import math
import uuid

import pytest

from handler_base.clients.vectors import Chunk, Document, VectorSettings, open_vector_store
from handler_base.config import Secret
from handler_base.errors import InvalidRequest, NotFound
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.milvus_v2 import milvus_v2

AWKWARD = 'Zoë said: "2 < 3 && a\\b" \n\t\u2028 🦊 \x7f'


@pytest.fixture
async def pool():
    pool = HttpPool(HttpSettings())
    yield pool
    await pool.aclose()


@pytest.fixture(params=["sqlite", pytest.param("milvus", marks=pytest.mark.slow), "milvus-v2"])
async def store(request, tmp_path, pool):
    collection = f"test_{uuid.uuid4().hex}"
    if request.param == "sqlite":
        settings = VectorSettings(sqlite_path=str(tmp_path / "data" / "kb.db"), collection=collection)
        store = open_vector_store(settings, pool)
        yield store
        await store.aclose()
        return
    if request.param == "milvus":
        server = request.getfixturevalue("milvus")
    else:
        server = request.getfixturevalue("stand_in")
    settings = VectorSettings(
        milvus_host=server.host,
        milvus_port=str(server.port),
        milvus_token=Secret(server.token),
        collection=collection,
    )
    store = open_vector_store(settings, pool)
    yield store
    await store.aclose()


@pytest.fixture
def stand_in():
    with milvus_v2() as server:
        server.stale_queries = 2
        yield server
        assert server.complaints == []


def chunks(document_id, *vectors, text="text", content_hash="h1", uri=None, source="docs"):
    return [
        Chunk(
            document_id=document_id,
            position=position,
            text=f"{text} {position}",
            title=f"title of {document_id}",
            uri=uri or f"docs/{document_id}.md",
            source=source,
            content_hash=content_hash,
            vector=vector,
        )
        for position, vector in enumerate(vectors)
    ]


NORTH, EAST, SOUTH = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]
NORTH_EAST = [math.sqrt(0.5), math.sqrt(0.5), 0.0]


async def test_search_returns_the_nearest_first_with_their_cosine_similarity(store):
    await store.ensure_collection("", 3)
    await store.upsert("", [*chunks("a", NORTH, SOUTH), *chunks("b", [0.0, 5.0, 0.0], NORTH_EAST)])

    found = await store.search("", NORTH, 10)

    assert [(passage.document_id, passage.text) for passage in found] == [
        ("a", "text 0"),
        ("b", "text 1"),
        ("b", "text 0"),
        ("a", "text 1"),
    ]
    assert [passage.score for passage in found] == pytest.approx([1, math.sqrt(0.5), 0, -1], abs=1e-5)
    assert (found[0].title, found[0].uri) == ("title of a", "docs/a.md")
    assert [passage.text for passage in await store.search("", NORTH, 1)] == ["text 0"]
    assert await store.search("", NORTH, 0) == []


async def test_text_comes_back_as_it_was_stored(store):
    await store.ensure_collection("", 3)
    await store.upsert("", chunks("a", NORTH, text=AWKWARD, uri=AWKWARD, source=AWKWARD))

    (passage,) = await store.search("", NORTH, 5)

    assert passage.text == f"{AWKWARD} 0"
    assert (await store.documents(""))["a"] == Document("h1", AWKWARD, AWKWARD)


async def test_upsert_replaces_what_was_stored_of_a_document_and_nothing_else(store):
    await store.ensure_collection("", 3)
    await store.upsert("", [*chunks("a", NORTH, EAST, SOUTH, text="old"), *chunks("b", EAST)])
    await store.upsert("", chunks("a", EAST, NORTH, text="new", content_hash="h2"))

    found = await store.search("", NORTH, 10)

    assert {(passage.document_id, passage.text) for passage in found} == {
        ("a", "new 0"),
        ("a", "new 1"),
        ("b", "text 0"),
    }
    assert {key: row.content_hash for key, row in (await store.documents("")).items()} == {
        "a": "h2",
        "b": "h1",
    }


async def test_deleted_documents_are_gone_and_unknown_ones_are_no_error(store):
    await store.ensure_collection("", 3)
    await store.upsert("", [*chunks("a", NORTH, EAST), *chunks("b", EAST), *chunks("c", SOUTH)])

    await store.delete_documents("", ["a", "c", "never stored"])

    assert set(await store.documents("")) == {"b"}
    assert [passage.document_id for passage in await store.search("", NORTH, 10)] == ["b"]


async def test_ids_that_look_like_filters_select_only_themselves(store):
    hostile = ['" or position >= 0 or document_id == "', "\\", '\\" or 1 == 1', "') OR 1=1 --", "%", "a\nb"]
    await store.ensure_collection("", 3)
    await store.upsert("", [chunk for key in ["innocent", *hostile] for chunk in chunks(key, EAST)])
    assert set(await store.documents("")) == {"innocent", *hostile}

    for key in hostile:
        await store.delete_documents("", [key])

    assert set(await store.documents("")) == {"innocent"}


async def test_a_missing_collection_is_named_together_with_those_that_exist(store):
    with pytest.raises(NotFound, match="'nowhere'"):
        await store.search("nowhere", NORTH, 5)

    await store.ensure_collection("", 3)
    (existing,) = [name for name in await store.collections() if name.startswith("test_")][-1:]

    for work in (
        store.search("nowhere", NORTH, 5),
        store.documents("nowhere"),
        store.upsert("nowhere", chunks("a", NORTH)),
        store.delete_documents("nowhere", ["a"]),
    ):
        with pytest.raises(NotFound, match=existing):
            await work


@pytest.mark.parametrize("name", ["two words", "a-b", "1st", "a;drop table x", 'a"', "../x", "a" * 256, "é"])
async def test_names_that_no_store_could_keep_are_refused(store, name):
    with pytest.raises(InvalidRequest, match="cannot be used"):
        await store.search(name, NORTH, 5)
    with pytest.raises(InvalidRequest, match="cannot be used"):
        await store.ensure_collection(name, 3)


async def test_a_vector_that_does_not_fit_is_refused_with_both_dimensions(store):
    await store.ensure_collection("", 3)
    await store.ensure_collection("", 3)

    with pytest.raises(InvalidRequest, match=r"3 dimensions.* gives 2"):
        await store.search("", [1.0, 0.0], 5)
    with pytest.raises(InvalidRequest, match=r"3 dimensions.* gives 4"):
        await store.upsert("", chunks("a", [1.0, 0.0, 0.0, 0.0]))
    with pytest.raises(InvalidRequest, match="not 4"):
        await store.ensure_collection("", 4)
    with pytest.raises(InvalidRequest, match="finite"):
        await store.search("", [math.nan, 0.0, 0.0], 5)
    assert await store.documents("") == {}


async def test_several_tasks_share_one_store(store):
    await store.ensure_collection("", 3)
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(store.upsert("", chunks(f"d{number}", NORTH, EAST)))
            group.create_task(store.search("", NORTH, 5))

    assert len(await store.documents("")) == 8
    assert len(await store.search("", NORTH, 100)) == 16


async def test_more_chunks_than_one_request_carries_are_all_stored(store):
    await store.ensure_collection("", 3)
    await store.upsert("", chunks("long", *[[1.0, n / 1000, 0.0] for n in range(1100)]))
    assert len(await store.search("", NORTH, 2000)) == 1100
    await store.delete_documents("", ["long"])
    assert await store.search("", NORTH, 2000) == []


async def test_it_says_that_it_can_be_reached(store):
    await store.reachable()
