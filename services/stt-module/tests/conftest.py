"""stt-module in this process, between the real nats-server and a scripted endpoint; and real voices to listen to."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from handler_base.config import load
from handler_base.service import Service
from handler_testkit.endpoints import HttpEndpoint, answering, routed
from handler_testkit.services import Client, running
from handler_testkit.talking import RATE, Talk, answers, audio_of, by_length, resample
from stt_module import __main__ as program
from stt_module.config import STTModuleSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from handler_testkit.endpoints import Exchange, Script
    from handler_testkit.nats import NatsServer
    from handler_testkit.talking import Audio


@functools.cache
def speak(text: str, voice: str = "slt") -> bytes:
    """Return speech: 16 bit PCM, 16 kHz, mono."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "speech.wav")
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(file)], check=True, timeout=60)
        with wave.open(str(file)) as reader:
            pcm = reader.readframes(reader.getnframes())
            assert reader.getnchannels() == 1
            return resample(pcm, reader.getframerate(), RATE)


class Stack:
    """What a test plays with: the script of the endpoint, and a client."""

    def __init__(self, nats: NatsServer) -> None:
        self.nats = nats
        self.transcribe: Script = answers(by_length)
        self.endpoint = HttpEndpoint(self._route)
        self.client = Client(nats.url)

    async def _route(self, exchange: Exchange) -> None:
        await routed(
            {"/whisper": answering({}), "/whisper/v1/audio/transcriptions": self.transcribe,
             "/whisper/v1/models": answering({"data": []})}
        )(exchange)  # fmt: skip

    @property
    def asked(self) -> list[Audio]:
        return [
            audio_of(request)
            for request in self.endpoint.requests
            if request.path == "/whisper/v1/audio/transcriptions"
        ]

    def environ(self, **more: str) -> dict[str, str]:
        return {
            "NATS_URL": self.nats.url,
            "HEALTH_PORT": "0",
            "WHISPER_URL": f"{self.endpoint.url}/whisper",
            "PARTIAL_INTERVAL": "0",
            "RETRY_DELAY": "0.05",
            "TRANSCRIPTION_RETRY_DELAY": "0.05",
            "HTTP_RETRIES": "0",
            **more,
        }

    @contextlib.asynccontextmanager
    async def stt_module(self, **environ: str) -> AsyncGenerator[Service]:
        settings = load(STTModuleSettings, self.environ(**environ))
        service = Service("stt-module", "0", settings)
        program.assemble(service, settings)
        async with running(service):
            yield service

    async def talk(self, session_id: str = "s1") -> Talk:
        return await Talk.listening(self.client, session_id)


@pytest.fixture(name="speak")
def speak_fixture() -> Callable[..., bytes]:
    return speak


@pytest.fixture
async def stack(nats: NatsServer) -> AsyncIterator[Stack]:
    stack = Stack(nats)
    async with stack.endpoint, stack.client:
        yield stack
