"""Scripts that speak the contracts of the inference endpoints: chat, embeddings, rerank, speech, transcriptions.

`inference()` puts them under the routes of Ray Serve. `python -m handler_testkit.models` serves that from a process
of its own, so that a benchmark measures the client alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import math
import sys
import wave
from array import array
from typing import TYPE_CHECKING, Any

from handler_testkit.endpoints import Exchange, HttpEndpoint, routed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handler_testkit.endpoints import Script

WORDS = ("The ", "answer ", "is ", "forty", "-two", ".")
HEARD = "What is the answer?"


def chat(pieces: Sequence[str] = WORDS, *, interval: float = 0.0, model: str = "scripted") -> Script:
    """Return a chat model that always answers `pieces`, one token each.

    Args:
        pieces: The answer.
        interval: Seconds between two tokens.
        model: What it calls itself.
    """
    tokens = [chunk(model, {"content": piece}) for piece in pieces]
    opening = chunk(model, {"role": "assistant", "content": ""})
    closing = chunk(model, {}, "stop")

    async def script(exchange: Exchange) -> None:
        request = exchange.request.json()
        usage = {"prompt_tokens": len(request["messages"]), "completion_tokens": len(pieces)}
        if not request.get("stream"):
            await asyncio.sleep(interval * len(pieces))
            message = {"role": "assistant", "content": "".join(pieces)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await exchange.json({"id": "c", "model": model, "choices": [choice], "usage": usage})
            return
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.send(opening)
        for token in tokens:
            if interval:
                await asyncio.sleep(interval)
            await exchange.send(token)
        await exchange.send(closing)
        if request.get("stream_options", {}).get("include_usage"):
            await exchange.send(_event({"id": "c", "model": model, "choices": [], "usage": usage}))
        await exchange.send(b"data: [DONE]\n\n")
        await exchange.end()

    return script


def embeddings(dimension: int = 8) -> Script:
    """Return an embeddings model; equal texts get equal vectors, in an order that is not the request's."""

    async def script(exchange: Exchange) -> None:
        request = exchange.request.json()
        texts: list[str] = request["input"]
        data = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, dimension)}
            for index, text in enumerate(texts)
        ]
        await exchange.json({"object": "list", "model": request.get("model", ""), "data": data[::-1]})

    return script


def vector_of(text: str, dimension: int = 8) -> list[float]:
    """Return the vector that `embeddings` gives to a text: numbers from -1 to 1 out of its hash."""
    digest = hashlib.shake_128(text.encode()).digest(dimension)
    return [round(byte / 127.5 - 1, 6) for byte in digest]


def rerank() -> Script:
    """Return a reranker that counts the words a document shares with the query."""

    async def script(exchange: Exchange) -> None:
        request = exchange.request.json()
        wanted = set(request["query"].lower().split())
        scores = [
            (len(wanted & set(document.lower().split())), index)
            for index, document in enumerate(request["documents"])
        ]
        best = sorted(scores, key=lambda score: (-score[0], score[1]))[: request.get("top_n", len(scores))]
        await exchange.json(
            {"results": [{"index": index, "relevance_score": score} for score, index in best]}
        )

    return script


def speech(seconds_per_letter: float = 0.01, rate: int = 16000) -> Script:
    """Return a voice: silence in WAV, as long as the text is long, sent in pieces."""

    async def script(exchange: Exchange) -> None:
        text = exchange.request.json()["input"]
        audio = silence(len(text) * seconds_per_letter, rate)
        await exchange.head(200, {"content-type": "audio/wav"})
        for start in range(0, len(audio), 4096):
            await exchange.send(audio[start : start + 4096])
        await exchange.end()

    return script


def silence(seconds: float, rate: int = 16000) -> bytes:
    """Return a WAV file of silence, mono, 16 bit."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(b"\0\0" * int(seconds * rate))
    return file.getvalue()


def transcription(text: str = HEARD) -> Script:
    """Return a model that hears `text` in whatever it is sent."""

    async def script(exchange: Exchange) -> None:
        await exchange.json({"text": text, "language": "en"})

    return script


def vowel(seconds: float, rate: int = 16000, pitch: float = 120.0) -> bytes:
    """Return raw PCM16LE, mono, that voice activity detection takes for speech: an "ah" that is sung.

    The pitch and its harmonics, those near 700 and 1200 Hz stronger, as a mouth makes them.
    """
    harmonics = [
        (
            2 * math.pi * pitch * number / rate,
            (1 + 2 * _near(pitch * number, 700) + 1.5 * _near(pitch * number, 1200)) / number,
        )
        for number in range(1, min(25, int(rate / 2 / pitch)))
    ]
    samples = array(
        "h",
        (
            int(2000 * sum(weight * math.sin(step * at) for step, weight in harmonics))
            for at in range(int(seconds * rate))
        ),
    )
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def _near(frequency: float, formant: float) -> float:
    return math.exp(-(((frequency - formant) / 300) ** 2))


def models(*names: str) -> Script:
    """Return the list of models that `/v1/models` gives."""

    async def script(exchange: Exchange) -> None:
        await exchange.json({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    return script


def inference(pieces: Sequence[str] = WORDS, *, interval: float = 0.0, dimension: int = 8) -> Script:
    """Return all models under the routes of Ray Serve: `/llm`, `/embeddings`, `/reranker`, `/whisper`, `/tts`."""
    return routed(
        {
            "/llm/v1/chat/completions": chat(pieces, interval=interval),
            "/llm/v1/models": models("scripted"),
            "/embeddings/v1/embeddings": embeddings(dimension),
            "/embeddings/v1/models": models("scripted"),
            "/reranker/v1/rerank": rerank(),
            "/whisper/v1/audio/transcriptions": transcription(),
            "/tts/v1/audio/speech": speech(),
        }
    )


def _event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def chunk(model: str, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """Return an event of a streamed answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _event({"id": "c", "object": "chat.completion.chunk", "model": model, "choices": [choice]})


async def _serve(tokens: int, interval: float, dimension: int) -> None:
    pieces = [f"word{number} " for number in range(tokens)]
    async with HttpEndpoint(
        inference(pieces, interval=interval, dimension=dimension), record=False
    ) as endpoint:
        print(endpoint.url, flush=True)  # noqa: T201
        await asyncio.Event().wait()


def main() -> None:
    """Serve until killed; the first line of output is the base URL."""
    parser = argparse.ArgumentParser(description="Scripted inference endpoints on 127.0.0.1")
    parser.add_argument("--tokens", type=int, default=200, help="tokens in an answer")
    parser.add_argument("--interval", type=float, default=0.005, help="seconds between two tokens")
    parser.add_argument("--dimension", type=int, default=384, help="numbers in a vector")
    options = parser.parse_args()
    import uvloop

    uvloop.run(_serve(options.tokens, options.interval, options.dimension))


if __name__ == "__main__":
    main()
