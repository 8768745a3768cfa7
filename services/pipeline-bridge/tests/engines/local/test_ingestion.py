"""The job that fills the knowledge base, as a local pipeline."""

from __future__ import annotations

import pytest

from handler_testkit.endpoints import HttpEndpoint


@pytest.fixture
async def embeddings():
    """An embeddings endpoint for which every text is the same."""

    async def serve(exchange) -> None:
        if exchange.request.path == "/v1/models":
            await exchange.json({"data": [{"id": "same"}]})
            return
        texts = exchange.request.json()["input"]
        await exchange.json({"data": [{"index": i, "embedding": [1.0] * 8} for i in range(len(texts))]})

    async with HttpEndpoint(serve) as endpoint:
        yield endpoint


def ingestion(runs, tmp_path, source, **environment):
    return runs.order(
        "document-ingestion",
        "--collection",
        "{collection}",
        "--",
        "{source-url}",
        parameters={"source-url": str(source), "collection": ""},
        directory=str(tmp_path),
        environment={"SQLITE_PATH": str(tmp_path / "kb.db"), "HTTP_RETRIES": "0", **environment},
    )


async def test_documents_are_ingested_by_a_local_pipeline(runs, tmp_path, embeddings):
    docs = tmp_path / "some docs"
    docs.mkdir()
    (docs / "a.md").write_text("# Alpha\n\nFirst text.")
    end = await runs.end(ingestion(runs, tmp_path, docs, EMBEDDINGS_URL=embeddings.url))
    assert end.state == "succeeded"
    assert end.message.startswith("documents: 1 added, 0 changed")
    assert (tmp_path / "kb.db").exists()


async def test_an_ingestion_that_is_impossible_says_why(runs, tmp_path):
    end = await runs.end(ingestion(runs, tmp_path, __file__, EMBEDDINGS_URL="http://127.0.0.1:9"))
    assert end.state == "failed"
    assert end.message.startswith("exit code 2: document-ingestion: embeddings at 127.0.0.1:9")
