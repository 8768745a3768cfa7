"""How soon an answer is heard: voice-assistant beside the same steps one after the other, on the same endpoints, in one run.

The endpoints are scripted: a transcription takes 0.25 s, the model gives its first token after 0.3 s and 20 tokens a second,
speech takes three tenths of its own length; once with an endpoint that streams what it has, once with one that answers when it
is done. The steps in sequence are what a service does that waits for each: transcribe, embed and search, the whole answer, all
of its speech.
"""

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator
from typing import NamedTuple

from measure import HERE, Row

from handler_base.audio import wav
from handler_base.clients.embeddings import Embeddings, EmbeddingsSettings
from handler_base.clients.llm import LLM, ChatMessage, LLMSettings
from handler_base.clients.speech_to_text import SpeechToText, STTSettings
from handler_base.clients.text_to_speech import TextToSpeech, TTSSettings
from handler_base.http import HttpPool, HttpSettings
from handler_messages import CancelRequest, TTSAudioChunk, VoiceRequest, VoiceResponse
from handler_testkit.endpoints import HttpEndpoint, answering, routed
from handler_testkit.models import embeddings, models
from handler_testkit.nats import nats_server
from handler_testkit.services import Client, service_process
from handler_testkit.voice import answers, speaks, transcribes

ROUNDS = 2
MOST = 0.4
TRANSCRIPTION, FIRST_TOKEN, TOKENS_PER_SECOND, REAL_TIME = 0.25, 0.3, 20, 0.3
SECONDS_PER_LETTER = 1 / 15
RATE = 16_000
SPEECH = wav(bytes(2 * RATE), RATE)
"""A second of it; what it says is scripted."""

ANSWERS = {
    "a short answer": "The library opens at nine in the morning, and it closes at six. On Sundays it stays closed.",
    "a long answer": (
        "The library opens at nine in the morning, and it closes at six in the evening. On Sundays it stays closed. "
        "You can borrow up to ten books at a time, for four weeks each, and extend every loan twice as long as nobody "
        "else has asked for the book. The reading room on the second floor is open to everybody."
    ),
}
ENDPOINTS = {"speech is streamed": False, "speech comes whole": True}

Results = dict[str, dict[str, list[float]]]
"""Case → `handler` and `sequence` → seconds to the first audio, one per round."""


class Urls(NamedTuple):
    base: str

    def environ(self, nats: str, folder: str) -> dict[str, str]:
        routes = {"LLM": "llm", "WHISPER": "whisper", "TTS": "tts", "EMBEDDINGS": "embeddings"}
        return {
            "NATS_URL": nats,
            "ENABLE_RERANKER": "false",
            "SQLITE_PATH": f"{folder}/knowledge.db",
            **{f"{name}_URL": f"{self.base}/{path}" for name, path in routes.items()},
        }


@contextlib.asynccontextmanager
async def endpoints(answer: str, *, whole: bool) -> AsyncGenerator[Urls]:
    tokens = [f"{word} " for word in answer.split()]
    script = routed(
        {
            "/llm": answering({}),
            "/whisper": answering({}),
            "/llm/v1/models": models("scripted"),
            "/llm/v1/chat/completions": answers(tokens, first=FIRST_TOKEN, interval=1 / TOKENS_PER_SECOND),
            "/embeddings/v1/models": models("scripted"),
            "/embeddings/v1/embeddings": embeddings(8),
            "/whisper/v1/audio/transcriptions": transcribes("When does it open?", delay=TRANSCRIPTION),
            "/tts/v1/audio/speech": speaks(
                seconds_per_letter=SECONDS_PER_LETTER, pace=REAL_TIME, rate=RATE, whole=whole
            ),
        }
    )
    async with HttpEndpoint(script, record=False) as endpoint:
        yield Urls(endpoint.url)


