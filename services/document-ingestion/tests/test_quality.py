"""With real embeddings, questions about this repository's own documentation find the passage that answers them."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from document_ingestion.config import IngestionSettings
from document_ingestion.pipeline import ingest
from handler_base.clients.embeddings import Embeddings, EmbeddingsSettings
from handler_base.clients.reranker import Reranker, RerankerSettings
from handler_base.clients.vectors import VectorSettings, open_vector_store
from handler_base.conversation.retrieval import Retrieval, RetrievalSettings
from handler_base.errors import UpstreamError
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.nats import free_port

ROOT = Path(__file__).resolve().parents[3]
QUESTIONS = [
    (
        "Which subject carries a user's chat message, and how long is it kept?",
        ["`ai.chat.user.{user_id}.message`", "kept 30 days"],
    ),
    ("Which part of the code may import nats-py?", ["Only `handler_base.messaging` imports nats-py"]),
    ("For how long can a client resume a streamed answer?", ["ai.chat.response.stream", "5 minutes"]),
]


@pytest.fixture
async def inference():
    """local-inference as a process of its own; tests may know it, services may not."""
    port = free_port()
    environ = os.environ | {"PORT": str(port), "LOG_LEVEL": "error", "OPENBLAS_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "local_inference", env=environ)
    pool = HttpPool(HttpSettings())
    probe = pool.endpoint("local-inference", f"http://127.0.0.1:{port}", timeout=5)
    async with asyncio.timeout(60):
        while process.returncode is None:
            try:
                await probe.request("GET", "/readyz", idempotent=False)
                break
            except UpstreamError:
                await asyncio.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    await pool.aclose()
    process.terminate()
    await process.wait()


@pytest.mark.slow
async def test_questions_about_the_documentation_find_their_passage(tmp_path, inference):
    vectors = VectorSettings(sqlite_path=str(tmp_path / "kb.db"))
    embeddings = EmbeddingsSettings(url=f"{inference}/embeddings", timeout=60)
    settings = IngestionSettings(vectors=vectors, embeddings=embeddings, base=str(ROOT))
    report = await ingest([str(ROOT / "docs" / "architecture.md")], settings)
    assert (report.added, report.failed) == (1, [])

    pool = HttpPool(settings.http)
    store = open_vector_store(vectors, pool)
    reranker = Reranker(pool, RerankerSettings(url=f"{inference}/reranker"))
    found = RetrievalSettings(timeout=60)
    for rerank in (False, True):
        retrieval = Retrieval(Embeddings(pool, embeddings), store, reranker, found)
        for question, answer in QUESTIONS:
            retrieved = await retrieval.retrieve(question, rerank=rerank)
            assert retrieved.warnings == []
            best = retrieved.passages[0]
            assert best.uri == "docs/architecture.md"
            assert all(part in best.text for part in answer), (question, rerank, best.text)
    await store.aclose()
    await pool.aclose()
