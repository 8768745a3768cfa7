"""The services at their work: each image started against real parts, asked, and stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from handler_base.messaging.connection import decode_answer
from handler_delivery.errors import DeliveryError
from handler_delivery.images.container import container
from handler_messages import (
    ChatRequest,
    ChatResponse,
    PipelineStatus,
    PipelineTrigger,
    STTStreamMessage,
    STTTranscription,
    TTSFullResponse,
    TTSRequest,
    TTSVoiceListResponse,
    VoiceRequest,
    VoiceResponse,
    subjects,
)
from handler_messages.statuses import PIPELINE_ENDS
from handler_testkit.argo import ArgoServer
from handler_testkit.endpoints import HttpEndpoint, stalling
from handler_testkit.models import HEARD, inference, silence, vowel
from handler_testkit.nats import free_port, nats_server
from handler_testkit.nats_login import certificates
from handler_testkit.services import Client
from handler_testkit.speech import word_error_rate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from handler_delivery.images.container import Container
    from handler_delivery.images.engine import Engine
    from handler_delivery.workspace import Member

    Question = Callable[[Client], Awaitable[list[str]]]
    """Asks a service that is ready; returns what was wrong with its answer."""

READY_SECONDS = 30.0
RATE = 16_000
SENTENCE = "Please turn off the light in the kitchen."
ROUTES = ("llm", "embeddings", "reranker", "whisper", "tts")


def work(machine: Engine, member: Member, image: str) -> list[str]:
    """Start a service from its image, let it work, stop it; return what went wrong.

    A service that this module knows no work for is a handler: it must become ready and stop.
    """
    # asyncio's streams grumble about the end of a TLS connection, whatever one does.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    scenario = SCENARIOS.get(member.name, handler)
    with tempfile.TemporaryDirectory() as scratch:
        return asyncio.run(scenario(machine, image, Path(scratch)))


async def handler(
    machine: Engine, image: str, folder: Path, ask: Question | None = None, **more: str
) -> list[str]:
    """Start a handler against a real nats-server with TLS and a scripted model; it must be ready, and exit 0."""
    tls = certificates(folder)
    image = machine.with_files(image, _readable(folder))
    port = free_port()
    with nats_server(config=tls.config(), scheme="tls") as nats:
        async with HttpEndpoint(inference()) as endpoint:
            environ = {
                "NATS_URL": nats.url,
                "NATS_TLS_CA": f"/check/{Path(tls.ca).name}",
                "HEALTH_PORT": str(port),
                **{f"{name.upper()}_URL": f"{endpoint.url}/{name}" for name in ROUTES},
                **more,
            }
            with container(machine, image, environ=environ) as running:
                problems = await asyncio.to_thread(_becomes_ready, running, f"http://127.0.0.1:{port}/readyz")
                if ask and not problems:
                    async with Client(nats.url, NATS_TLS_CA=tls.ca) as client:
                        problems += await ask(client)
                return problems + await asyncio.to_thread(_ends_well, running)


async def chat_handler(machine: Engine, image: str, folder: Path) -> list[str]:
    """Ask chat-handler a question over TLS."""

    async def ask(client: Client) -> list[str]:
        request = ChatRequest(request_id="image", message="Are you there?", enable_rag=False)
        answer = await client.connection.request("ai.chat.request", request, ChatResponse, timeout=20)
        said = isinstance(answer, ChatResponse) and answer.response
        return [] if said else [f"it does not answer: {answer}"]

    return await handler(machine, image, folder, ask)


async def document_ingestion(machine: Engine, image: str, folder: Path) -> list[str]:
    """Let document-ingestion read a folder into a file of vectors, and stop it while an endpoint hangs."""
    (folder / "page.md").write_text("# A page\n\nThe tide table hangs beside the door.\n")
    image = machine.with_files(image, _readable(folder))
    volume = ["--tmpfs=/tmp:rw,size=64m,mode=1777"]
    async with HttpEndpoint(inference()) as endpoint:
        environ = {"EMBEDDINGS_URL": f"{endpoint.url}/embeddings", "SQLITE_PATH": "/tmp/vectors.db"}
        arguments = ("/check", "--json")
        with container(machine, image, *arguments, environ=environ, options=volume) as running:
            status = await asyncio.to_thread(running.wait)
            said = running.logs()
        if status or _added(said) != 1:
            return [f"it ends with {status} and does not say that it added one document: {said}"]
    async with HttpEndpoint(stalling) as endpoint:
        environ["EMBEDDINGS_URL"] = endpoint.url
        with container(machine, image, *arguments, environ=environ, options=volume) as running:
            try:
                await endpoint.wait(lambda: bool(endpoint.requests))
            except TimeoutError:
                return [f"it does not ask for embeddings: {running.logs()}"]
            status = await asyncio.to_thread(running.stop)
    return [f"told to stop while it waits, it exits with {status}"] if status in {0, 137} else []


async def local_inference(machine: Engine, image: str, _: Path) -> list[str]:
    """Ask local-inference for an answer, which takes its model of embeddings and its index; speak to it."""
    port = free_port()
    with container(machine, image, environ={"PORT": str(port)}) as running:
        url = f"http://127.0.0.1:{port}"
        problems = await asyncio.to_thread(_becomes_ready, running, f"{url}/readyz")
        question = {"input": ["the tide table"]}
        if not problems:
            found = await asyncio.to_thread(_post, f"{url}/embeddings/v1/embeddings", question)
            if len(found["data"][0]["embedding"]) != 384:
                problems.append(f"it does not embed: {found}")
            heard = await asyncio.to_thread(_said_and_heard, url)
            if word_error_rate(SENTENCE, heard) > 0.3:
                problems.append(f"it says {SENTENCE!r} and hears {heard!r}")
        return problems + await asyncio.to_thread(_ends_well, running)


async def pipeline_bridge(machine: Engine, image: str, folder: Path) -> list[str]:
    """Trigger a shipped pipeline on a scripted Argo Server, and read what pipeline-bridge tells of its run."""

    async def ask(client: Client) -> list[str]:
        heard = await client.listen(subjects.PIPELINE_STATUS.build(request_id="image"))
        request = PipelineTrigger(request_id="image", pipeline="document-ingestion")
        request.parameters["source-url"] = "https://example.com/page.md"
        await client.send(subjects.PIPELINE_TRIGGER.template, request)
        await argo.wait(lambda: bool(argo.workflows.live))
        for phase in ("Running", "Succeeded"):
            argo.move(next(iter(argo.workflows.live)), phase)
        told: list[PipelineStatus] = []
        while not told or told[-1].status not in PIPELINE_ENDS:
            told.append(PipelineStatus.FromString((await heard.next(20)).data))
        steps = list(dict.fromkeys(status.status for status in told))
        well = steps == ["submitted", "pending", "running", "succeeded"]
        return [] if well else [f"it does not see a run through: {', '.join(steps)}: {told[-1].message}"]

    argo = ArgoServer({"document-ingestion": {"source-url": None, "collection": ""}})
    async with argo:
        return await handler(machine, image, folder, ask, ARGO_HOST=argo.url)


async def stt_module(machine: Engine, image: str, folder: Path) -> list[str]:
    """Speak into a session, and read what stt-module wrote down."""

    async def ask(client: Client) -> list[str]:
        heard = await client.listen(subjects.VOICE_TRANSCRIPTION.build(session_id="image"))
        start = STTStreamMessage(session_id="image", type="start", sample_rate=RATE)
        await client.send(subjects.VOICE_SESSION.build(session_id="image"), start)
        sound = vowel(1.0, RATE) + bytes(2 * RATE * 2)
        step = RATE // 10 * 2
        chunks = [sound[at : at + step] for at in range(0, len(sound), step)]
        stream = subjects.VOICE_STREAM.build(session_id="image")
        for number, audio in enumerate(chunks):
            said = STTStreamMessage(
                session_id="image", type="chunk", sequence=number, audio=audio, sample_rate=RATE
            )
            await client.send(stream, said)
        await client.send(stream, STTStreamMessage(session_id="image", type="end", sequence=len(chunks)))
        while not (written := STTTranscription.FromString((await heard.next(20)).data)).is_final:
            pass
        return [] if written.text == HEARD else [f"it does not write down what is said: {written}"]

    return await handler(machine, image, folder, ask)


async def tts_module(machine: Engine, image: str, folder: Path) -> list[str]:
    """Let tts-module speak, and ask for its voices."""

    async def ask(client: Client) -> list[str]:
        listed = decode_answer(
            await client.connection.request_bytes(subjects.TTS_VOICES_LIST.template, b"", timeout=20),
            TTSVoiceListResponse,
        )
        problems = [] if isinstance(listed, TTSVoiceListResponse) else [f"it lists no voices: {listed}"]
        heard = await client.listen(subjects.TTS_AUDIO.build(session_id="image"))
        request = TTSRequest(request_id="image", session_id="image", text="Are you there?")
        await client.send(subjects.TTS_REQUEST.build(session_id="image"), request)
        spoken = TTSFullResponse.FromString((await heard.next(20)).data)
        return problems if spoken.audio else [*problems, f"it does not speak: {spoken}"]

    return await handler(machine, image, folder, ask)


async def voice_assistant(machine: Engine, image: str, folder: Path) -> list[str]:
    """Say something to voice-assistant, and hear its answer."""

    async def ask(client: Client) -> list[str]:
        request = VoiceRequest(request_id="image", audio=silence(1.0, RATE), format="wav", enable_rag=False)
        answer = await client.connection.request(
            subjects.VOICE_REQUEST.template, request, VoiceResponse, timeout=20
        )
        said = isinstance(answer, VoiceResponse) and answer.response and answer.audio
        return [] if said else [f"it does not answer: {answer}"]

    return await handler(machine, image, folder, ask)


SCENARIOS: dict[str, Callable[[Engine, str, Path], Coroutine[Any, Any, list[str]]]] = {
    "chat-handler": chat_handler,
    "document-ingestion": document_ingestion,
    "local-inference": local_inference,
    "pipeline-bridge": pipeline_bridge,
    "stt-module": stt_module,
    "tts-module": tts_module,
    "voice-assistant": voice_assistant,
}


class _Report(msgspec.Struct):
    added: int


def _added(report: str) -> object:
    """Return how many documents a report of document-ingestion counts; nothing when it is none."""
    try:
        return msgspec.json.decode(report, type=_Report).added
    except msgspec.DecodeError:
        return None


def _post(url: str, body: object) -> Any:
    return json.loads(_answer(url, json.dumps(body).encode(), "application/json"))


def _answer(url: str, body: bytes, kind: str) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise DeliveryError(f"{url} answers {error.code}: {error.read().decode(errors='replace')}") from error


def _said_and_heard(url: str) -> str:
    """Return what a service understands of a sentence that it says itself."""
    speech = {"input": SENTENCE, "voice": "slt", "response_format": "wav"}
    spoken = _answer(f"{url}/tts/v1/audio/speech", json.dumps(speech).encode(), "application/json")
    part = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="speech.wav"\r\n\r\n'
    form = part + spoken + b"\r\n--cut--\r\n"
    kind = "multipart/form-data; boundary=cut"
    return json.loads(_answer(f"{url}/whisper/v1/audio/transcriptions", form, kind))["text"]


def _readable(folder: Path) -> Path:
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def _becomes_ready(running: Container, url: str) -> list[str]:
    deadline = time.monotonic() + READY_SECONDS
    said = ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return [] if answer.status == 200 else [f"{url} answers {answer.status}"]
        except urllib.error.HTTPError as error:
            said = error.read().decode()
        except OSError as error:
            said = str(error)
            if running.state("Running") != "true":
                break
        time.sleep(0.05)
    return [f"it does not become ready: {said}\n{running.logs()}"]


def _ends_well(running: Container) -> list[str]:
    status = running.stop()
    return [] if status == 0 else [f"it exits with {status} on its stop signal:\n{running.logs()}"]
