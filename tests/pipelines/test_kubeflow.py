"""The compiled pipelines as they are uploaded, run by Kubeflow's own local engine against real endpoints."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.audio import PcmReader, wav
from handler_base.clients.speech_to_text import SpeechToText, STTSettings
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.endpoints import HttpEndpoint
from handler_testkit.milvus_v2 import milvus_v2
from handler_testkit.speech import RATE, needs_flite, speak, word_error_rate

from .conftest import PIPELINES, ROOT, finished

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_testkit.endpoints import Exchange
    from handler_testkit.milvus_v2 import MilvusV2

COMPILE = PIPELINES / "kubeflow" / "compile.py"
DOCUMENTS = {
    "lighthouse": "The old lighthouse stands on the northern cliff. Its keeper lights the lamp every evening at sunset.",
    "bakery": "The village bakery sells fresh bread and apple cake. It opens at seven in the morning.",
    "harbour": "The ferry to the island leaves from the harbour twice a day. A ticket costs eleven dollars.",
}

# The SDK, some hundred megabytes, is fetched when it is not there yet.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def sdk() -> str:
    """The interpreter of the environment that compiles pipelines, as compile.py and its lock file have it."""
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV", "VIRTUAL_ENV"))
    }
    script = ["--script", str(COMPILE)]
    sync = [uv, "sync", "--quiet", "--locked", "--python", sys.executable, *script]
    subprocess.run(sync, env=environ, check=True, timeout=240)
    find = [uv, "python", "find", *script]
    found = subprocess.run(find, env=environ, check=True, capture_output=True, text=True, timeout=60)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def milvus(inference: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusV2]:
    """Milvus' REST API v2 with three documents that document-ingestion put there."""
    docs = tmp_path_factory.mktemp("docs")
    for name, text in DOCUMENTS.items():
        (docs / f"{name}.md").write_text(f"# The {name}\n\n{text}\n")
    with milvus_v2() as server:
        told = {
            "VECTOR_STORE": "milvus", "MILVUS_HOST": server.host, "MILVUS_PORT": str(server.port),
            "MILVUS_TOKEN": server.token, "EMBEDDINGS_URL": f"{inference}/embeddings",
        }  # fmt: skip
        command = [sys.executable, "-m", "document_ingestion", "--collection=village", "--", str(docs)]
        done = subprocess.run(
            command, env={**os.environ, **told}, capture_output=True, text=True, timeout=60, check=False
        )
        assert "3 added" in done.stdout, done.stdout + done.stderr
        yield server
        assert server.complaints == []


class Engine:
    """Runs compiled pipelines.

    Args:
        sdk: The interpreter that has Kubeflow's SDK.
        inference: Base address of the inference endpoints.
        milvus: The knowledge base.
        folder: Where artifacts go.
    """

    def __init__(self, sdk: str, inference: str, milvus: MilvusV2, folder: Path) -> None:
        self._sdk = sdk
        self._folder = folder
        self._environ = {**os.environ, "MILVUS_TOKEN": milvus.token}
        self._addresses = {
            "embeddings_url": f"{inference}/embeddings",
            "milvus_url": f"http://{milvus.host}:{milvus.port}",
            "reranker_url": f"{inference}/reranker",
            "llm_url": f"{inference}/llm",
        }

    async def run(self, name: str, **arguments: str | int) -> dict[str, Any]:
        """Run a pipeline and return its outputs."""
        process = await asyncio.create_subprocess_exec(
            self._sdk, str(Path(__file__).with_name("run_locally.py")),
            str(PIPELINES / "kubeflow" / f"{name}.yaml"), str(self._folder),
            json.dumps(self._addresses | arguments),
            env=self._environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said = await finished(process, 120)
        assert process.returncode == 0, said
        return json.loads(said.splitlines()[-1])


@pytest.fixture
def engine(sdk: str, inference: str, milvus: MilvusV2, tmp_path: Path) -> Engine:
    return Engine(sdk, inference, milvus, tmp_path)


async def test_rag_query_quotes_the_right_document_and_names_its_sources(engine: Engine) -> None:
    question = "When does the keeper light the lamp of the lighthouse?"
    found = await engine.run("rag-query", query=question, collection="village", top_k=2)
    assert "lights the lamp every evening at sunset" in found["answer"]
    sources = json.loads(Path(found["sources"]).read_text())
    assert len(sources) == 2
    assert sources[0]["title"] == "The lighthouse"
    assert sources[0]["uri"].endswith("lighthouse.md")
    assert found["warnings"] == []


async def test_rag_query_answers_without_a_reranker_and_says_so(engine: Engine) -> None:
    question = "--How many dollars does a ticket for the ferry cost?"  # no option of any step
    found = await engine.run(
        "rag-query", query=question, collection="village", top_k=1, reranker_url="http://127.0.0.1:1"
    )
    assert "A ticket costs eleven dollars" in found["answer"]
    (warning,) = found["warnings"]
    assert "not reranked: http://127.0.0.1:1/v1/rerank could not be asked" in warning


@needs_flite
async def test_voice_pipeline_hears_a_question_and_speaks_the_answer(engine: Engine, inference: str) -> None:
    question = "When does the village bakery open in the morning?"
    recording = wav(speak(question), RATE)

    async def serve(exchange: Exchange) -> None:
        await exchange.answer(recording, headers={"content-type": "audio/wav"})

    async with HttpEndpoint(serve) as files:
        found = await engine.run(
            "voice-pipeline", audio_url=f"{files.url}/question.wav", collection="village", language="en",
            whisper_url=f"{inference}/whisper", tts_url=f"{inference}/tts",
        )  # fmt: skip
    assert word_error_rate(question, found["transcription"]) <= 0.25
    assert "opens at seven in the morning" in found["answer"]
    assert json.loads(Path(found["sources"]).read_text())[0]["title"] == "The bakery"
    audio = Path(found["audio"]).read_bytes()
    assert len(PcmReader().feed(audio)) > RATE  # half a second at least
    pool = HttpPool(HttpSettings())
    try:
        heard = await SpeechToText(pool, STTSettings(url=f"{inference}/whisper")).transcribe(audio)
    finally:
        await pool.aclose()
    assert {"seven", "morning"} & set(re.findall(r"[a-z]+", heard.text.lower()))
