"""The load of the services beside chat-handler, in a process of its own; see `load.py`.

    python bench/load_services.py '{"mode": "tts-module", "nats": "nats://…", "requests": 1000, "in_flight": 16}'

Prints one line of JSON. Modes: `start` (asks until somebody answers), `info` (what the service serves), and the name of
a service: as many of its requests as it is told.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop
from lean_nats import LeanNats
from load import Answers

from handler_messages import (
    PipelineStatus,
    PipelineTrigger,
    STTStreamMessage,
    STTTranscription,
    TTSRequest,
    TTSStatus,
    VoiceRequest,
    VoiceResponse,
    subjects,
)
from handler_messages.statuses import PIPELINE_ENDS
from handler_testkit.models import silence, vowel

RATE = 16_000
CHUNK = RATE // 10 * 2
TEXT = "The stream keeps a message for thirty days, so a client that was away can read it later."
PATIENCE = 60
UTTERANCES = 50
"""Utterances of one session of stt-module."""

INBOX = "_INBOX.bench"


def voice_request(request_id: str) -> bytes:
    """Return a second of speech to answer, without retrieval."""
    request = VoiceRequest(
        request_id=request_id, audio=silence(1.0, RATE), format="wav", sample_rate=RATE, enable_rag=False
    )
    return request.SerializeToString()


class Asker:
    """One client: requests, messages that a stream must take, and what is published meanwhile."""

    def __init__(self, client: LeanNats, answers: Answers) -> None:
        self.client = client
        self.answers = answers
        self.number = 0

    @classmethod
    async def connect(
        cls, url: str, listen: str = "", heard: Callable[[str, bytes], None] | None = None
    ) -> "Asker":
        answers = Answers()

        def arrived(subject: str, payload: bytes, nobody: bool, when: int) -> None:
            if subject.startswith(INBOX):
                answers.arrived(subject, payload, nobody, when)
            elif heard is not None:
                heard(subject, payload)

        client = await LeanNats.connect(url, arrived)
        client.subscribe(f"{INBOX}.*", 1)
        if listen:
            client.subscribe(listen, 2)
        return cls(client, answers)

    async def ask(self, subject: str, payload: bytes) -> tuple[bytes, bool, int]:
        """Return the answer, whether nobody listens, and when it came (ns)."""
        self.number += 1
        key = f"{os.getpid()}-{self.number}"
        future = self.answers.expect(key)
        self.client.publish(subject, payload, f"{INBOX}.{key}")
        return await asyncio.wait_for(future, PATIENCE)

    async def store(self, subject: str, payload: bytes) -> None:
        """Publish into a stream; one that the service has not made yet is waited for."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer, nobody, _ = await self.ask(subject, payload)
                if not nobody:
                    break
                await asyncio.sleep(0.02)
        if "error" in json.loads(answer):
            raise SystemExit(f"{subject} is not stored: {answer[:300]!r}")


async def start(job: dict) -> dict:
    """Ask every millisecond until a request finds a subscriber and is answered; times since `spawned` (ns)."""
    asker = await Asker.connect(job["nats"])
    subject = job["subject"]
    print("polling", flush=True)
    spawned = int(sys.stdin.readline())
    while True:
        asked = time.monotonic_ns()
        _, nobody, when = await asker.ask(subject, b"")
        if not nobody:
            return {"subscribed_ms": (asked - spawned) / 1e6, "answered_ms": (when - spawned) / 1e6}
        await asyncio.sleep(0.001)


async def info(job: dict) -> dict:
    """Return the subjects that a service serves."""
    asker = await Asker.connect(job["nats"])
    answer, _, _ = await asker.ask(f"$SRV.INFO.{job['service']}", b"")
    return {"serves": [endpoint["subject"] for endpoint in json.loads(answer)["endpoints"]]}


def answered(payload: bytes, request_id: str) -> None:
    response = VoiceResponse.FromString(payload)
    if response.request_id != request_id or not response.response:
        raise SystemExit(f"not an answer to {request_id}: {payload[:300]!r}")


class Ends:
    """What statuses say of the end of each request.

    Args:
        message: Their message.
        is_end: Whether a status is one.
    """

    def __init__(self, message: type[TTSStatus | PipelineStatus], is_end: Callable[[str], bool]) -> None:
        self._message = message
        self._is_end = is_end
        self._awaited: dict[str, asyncio.Future[str]] = {}

    def heard(self, subject: str, payload: bytes) -> None:
        status = self._message.FromString(payload).status
        future = self._awaited.get(subject.rsplit(".", 1)[-1])
        if self._is_end(status) and future is not None and not future.done():
            future.set_result(status)

    def of(self, key: str) -> asyncio.Future[str]:
        """Return what will be the last status under the last token of the subject."""
        future = self._awaited[key] = asyncio.get_running_loop().create_future()
        return future

    async def expect(self, end: asyncio.Future[str], key: str, status: str) -> None:
        found = await asyncio.wait_for(end, PATIENCE)
        del self._awaited[key]
        if found != status:
            raise SystemExit(f"{key} is {found}")


