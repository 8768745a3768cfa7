"""tts-module in this process, between the real nats-server and a voice whose audio says what it was made of."""

from __future__ import annotations

import contextlib
import json
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.config import load
from handler_base.service import Service
from handler_messages import TTSAudioChunk, TTSFullResponse, TTSRequest, TTSStatus
from handler_testkit.endpoints import HttpEndpoint, answering, routed
from handler_testkit.services import Client, running
from handler_testkit.speaking import samples_of, spelling
from tts_module import __main__ as program
from tts_module.config import TTSModuleSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from google.protobuf.message import Message

    from handler_base.messaging.subscription import RawMessage
    from handler_testkit.endpoints import Exchange, Script
    from handler_testkit.nats import NatsServer
    from handler_testkit.services import Heard

SPEECH = "/tts/v1/audio/speech"


def read(message: RawMessage) -> TTSAudioChunk | TTSFullResponse | TTSStatus:
    """Decode what came, by the name in its header; JSON as a client without protobuf would read it."""
    headers = message.headers or {}
    cls: type[Any] = {"TTSAudioChunk": TTSAudioChunk, "TTSFullResponse": TTSFullResponse}.get(
        headers.get("Message-Type", ""), TTSStatus
    )
    if headers.get("Content-Type") == "application/json":
        from google.protobuf import json_format

        return json_format.ParseDict(json.loads(message.data), cls())
    return cls.FromString(message.data)


class Session:
    """What is heard of one session.

    Attributes:
        heard: Audio and statuses in the order in which they came.
    """

    def __init__(self, stack: Stack, session_id: str, heard: Heard) -> None:
        self._stack = stack
        self.id = session_id
        self.heard = heard

    @property
    def all(self) -> list[TTSAudioChunk | TTSFullResponse | TTSStatus]:
        return [read(m) for m in self.heard.all if m.subject.split(".")[3] in {"audio", "status"}]

    @property
    def chunks(self) -> list[TTSAudioChunk]:
        return [m for m in self.all if isinstance(m, TTSAudioChunk)]

    @property
    def statuses(self) -> list[TTSStatus]:
        return [m for m in self.all if isinstance(m, TTSStatus)]

    @property
    def told(self) -> list[tuple[str, str]]:
        """Request and status of each status."""
        return [(s.request_id, s.status) for s in self.statuses]

    async def say(self, request_id: str, text: str, **fields: Any) -> None:
        """Ask for speech in a stream."""
        request = TTSRequest(**{"request_id": request_id, "text": text, "stream": True, **fields})
        await self._stack.client.send(f"ai.voice.tts.request.{self.id}", request)

    async def until(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        """Wait until `condition` holds; it is looked at whenever something came."""
        await self.heard.until(lambda _: bool(condition()), timeout)

    async def ended(self, request_id: str, timeout: float = 20.0) -> TTSStatus:
        """Wait for the last status of a request."""

        def last() -> list[TTSStatus]:
            return [s for s in self.statuses if s.request_id == request_id and s.status != "started"]

        await self.until(last, timeout)
        return last()[0]

    async def spoken(self, request_id: str, text: str, **fields: Any) -> list[TTSAudioChunk]:
        """Ask for speech, and return its chunks."""
        await self.say(request_id, text, **fields)
        status = await self.ended(request_id)
        assert status.status == "completed", status
        return [c for c in self.chunks if c.request_id == request_id]

    @staticmethod
    def pcm_of(chunks: list[TTSAudioChunk]) -> array[int]:
        """Return the samples of chunks in the order in which they came."""
        return array("h", b"".join(c.audio for c in chunks))

    @staticmethod
    def check(chunks: list[TTSAudioChunk], texts: list[str]) -> None:
        """See that chunks are one stream without a gap, and say `texts`."""
        assert [c.chunk_index for c in chunks] == list(range(len(chunks)))
        assert [c.is_last for c in chunks] == [False] * (len(chunks) - 1) + [True]
        assert [c.total_chunks for c in chunks] == [0] * (len(chunks) - 1) + [len(chunks)]
        offset = 0
        starts: dict[str, int] = {}
        for chunk in chunks:
            assert chunk.sample_offset == offset
            offset += chunk.samples
            if chunk.text:
                starts[chunk.text] = chunk.sample_offset
        expected = array("h")
        for text in texts:
            assert starts[text] == len(expected)
            expected += samples_of(text)
        assert list(starts) == texts
        assert offset == len(expected)
        if chunks[0].format == "pcm":
            assert Session.pcm_of(chunks) == expected


class Stack:
    """What a test plays with: the voice and a client."""

    def __init__(self, nats: NatsServer) -> None:
        self.nats = nats
        self.routes: dict[str, Script] = {"/tts": answering({}), "/tts/": answering({}), SPEECH: spelling()}
        self.endpoint = HttpEndpoint(self._route)
        self.client = Client(nats.url)

    async def _route(self, exchange: Exchange) -> None:
        await routed(self.routes)(exchange)

    def voice(self, script: Script) -> None:
        """Play another voice."""
        self.routes[SPEECH] = script

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The bodies of the requests that the voice got."""
        return [r.json() for r in self.endpoint.requests if r.path == SPEECH]

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a tts-module of this stack."""
        return {
            "NATS_URL": self.nats.url,
            "HEALTH_PORT": "0",
            "TTS_URL": f"{self.endpoint.url}/tts",
            "RETRY_DELAY": "0.05",
            "MAX_ATTEMPTS": "3",
            "HTTP_RETRIES": "0",
            "SHUTDOWN_GRACE": "0.5",
            **more,
        }

    @contextlib.asynccontextmanager
    async def tts_module(self, **environ: str) -> AsyncGenerator[Service]:
        """Run tts-module."""
        settings = load(TTSModuleSettings, self.environ(**environ))
        service = Service("tts-module", "0", settings)
        program.assemble(service, settings)
        async with running(service):
            yield service

    async def session(self, session_id: str = "s1") -> Session:
        """Listen to a session."""
        return Session(self, session_id, await self.client.listen(f"ai.voice.tts.*.{session_id}"))

    async def ask(self, subject: str, answer: Message) -> Any:
        """Send an empty request."""
        reply = await self.client.connection.request_bytes(subject, b"", timeout=10)
        return type(answer).FromString(reply.data)


@pytest.fixture
async def stack(nats: NatsServer) -> AsyncIterator[Stack]:
    stack = Stack(nats)
    async with stack.endpoint, stack.client:
        yield stack
