"""The nats-server with the very configuration of deploy/base/nats, and the services as its users."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handler_testkit.endpoints import HttpEndpoint, answering, routed
from handler_testkit.nats import NatsServer, free_port
from handler_testkit.services import Client, ServiceProcess, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from handler_testkit.endpoints import Exchange, Script

ROOT = Path(__file__).resolve().parent.parent.parent
NATS = ROOT / "deploy" / "base" / "nats"
VOICE = ("stt-module", "tts-module", "voice-assistant")
USERS = ("chat-handler", *VOICE, "pipeline-bridge", "frontend", "client", "operator", "system")


def password(user: str) -> str:
    """Return a password of the form that docs/operations.md makes."""
    return f"p{user.encode().hex()}{'0' * 8}"


class Secured(NatsServer):
    """The deployed configuration on 127.0.0.1.

    Attributes:
        monitoring: Base URL of the monitoring endpoint.
    """

    def __init__(self) -> None:
        port = free_port()
        config = (NATS / "nats.conf").read_text()
        for line, here in (
            ('listen: "0.0.0.0:4222"\n', ""),
            ('http: "0.0.0.0:8222"', f'http: "127.0.0.1:{port}"'),
            ('store_dir: "/data"\n', ""),
        ):
            assert line in config
            config = config.replace(line, here)
        super().__init__("-P", os.devnull, config=config, jetstream=True)
        self.monitoring = f"http://127.0.0.1:{port}"
        (self.store / "accounts.conf").write_text((NATS / "accounts.conf").read_text())

    def login(self, user: str) -> dict[str, str]:
        """Return the settings of a user, as the manifests give them to a service."""
        return {
            "NATS_URL": self.url,
            "NATS_USER": user,
            "NATS_PASSWORD": password(user),
            "NATS_INBOX_PREFIX": f"_INBOX_{user}",
        }

    def client(self, user: str) -> Client:
        return Client(**{"url" if k == "NATS_URL" else k: v for k, v in self.login(user).items()})


@pytest.fixture
def nats(monkeypatch: pytest.MonkeyPatch) -> Iterator[Secured]:
    monkeypatch.setenv("POD_NAME", "nats-0")
    for user in USERS:
        monkeypatch.setenv(f"{user.upper().replace('-', '_')}_PASSWORD", password(user))
    server = Secured()
    try:
        server.start()
        yield server
    finally:
        server.close()


class Inference:
    """Scripted endpoints behind one address."""

    def __init__(self) -> None:
        self.routes: dict[str, Script] = {
            "/llm": answering({}),
            "/llm/v1/models": answering({"data": [{"id": "m1"}]}),
            "/llm/v1/chat/completions": model,
        }
        self.endpoint = HttpEndpoint(self._route)

    async def _route(self, exchange: Exchange) -> None:
        await routed(self.routes)(exchange)

    def llm(self, script: Script) -> None:
        self.routes["/llm/v1/chat/completions"] = script

    def prompts(self) -> list[list[dict[str, str]]]:
        return [r.json()["messages"] for r in self.endpoint.requests if r.path == "/llm/v1/chat/completions"]


async def model(exchange: Exchange) -> None:
    """Answer 42, streamed or not, as asked."""
    text = ["The", " answer", " is", " 42."]
    if not exchange.request.json().get("stream"):
        message = {"role": "assistant", "content": "".join(text)}
        await exchange.json(
            {"model": "m1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        )
        return
    await exchange.head(200, {"content-type": "text/event-stream"})
    pieces: list[tuple[dict[str, Any], str | None]] = [({"content": piece}, None) for piece in text]
    for delta, finish in [*pieces, ({}, "stop")]:
        event = {"model": "m1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        await exchange.send(f"data: {json.dumps(event)}\n\n".encode())
    await exchange.send(b"data: [DONE]\n\n")
    await exchange.end()


@pytest.fixture
async def inference() -> AsyncIterator[Inference]:
    inference = Inference()
    async with inference.endpoint:
        yield inference


@pytest.fixture
def chat_environ(nats: Secured, inference: Inference, tmp_path: Path) -> dict[str, str]:
    url = inference.endpoint.url
    return {
        **nats.login("chat-handler"),
        "LLM_URL": f"{url}/llm",
        "ENABLE_RAG": "false",
        "SQLITE_PATH": str(tmp_path / "knowledge.db"),
        "RETRY_DELAY": "0.05",
        "MAX_ATTEMPTS": "2",
        "HTTP_RETRIES": "0",
    }


@pytest.fixture
def chat_process(chat_environ: dict[str, str]) -> Iterator[ServiceProcess]:
    process = ServiceProcess("chat_handler", chat_environ)
    yield process
    process.close()


async def may_not_publish(client: Client, subject: str) -> None:
    """Try to publish, and see that the server refuses it."""
    await client.connection.publish_bytes(subject, b"")
    assert "publish" in await refused(client, subject)


async def may_not_listen(client: Client, subject: str) -> None:
    """Try to subscribe, and see that the server refuses it."""

    async def hears(raw: object) -> None:
        raise AssertionError(raw)

    await client.connection.subscribe(subject, hears)
    assert "subscription" in await refused(client, subject)


async def refused(client: Client, attempt: str) -> str:
    """Wait for the server's word about what a client just tried, and return it."""
    status = client.connection.status
    await until(lambda: "permissions violation" in status().last_error)
    assert attempt.lower() in status().last_error.lower()
    return status().last_error
