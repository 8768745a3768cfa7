"""What is Milvus' own: two versions of REST, errors in 200s, reads behind writes, collections made by others."""

import asyncio
import json

import msgspec
import pytest

from handler_base.clients.vectors import Chunk
from handler_base.clients.vectors._milvus_rest import RestV1, RestV2
from handler_base.clients.vectors._milvus_schema import Description, shape_of
from handler_base.clients.vectors.milvus import MilvusVectorStore
from handler_base.config import Secret
from handler_base.errors import (
    NotFound,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.endpoints import HttpEndpoint, answering
from handler_testkit.milvus_v2 import milvus_v2


@pytest.fixture
async def pool():
    pool = HttpPool(HttpSettings(retries=0))
    yield pool
    await pool.aclose()


@pytest.fixture
def server():
    with milvus_v2() as server:
        yield server


def opened(pool, server, **options):
    endpoint = pool.endpoint(
        "vectors",
        f"http://{server.host}:{server.port}",
        api_key=Secret(options.pop("token", server.token)),
        timeout=5,
    )
    return MilvusVectorStore(endpoint, **{"write_timeout": 5.0, **options})


@pytest.fixture
def store(pool, server):
    return opened(pool, server)


def chunks(document_id, count=1, content_hash="h"):
    return [
        Chunk(document_id, n, f"text {n}", "title", "uri", "source", content_hash, [1.0, float(n)])
        for n in range(count)
    ]


async def test_the_version_is_asked_once_and_remembered(store, server):
    await store.collections()
    await store.collections()
    assert server.calls == ["collections/list"] * 3  # once to ask, once per call


async def test_a_server_without_v2_is_spoken_to_in_v1(pool):
    async def old(exchange):
        if exchange.request.path == "/v1/vector/collections":
            await exchange.json({"code": 200, "data": ["b", "a"]})
        else:
            await exchange.answer(b"404 page not found", status=404)

    async with HttpEndpoint(old) as site:
        store = MilvusVectorStore(pool.endpoint("vectors", site.url, timeout=5), database="other")
        assert await store.collections() == ["a", "b"]
        assert await store.collections() == ["a", "b"]
    assert [request.path for request in site.requests] == [
        "/v2/vectordb/collections/list",
        "/v1/vector/collections",
        "/v1/vector/collections",
    ]
    assert site.requests[1].query == {"dbName": "other"}
    assert site.requests[0].json() == {"dbName": "other"}


async def test_a_server_that_is_down_is_not_taken_for_an_old_one(pool, server, store):
    server.refuse["collections/list"] = [(1, "service not ready")]
    with pytest.raises(UpstreamUnavailable, match="service not ready"):
        await store.collections()
    assert await store.collections() == []


@pytest.mark.parametrize("api", ["auto", "v2"])
async def test_a_refused_token_names_the_setting(pool, server, api):
    with pytest.raises(UpstreamRejected, match="MILVUS_TOKEN") as raised:
        await opened(pool, server, api=api, token="root:wrong").collections()
    assert raised.value.status == 401


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (1, UpstreamUnavailable, "not ready"),
        (8, UpstreamUnavailable, "not ready"),
        (101, UpstreamUnavailable, "not ready"),
        (1807, UpstreamUnavailable, "not ready"),
        (10001, UpstreamTimeout, "not ready"),
        (1401, UpstreamRejected, "MILVUS_TOKEN"),
        (800, NotFound, "MILVUS_DATABASE"),
        (65535, UpstreamRejected, "code 65535"),
    ],
)
async def test_codes_in_a_200_become_errors_of_the_tree(store, server, code, kind, says):
    await store.collections()
    server.refuse["collections/list"] = [(code, "not ready")]
    with pytest.raises(kind, match=says):
        await store.collections()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"code": "x"}', b'{"code": 0, "data": {"a": 1}}', b""])
async def test_an_answer_that_is_not_milvus_is_a_broken_contract(pool, body):
    async def script(exchange):
        await exchange.answer(body)

    async with HttpEndpoint(script) as site:
        store = MilvusVectorStore(pool.endpoint("vectors", site.url, timeout=5))
        with pytest.raises(UpstreamProtocol, match="unreadable"):
            await store.collections()


async def test_a_hit_without_a_distance_is_a_broken_contract(store, server, monkeypatch):
    await store.ensure_collection("", 2)
    monkeypatch.setattr(type(server), "_entities_search", lambda *_: [{"id": "1"}])
    with pytest.raises(UpstreamProtocol, match="distance"):
        await store.search("", [1.0, 0.0], 3)


async def test_a_collection_is_made_with_text_keys_and_cosine_and_awaited_until_loaded(store, server):
    server.describes_until_loaded = 3
    await store.ensure_collection("", 2)
    made = server.collections["documents"]
    assert made.key == "id"
    assert made.auto_id is False
    assert made.indexes[0]["metricType"] == "COSINE"
    assert server.calls.count("collections/load") == 1
    assert server.complaints == []


