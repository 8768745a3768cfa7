"""voice-assistant in this process, between the real nats-server, a real SQLite knowledge base and scripted endpoints."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.audio import wav
from handler_base.clients.vectors import Chunk, open_vector_store
from handler_base.config import load
from handler_base.conversation.history import Turn, _decode
from handler_base.http import HttpPool, HttpSettings
from handler_base.messaging.keyvalue import key_of
from handler_base.service import Service
from handler_messages import (
    ErrorResponse,
    STTInterrupt,
    STTStreamMessage,
    STTTranscription,
    TTSAudioChunk,
    TTSStatus,
    VoiceRequest,
    VoiceResponse,
    subjects,
)
from handler_testkit.endpoints import HttpEndpoint, answering, routed
from handler_testkit.services import Client, running
from handler_testkit.voice import RATE, answers, speaks, tone, transcribes
from voice_assistant import __main__ as program
from voice_assistant.config import VoiceSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from handler_testkit.endpoints import Exchange, Script
    from handler_testkit.nats import NatsServer

PASSAGES = [
    ("Cats", "Cats sleep sixteen hours a day.", (1.0, 0.0, 0.0)),
    ("Dogs", "Dogs need a walk twice a day.", (0.8, 0.6, 0.0)),
]


async def embed(exchange: Exchange) -> None:
    texts = exchange.request.json()["input"]
    await exchange.json({"data": [{"index": i, "embedding": [1.0, 0.0, 0.0]} for i in range(len(texts))]})


class Stack:
    """What a test plays with: the scripts of the endpoints, and a client."""

    def __init__(self, nats: NatsServer, folder: Path) -> None:
        self.nats = nats
        self.folder = folder
        self.routes: dict[str, Script] = {
            "/llm": answering({}),
            "/whisper": answering({}),
            "/llm/v1/models": answering({"data": [{"id": "m1"}]}),
            "/llm/v1/chat/completions": answers(),
            "/embeddings/v1/models": answering({"data": [{"id": "e1"}]}),
            "/embeddings/v1/embeddings": embed,
            "/whisper/v1/audio/transcriptions": transcribes(),
            "/tts/v1/audio/speech": speaks(),
        }
        self.endpoint = HttpEndpoint(self._route)
        self.client = Client(nats.url)

    async def _route(self, exchange: Exchange) -> None:
        await routed(self.routes)(exchange)

    def llm(self, script: Script) -> None:
        self.routes["/llm/v1/chat/completions"] = script

    def stt(self, script: Script) -> None:
        self.routes["/whisper/v1/audio/transcriptions"] = script

    def tts(self, script: Script) -> None:
        self.routes["/tts/v1/audio/speech"] = script

    def asked(self, path: str) -> list[dict[str, Any]]:
        return [r.json() for r in self.endpoint.requests if r.path == path]

    def prompts(self) -> list[list[dict[str, str]]]:
        return [body["messages"] for body in self.asked("/llm/v1/chat/completions")]

    def said(self) -> list[str]:
        """Return what the voice was asked to say."""
        return [body["input"] for body in self.asked("/tts/v1/audio/speech")]

    def environ(self, **more: str) -> dict[str, str]:
        url = self.endpoint.url
        return {
            "NATS_URL": self.nats.url,
            "HEALTH_PORT": "0",
            "LLM_URL": f"{url}/llm",
            "WHISPER_URL": f"{url}/whisper",
            "TTS_URL": f"{url}/tts",
            "EMBEDDINGS_URL": f"{url}/embeddings",
            "SQLITE_PATH": str(self.folder / "knowledge.db"),
            "ENABLE_RERANKER": "false",
            "RETRY_DELAY": "0.05",
            "MAX_ATTEMPTS": "3",
            "HTTP_RETRIES": "0",
            "SHUTDOWN_GRACE": "2",
            "SPEECH_FIRST_MAX_CHARS": "60",
            **more,
        }

    @contextlib.asynccontextmanager
    async def assistant(self, **environ: str) -> AsyncGenerator[Service]:
        """Run voice-assistant."""
        settings = load(VoiceSettings, self.environ(**environ))
        service = Service("voice-assistant", "0", settings)
        program.assemble(service, settings)
        async with running(service):
            yield service

    async def fill(self) -> None:
        settings = load(VoiceSettings, self.environ())
        store = open_vector_store(settings.vectors, HttpPool(HttpSettings()))
        await store.ensure_collection("documents", 3)
        chunks = [
            Chunk(
                document_id=title, position=0, text=text, title=title, uri=f"docs/{title}.md",
                source="docs", content_hash="h", vector=vector,
            )
            for title, text, vector in PASSAGES
        ]  # fmt: skip
        await store.upsert("documents", chunks)
        await store.aclose()

    async def ask(self, **fields: Any) -> VoiceResponse:
        answer = await self.ask_any(**fields)
        assert isinstance(answer, VoiceResponse), answer
        return answer

    async def ask_any(self, **fields: Any) -> VoiceResponse | ErrorResponse:
        request = VoiceRequest(**{"audio": wav(tone(1, 4000), RATE), **fields})
        return await self.client.connection.request("voice.request", request, VoiceResponse, timeout=15)

    def session(self, session_id: str) -> Session:
        """Return another side of a conversation."""
        return Session(self.client, session_id)

    async def history(self, user_id: str, session_id: str) -> list[Turn]:
        """Return what is kept of a conversation."""
        bucket = await self.client.connection.jetstream.key_value("chat-sessions")
        from nats.js.errors import KeyNotFoundError

        try:
            entry = await bucket.get(key_of("session", user_id, session_id))
        except KeyNotFoundError:
            return []
        return _decode(entry.value)


class Session:
    """The other side of a conversation: it stands in for stt-module and for the player.

    Attributes:
        chunks: The speech as it came.
        states: What the listening side was told.
        statuses: How the speech went.
        results: What became of each answer.
    """

    def __init__(self, client: Client, session_id: str) -> None:
        self.id = session_id
        self.client = client
        self._sequence = 0

    async def open(self, **fields: Any) -> None:
        """Begin the session."""
        ids = {"session_id": self.id}
        self.audio = await self.client.listen(subjects.TTS_AUDIO.build(**ids))
        self.status = await self.client.listen(subjects.TTS_STATUS.build(**ids))
        self.stream = await self.client.listen(subjects.VOICE_STREAM.build(**ids))
        self.result = await self.client.listen("ai.voice.response.*")
        start = STTStreamMessage(session_id=self.id, type="start", **fields)
        await self.client.send(subjects.VOICE_SESSION.build(**ids), start)

    async def say(self, text: str, **fields: Any) -> None:
        """Publish a final transcription."""
        message = STTTranscription(
            session_id=self.id, sequence=self._sequence, text=text, **{"is_final": True, **fields}
        )
        self._sequence += 1
        subject = subjects.VOICE_TRANSCRIPTION.build(session_id=self.id)
        await self.client.send(subject, message)

    async def interrupt(self) -> None:
        """Publish an interrupt."""
        subject = subjects.VOICE_INTERRUPT.build(session_id=self.id)
        await self.client.connection.publish(subject, STTInterrupt(session_id=self.id, type="barge_in"))
        await self.client.connection.flush()

    async def end(self) -> None:
        """Publish the end of the session."""
        await self.say("", is_final=False, session_end=True)

    @property
    def chunks(self) -> list[TTSAudioChunk]:
        return [TTSAudioChunk.FromString(m.data) for m in self.audio.all]

    @property
    def statuses(self) -> list[str]:
        return [TTSStatus.FromString(m.data).status for m in self.status.all]

    @property
    def states(self) -> list[str]:
        return [STTStreamMessage.FromString(m.data).state for m in self.stream.all]

    @property
    def results(self) -> list[VoiceResponse]:
        found = [
            VoiceResponse.FromString(m.data) for m in self.result.all if "Error-Type" not in (m.headers or {})
        ]
        return [result for result in found if result.session_id == self.id]

    async def until_status(self, status: str, count: int = 1) -> None:
        """Wait until a status came so often."""
        await self.status.until(lambda _: self.statuses.count(status) >= count, 15)

    async def until_result(self, count: int = 1) -> VoiceResponse:
        """Wait for a result."""
        await self.result.until(lambda _: len(self.results) >= count, 15)
        return self.results[count - 1]

    async def until_audio(self) -> None:
        """Wait for the first sound."""
        await self.audio.until(lambda _: any(c.audio for c in self.chunks), 15)


@pytest.fixture
async def stack(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(nats, tmp_path)
    async with stack.endpoint, stack.client:
        await stack.fill()
        yield stack


_names = itertools.count(1)


@pytest.fixture
def session(stack: Stack) -> Session:
    return Session(stack.client, f"s{next(_names)}")
