import pytest

from handler_base.clients.vectors import VectorSettings, open_vector_store
from handler_base.clients.vectors.milvus import MilvusVectorStore
from handler_base.clients.vectors.sqlite import SqliteVectorStore
from handler_base.config import help_text, load
from handler_base.errors import ConfigError, InvalidRequest
from handler_base.http import HttpPool, HttpSettings


def settings(**environ):
    return load(VectorSettings, environ)


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, "sqlite"),
        ({"MILVUS_HOST": "milvus"}, "milvus"),
        ({"MILVUS_HOST": "milvus", "VECTOR_STORE": "sqlite"}, "sqlite"),
        ({"MILVUS_HOST": "milvus", "VECTOR_STORE": "milvus"}, "milvus"),
    ],
)
async def test_milvus_is_used_when_it_is_named_and_sqlite_otherwise(environ, kind):
    found = settings(**environ)
    assert found.kind == kind
    pool = HttpPool(HttpSettings())
    store = open_vector_store(found, pool)
    assert isinstance(store, {"sqlite": SqliteVectorStore, "milvus": MilvusVectorStore}[kind])
    await store.aclose()
    await pool.aclose()


def test_the_address_of_milvus_is_put_together_from_its_parts():
    assert settings(MILVUS_HOST="m").milvus_url == "http://m:19530"
    cloud = settings(MILVUS_HOST="in01.zillizcloud.com", MILVUS_SCHEME="https", MILVUS_PORT="443")
    assert cloud.milvus_url == "https://in01.zillizcloud.com:443"


def test_the_port_that_kubernetes_sets_beside_a_service_called_milvus_is_understood():
    assert (
        settings(MILVUS_HOST="milvus", MILVUS_PORT="tcp://10.43.0.7:19530").milvus_url
        == "http://milvus:19530"
    )


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "tcp://10.0.0.1", "\N{FULLWIDTH DIGIT ONE}9"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ConfigError, match="MILVUS_PORT"):
        _ = settings(MILVUS_HOST="m", MILVUS_PORT=port).milvus_url


def test_milvus_without_a_host_is_refused():
    with pytest.raises(ConfigError, match="MILVUS_HOST must be set"):
        open_vector_store(settings(VECTOR_STORE="milvus"), HttpPool(HttpSettings()))


def test_an_impossible_default_collection_is_refused():
    with pytest.raises(InvalidRequest, match="cannot be used"):
        open_vector_store(settings(COLLECTION_NAME="a b"), HttpPool(HttpSettings()))


def test_the_token_is_not_printed():
    found = settings(MILVUS_TOKEN="root:secret")
    assert "secret" not in repr(found)
    assert "secret" not in help_text(VectorSettings)


def test_another_store_is_refused():
    with pytest.raises(ConfigError, match="VECTOR_STORE"):
        settings(VECTOR_STORE="postgres")