async def test_loading_that_takes_too_long_is_a_timeout(pool, server):
    server.describes_until_loaded = 10**6
    with pytest.raises(UpstreamTimeout, match="load"):
        await opened(pool, server, write_timeout=0.1).ensure_collection("", 2)


async def test_writes_that_are_not_seen_in_time_are_a_timeout(pool, server):
    store = opened(pool, server, write_timeout=0.1)
    await store.ensure_collection("", 2)
    server.stale_queries = 10**6
    with pytest.raises(UpstreamTimeout, match="to show what was written"):
        await store.upsert("", chunks("a"))


async def test_a_document_shows_up_only_when_its_last_chunk_is_written(store, server):
    await store.ensure_collection("", 2)
    await store.upsert("", chunks("a", 2))
    server.refuse["entities/upsert"] = [(65535, "disk full")]
    with pytest.raises(UpstreamRejected, match="disk full"):
        await store.upsert("", chunks("a", 5, "h2"))
    assert (await store.documents(""))["a"].content_hash == "h"

    # The second request carries position 0: when it fails, the rest is there but nobody counts on it.
    upsert = type(server)._entities_upsert
    writes = []

    def second_fails(self, request):
        writes.append(request)
        if len(writes) == 2:
            server.refuse["entities/query"] = [(65535, "crash")]
        return upsert(self, request)

    type(server)._entities_upsert = second_fails
    try:
        with pytest.raises(UpstreamRejected, match="crash"):
            await store.upsert("", chunks("b", 3))
    finally:
        type(server)._entities_upsert = upsert
    assert [row["position"] for row in writes[0]["data"]] == [1, 2]
    assert [row["position"] for row in writes[1]["data"]] == [0]


async def test_shorter_documents_lose_their_old_tail(store, server):
    await store.ensure_collection("", 2)
    await store.upsert("", chunks("a", 5))
    await store.upsert("", chunks("a", 2, "h2"))
    assert sorted(server.collections["documents"].rows) == ["a:000000", "a:000001"]


def row(name):
    return {"document_id": name, "position": 0, "content_hash": "h", "source": "s", "uri": "u"}


async def test_more_documents_than_one_answer_holds_are_found_in_halves(pool, server):
    store = opened(pool, server, query_limit=8)
    await store.ensure_collection("", 2)
    names = {f"d{number:03d}" for number in range(50)} | {"", "é", '"', "~"}
    for name in names:
        server.collections["documents"].rows[name] = row(name)
    assert set(await store.documents("")) == names
    assert server.complaints == []


async def test_a_collection_dropped_or_made_anew_by_others_is_looked_at_again(store, server):
    await store.ensure_collection("", 2)
    await store.upsert("", chunks("a"))
    dropped = server.collections.pop("documents")
    with pytest.raises(NotFound, match="'documents'"):
        await store.search("", [1.0, 0.0], 3)
    server.collections["documents"] = dropped
    assert len(await store.search("", [1.0, 0.0], 3)) == 1

    dropped.rows.clear()
    dropped.fields["vector"]["elementTypeParams"] = {"dim": "3"}
    with pytest.raises(UpstreamRejected, match="mismatch"):
        await store.search("", [1.0, 0.0], 3)
    assert await store.search("", [1.0, 0.0, 0.0], 3) == []


async def test_keys_made_by_the_server_are_deleted_before_new_rows_are_inserted(store, server):
    await store.ensure_collection("", 2)
    made = server.collections["documents"]
    made.auto_id, made.dynamic = True, True
    made.fields = {
        "id": {"dataType": "Int64", "isPrimary": True},
        "vector": {"dataType": "FloatVector", "elementTypeParams": {"dim": "2"}},
    }
    fresh = MilvusVectorStore(store._endpoint)
    await fresh.upsert("", chunks("a", 3))
    await fresh.upsert("", chunks("a", 2, "h2"))
    assert [row["content_hash"] for row in made.rows.values()] == ["h2", "h2"]
    assert "entities/upsert" not in server.calls
    assert server.complaints == []


FOREIGN = {
    "fields": [
        {"name": "pk", "type": "Int64", "primaryKey": True, "autoId": True},
        {"name": "text", "type": "VarChar(65535)", "primaryKey": False},
        {"name": "embedding", "type": "FloatVector(2)", "primaryKey": False},
    ],
    "indexes": [{"fieldName": "embedding", "indexName": "i", "metricType": "L2"}],
    "load": "LoadStateLoaded",
    "enableDynamic": False,
}