async def spread(job: dict, one: Callable[[int], Awaitable[None]]) -> dict:
    """Do as many as there are `requests`, `in_flight` at once."""
    numbers = iter(range(job["requests"]))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(job["in_flight"]):
            group.create_task(worker())
    return {"requests": job["requests"], "seconds": time.monotonic() - started}


async def voice_assistant(job: dict) -> dict:
    """A second of speech each, by request and reply."""
    asker = await Asker.connect(job["nats"])

    async def one(number: int) -> None:
        key = f"v{number}"
        payload, nobody, _ = await asker.ask(subjects.VOICE_REQUEST.template, voice_request(key))
        if nobody:
            raise SystemExit("nobody listens")
        answered(payload, key)

    return await spread(job, one)


async def tts_module(job: dict) -> dict:
    """A sentence each, in sessions of their own; every second one is streamed."""
    ends = Ends(TTSStatus, lambda status: status != "started")
    asker = await Asker.connect(job["nats"], subjects.TTS_STATUS.wildcard, ends.heard)

    async def one(number: int) -> None:
        session = f"t{number}"
        end = ends.of(session)
        request = TTSRequest(
            request_id=session, session_id=session, text=TEXT, stream=number % 2 == 1
        ).SerializeToString()
        await asker.store(subjects.TTS_REQUEST.build(session_id=session), request)
        await ends.expect(end, session, "completed")

    return await spread(job, one)


async def pipeline_bridge(job: dict) -> dict:
    """A trigger each, from the first status to the end of its run."""
    ends = Ends(PipelineStatus, PIPELINE_ENDS.__contains__)
    asker = await Asker.connect(job["nats"], subjects.PIPELINE_STATUS.wildcard, ends.heard)

    async def one(number: int) -> None:
        request_id = f"p{number}"
        end = ends.of(request_id)
        request = PipelineTrigger(request_id=request_id, pipeline="bench", parameters={"text": TEXT})
        await asker.store(subjects.PIPELINE_TRIGGER.template, request.SerializeToString())
        await ends.expect(end, request_id, "succeeded")

    return await spread(job, one)


async def stt_module(job: dict) -> dict:
    """Sessions of `UTTERANCES` each, as fast as they are taken: an "ah", and the silence that ends it."""
    finals: dict[str, int] = {}
    ended: dict[str, asyncio.Future[None]] = {}

    def heard(subject: str, payload: bytes) -> None:
        said = STTTranscription.FromString(payload)
        session = subject.rsplit(".", 1)[-1]
        if said.is_final and said.text:
            finals[session] = finals.get(session, 0) + 1
        if said.session_end and session in ended and not ended[session].done():
            ended[session].set_result(None)

    asker = await Asker.connect(job["nats"], subjects.VOICE_TRANSCRIPTION.wildcard, heard)
    sound = vowel(0.5, RATE) + bytes(RATE * 2)
    chunks = [sound[at : at + CHUNK] for at in range(0, len(sound), CHUNK)]

    async def one(number: int) -> None:
        session = f"s{number}"
        ended[session] = asyncio.get_running_loop().create_future()
        opening = STTStreamMessage(
            session_id=session, type="start", sample_rate=RATE, enable_assistant=False
        ).SerializeToString()
        await asker.store(subjects.VOICE_SESSION.build(session_id=session), opening)
        stream = subjects.VOICE_STREAM.build(session_id=session)
        for sequence in range(UTTERANCES * len(chunks)):
            chunk = STTStreamMessage(
                session_id=session,
                type="chunk",
                sequence=sequence,
                audio=chunks[sequence % len(chunks)],
                sample_rate=RATE,
            )
            await asker.store(stream, chunk.SerializeToString())
        closing = STTStreamMessage(session_id=session, type="end", sequence=UTTERANCES * len(chunks))
        await asker.store(stream, closing.SerializeToString())
        await asyncio.wait_for(ended[session], PATIENCE)
        if finals.get(session, 0) < 0.9 * UTTERANCES:
            raise SystemExit(
                f"{finals.get(session, 0)} of {UTTERANCES} utterances of {session} are written down"
            )

    sessions = -(-job["requests"] // UTTERANCES)
    found = await spread({**job, "requests": sessions}, one)
    return {**found, "requests": sum(finals.values())}


MODES = {
    "start": start,
    "info": info,
    "pipeline-bridge": pipeline_bridge,
    "stt-module": stt_module,
    "tts-module": tts_module,
    "voice-assistant": voice_assistant,
}

if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    print(json.dumps(uvloop.run(MODES[task["mode"]](task))))
