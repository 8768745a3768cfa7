"""A JavaScript client that knows nothing but the .proto file gets a streamed answer."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from handler_testkit.endpoints import HttpEndpoint, answering, routed, sse
from handler_testkit.services import ServiceProcess

if TYPE_CHECKING:
    from handler_testkit.nats import NatsServer

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "tests" / "javascript"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("package.json", "package-lock.json", "ask.js"):
        shutil.copy(CLIENT / name, folder / name)
    subprocess.run(
        [BIN / "npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=300
    )
    return folder


async def test_a_javascript_client_gets_a_streamed_answer(nats: NatsServer, node_modules: Path) -> None:
    pieces = ["Grüße", " aus", " dem", " Strom 🚀"]
    events = [json.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
    script = routed({"/llm": answering({}), "/llm/v1/models": answering({"data": [{"id": "m"}]}),
                     "/llm/v1/chat/completions": sse(*events)})  # fmt: skip
    async with HttpEndpoint(script) as llm:
        environ = {"NATS_URL": nats.url, "LLM_URL": f"{llm.url}/llm", "ENABLE_RAG": "false"}
        process = ServiceProcess("chat_handler", environ)
        try:
            await asyncio.to_thread(process.start)
            node = await asyncio.create_subprocess_exec(
                BIN / "node", "ask.js", nats.url, ROOT / "proto/messages/v1/messages.proto", "Hallo?",
                cwd=node_modules, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(node.communicate(), 60)
            assert node.returncode == 0, err.decode() + process.log()
        finally:
            await asyncio.to_thread(process.close)
    answer = json.loads(out)
    assert [c["content"] for c in answer["chunks"]] == [*pieces, ""]
    assert [c["index"] for c in answer["chunks"]] == [0, 1, 2, 3, 4]
    assert [c["done"] for c in answer["chunks"]] == [False] * 4 + [True]
    assert answer["response"]["response"] == "".join(pieces)
    assert answer["response"]["requestId"] == answer["requestId"]