async def test_a_collection_made_by_another_program_can_be_searched(pool):
    async def script(exchange):
        path = exchange.request.path
        if path.endswith("describe"):
            await exchange.json({"code": 0, "data": FOREIGN})
        elif path.endswith("list"):
            await exchange.json({"code": 0, "data": ["foreign"]})
        else:
            await exchange.json({"code": 0, "data": [{"distance": 0.5, "pk": 1, "text": "hello"}]})

    async with HttpEndpoint(script) as site:
        store = MilvusVectorStore(pool.endpoint("vectors", site.url, timeout=5))
        (passage,) = await store.search("foreign", [1.0, 0.0], 3)
        assert (passage.text, passage.uri, passage.score) == ("hello", "", 0.75)
        body = site.requests[-1].json()
        assert body["annsField"] == "embedding"
        assert body["outputFields"] == ["text"]


def described(**changes):
    return msgspec.convert(FOREIGN | changes, Description)


def test_descriptions_of_both_versions_give_the_same_shape():
    v2 = [
        {
            "name": "id",
            "type": "VarChar",
            "primaryKey": True,
            "params": [{"key": "max_length", "value": "64"}],
        },
        {"name": "vector", "type": "FloatVector", "params": [{"key": "dim", "value": "384"}]},
    ]
    shape = shape_of(described(fields=v2, indexes=None, enableDynamicField=True), "c")
    assert (shape.dimension, shape.vector_field, shape.key_field, shape.key_is_text) == (
        384,
        "vector",
        "id",
        True,
    )
    assert (shape.metric, shape.fields, shape.auto_id) == ("COSINE", None, False)
    v1 = shape_of(described(), "c")
    assert (v1.dimension, v1.metric, v1.auto_id, v1.key_is_text) == (2, "L2", True, False)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [{"name": "id", "type": "Int64", "primaryKey": True}],
        [{"name": "id", "type": "Int64", "primaryKey": True}, {"name": "v", "type": "BinaryVector(8)"}],
        [{"name": "id", "type": "Int64", "primaryKey": True}, {"name": "v", "type": "FloatVector"}],
        [{"name": "v", "type": "FloatVector(2)"}],
    ],
)
def test_a_collection_that_cannot_hold_embeddings_is_refused(fields):
    with pytest.raises(UpstreamProtocol, match="'c' has no field of float vectors"):
        shape_of(described(fields=fields), "c")


async def test_integer_keys_are_deleted_as_numbers_in_v2(pool):
    async with HttpEndpoint(answering({"code": 0, "data": {}})) as site:
        rest = RestV2(pool.endpoint("vectors", site.url, timeout=5), "")
        await rest.delete("c", shape_of(described(), "c"), ["12", "34"], 5)
        assert site.requests[0].json()["filter"] == "pk in [12, 34]"


async def test_v1_is_told_nothing_to_load(pool):
    async with HttpEndpoint(answering({"code": 0, "data": {}})) as site:
        await RestV1(pool.endpoint("vectors", site.url, timeout=5), "").load("c", 5)
        assert site.requests == []


async def test_an_insert_is_not_repeated_but_an_upsert_is():
    failing = []

    async def script(exchange):
        failing.append(exchange.request.path)
        await exchange.json({}, status=503)

    async def no_sleep(_):
        pass

    pool = HttpPool(HttpSettings(retries=2), sleep=no_sleep)
    async with HttpEndpoint(script) as site:
        rest = RestV2(pool.endpoint("vectors", site.url, timeout=5), "")
        for upsert in (False, True):
            with pytest.raises(UpstreamUnavailable):
                await rest.write("c", [], upsert=upsert, timeout=5)
    await pool.aclose()
    assert [path.rsplit("/", 1)[1] for path in failing] == ["insert", "upsert", "upsert", "upsert"]


async def test_it_is_reachable_whatever_it_answers_and_says_why_not(pool, server):
    await opened(pool, server, token="wrong").reachable()
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(UpstreamUnavailable, match="vectors"):
        await opened(pool, server).reachable()


async def test_a_cancelled_upsert_ends_at_once(pool, server):
    store = opened(pool, server, write_timeout=60)
    await store.ensure_collection("", 2)
    server.stale_queries = 10**6
    task = asyncio.create_task(store.upsert("", chunks("a")))
    async with asyncio.timeout(10):
        while "entities/upsert" not in server.calls:
            await asyncio.to_thread(lambda: None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_stand_in_refuses_what_the_documentation_does_not_have(server):
    def told(name, body, token="root:Milvus"):
        return server.answer(f"/v2/vectordb/{name}", f"Bearer {token}", json.dumps(body).encode())

    assert told("collections/list", {"dbname": "x"})[1]["code"] == 1801
    assert told("collections/describe", {})[1]["code"] == 1802
    assert told("entities/search", {"collectionName": 1, "data": []})[1]["code"] == 1801
    assert told("collections/list", {}, token="x")[0] == 401
    assert told("nothing", {})[0] == 404
    assert len(server.complaints) == 3
