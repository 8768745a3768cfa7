"""chat-handler in this process, between the real nats-server, a real SQLite knowledge base and scripted endpoints."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from chat_handler import __main__ as program
from chat_handler.config import ChatSettings
from handler_base.clients.vectors import Chunk, open_vector_store
from handler_base.config import load
from handler_base.http import HttpPool, HttpSettings
from handler_base.service import Service
from handler_testkit.endpoints import HttpEndpoint, answering, routed
from handler_testkit.services import Client, running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from handler_testkit.endpoints import Exchange, Script
    from handler_testkit.nats import NatsServer

TOKENS = ["The", " answer", " is", " 42."]
PASSAGES = [
    ("Cats", "Cats sleep sixteen hours a day.", (1.0, 0.0, 0.0)),
    ("Dogs", "Dogs need a walk twice a day.", (0.8, 0.6, 0.0)),
    ("Fish", "Fish need clean water.", (0.0, 0.0, 1.0)),
]


def chunk(content: str = "", finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": {"content": content} if content else {}, "finish_reason": finish}
    return json.dumps({"model": "m1", "choices": [choice], **more})


def usage() -> str:
    return json.dumps({"model": "m1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4}})


def whole(text: str) -> dict[str, Any]:
    return {
        "model": "m1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 4},
    }


async def model(exchange: Exchange) -> None:
    """Answer 42, streamed or not, as asked."""
    if not exchange.request.json().get("stream"):
        await exchange.json(whole("".join(TOKENS)))
        return
    await exchange.head(200, {"content-type": "text/event-stream"})
    for event in (*map(chunk, TOKENS), chunk(finish="stop"), usage(), "[DONE]"):
        await exchange.send(f"data: {event}\n\n".encode())
    await exchange.end()


async def embed(exchange: Exchange) -> None:
    texts = exchange.request.json()["input"]
    data = [{"index": i, "embedding": [1.0, 0.0, 0.0]} for i in range(len(texts))]
    await exchange.json({"model": "e", "data": data})


async def rerank(exchange: Exchange) -> None:
    """Prefer the last document."""
    documents = exchange.request.json()["documents"]
    results = [{"index": i, "relevance_score": i + 0.5} for i in range(len(documents))]
    await exchange.json({"results": results[::-1]})


async def speak(exchange: Exchange) -> None:
    await exchange.answer(b"RIFF" + bytes(100), headers={"content-type": "audio/wav"})


class Stack:
    """What a test plays with: the scripts of the endpoints, and a client."""

    chunk = staticmethod(chunk)
    whole = staticmethod(whole)
    model = staticmethod(model)

    def __init__(self, nats: NatsServer, folder: Path) -> None:
        self.nats = nats
        self.folder = folder
        self.routes: dict[str, Script] = {
            "/llm": answering({}),
            "/llm/v1/models": answering({"data": [{"id": "m1"}]}),
            "/llm/v1/chat/completions": model,
            "/embeddings/v1/embeddings": embed,
            "/reranker/v1/rerank": rerank,
            "/tts/v1/audio/speech": speak,
        }
        self.endpoint = HttpEndpoint(self._route)
        self.client = Client(nats.url)

    async def _route(self, exchange: Exchange) -> None:
        await routed(self.routes)(exchange)

    def llm(self, script: Script) -> None:
        """Play another LLM."""
        self.routes["/llm/v1/chat/completions"] = script

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Return the bodies of the requests that an endpoint got."""
        return [r.json() for r in self.endpoint.requests if r.path == path]

    def prompts(self) -> list[list[dict[str, str]]]:
        """Return the messages that the LLM got, per request."""
        return [body["messages"] for body in self.asked("/llm/v1/chat/completions")]

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a chat-handler of this stack."""
        url = self.endpoint.url
        return {
            "NATS_URL": self.nats.url,
            "HEALTH_PORT": "0",
            "LLM_URL": f"{url}/llm",
            "EMBEDDINGS_URL": f"{url}/embeddings",
            "RERANKER_URL": f"{url}/reranker",
            "TTS_URL": f"{url}/tts",
            "SQLITE_PATH": str(self.folder / "knowledge.db"),
            "RETRY_DELAY": "0.05",
            "MAX_ATTEMPTS": "3",
            "HTTP_RETRIES": "0",
            **more,
        }

    @contextlib.asynccontextmanager
    async def chat_handler(self, **environ: str) -> AsyncGenerator[Service]:
        """Run chat-handler."""
        settings = load(ChatSettings, self.environ(**environ))
        service = Service("chat-handler", "0", settings)
        program.assemble(service, settings)
        async with running(service):
            yield service

    async def fill(self) -> None:
        """Fill the knowledge base."""
        settings = load(ChatSettings, self.environ())
        store = open_vector_store(settings.vectors, HttpPool(HttpSettings()))
        for collection, prefix in (("documents", ""), ("other", "Other ")):
            await store.ensure_collection(collection, 3)
            await store.upsert(
                collection,
                [
                    Chunk(
                        document_id=f"{prefix}{title}",
                        position=0,
                        text=text,
                        title=f"{prefix}{title}",
                        uri=f"docs/{title}.md",
                        source="docs",
                        content_hash="h",
                        vector=vector,
                    )
                    for title, text, vector in PASSAGES
                ],
            )
        await store.aclose()


@pytest.fixture
async def stack(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(nats, tmp_path)
    async with stack.endpoint, stack.client:
        await stack.fill()
        yield stack