async def in_sequence(urls: Urls) -> float:
    """Take every step by itself; the first audio is there when the last step is done."""
    pool = HttpPool(HttpSettings())
    stt = SpeechToText(pool, STTSettings(url=f"{urls.base}/whisper"))
    llm = LLM(pool, LLMSettings(url=f"{urls.base}/llm", model="scripted"))
    tts = TextToSpeech(pool, TTSSettings(url=f"{urls.base}/tts"))
    vectors = Embeddings(pool, EmbeddingsSettings(url=f"{urls.base}/embeddings", model="scripted"))
    started = time.perf_counter()
    question = (await stt.transcribe(SPEECH)).text
    await vectors.embed([question])
    answer = await llm.complete([ChatMessage("user", question)])
    await tts.synthesize(answer.text.strip())
    seconds = time.perf_counter() - started
    await pool.aclose()
    return seconds


async def by_handler(client: Client) -> float:
    """Ask voice-assistant; return when the first audio came, and leave the rest."""
    request = VoiceRequest(request_id=uuid.uuid4().hex, audio=SPEECH, stream=True)
    heard = await client.listen(f"ai.voice.response.stream.{request.request_id}")
    started = time.perf_counter()
    asking = asyncio.create_task(
        client.connection.request("voice.request", request, VoiceResponse, timeout=120)
    )
    await heard.until(lambda came: bool(TTSAudioChunk.FromString(came[0].data).audio) if came else False, 60)
    seconds = time.perf_counter() - started
    cancel = CancelRequest(request_id=request.request_id)
    await client.connection.publish(f"ai.voice.cancel.{request.request_id}", cancel)
    await asking
    return seconds


async def run(rounds: int = ROUNDS) -> Results:
    results: Results = {}
    for kind, whole in ENDPOINTS.items():
        for length, answer in ANSWERS.items():
            found = results[f"{length}, {kind}"] = {"handler": [], "sequence": []}
            async with endpoints(answer, whole=whole) as urls:
                with tempfile.TemporaryDirectory() as folder, nats_server() as nats:
                    environ = urls.environ(nats.url, folder)
                    async with Client(nats.url) as client:
                        process = service_process("voice_assistant", environ)
                        await asyncio.to_thread(process.__enter__)
                        try:
                            await by_handler(
                                client
                            )  # connections and model names are there from the second on
                            for _ in range(rounds):
                                found["handler"].append(await by_handler(client))
                                found["sequence"].append(await in_sequence(urls))
                        finally:
                            await asyncio.to_thread(process.__exit__, None, None, None)
    return results


def measure(rounds: int = ROUNDS) -> Results:
    return asyncio.run(run(rounds))


def rows(results: Results) -> list[Row]:
    """The budget: at most two fifths of the sequence."""
    checked: list[Row] = []
    for case, found in results.items():
        ours, theirs = (statistics.median(found[name]) for name in ("handler", "sequence"))
        measured = f"{ours / theirs:.2f} × ({ours:.2f} against {theirs:.2f} s)"
        checked.append(Row(f"first audio, {case}", f"≤ {MOST} × in sequence", measured, ours / theirs / MOST))
    return checked


def add(results: Results, more: Results) -> None:
    """Put the rounds of another run to those of this one."""
    for case, found in more.items():
        for name, seconds in found.items():
            results[case][name] += seconds


def keep(results: Results, known: dict[str, object]) -> None:
    """Write a run to `results/`."""
    rounded = {
        case: {name: [round(value, 3) for value in seconds] for name, seconds in found.items()}
        for case, found in results.items()
    }
    file = HERE / "results" / "first_audio.json"
    file.write_text(json.dumps({"facts": known, "rounds": rounded}, indent=1) + "\n")


def table(results: Results) -> str:
    lines = [
        "| first audio after the end of speech, s | voice-assistant | in sequence | ÷ |",
        "|---|---:|---:|---:|",
    ]
    for case, found in results.items():
        ours, theirs = (statistics.median(found[name]) for name in ("handler", "sequence"))
        lines.append(f"| {case} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure()))
