"""Scripted endpoints of a spoken conversation: one that hears, one that answers, one that speaks, each at its own pace.

What is spoken says which piece it is, so that order and positions can be told from the sound.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from typing import TYPE_CHECKING

from handler_base.audio import PcmReader, wav, wav_header
from handler_messages import TTSAudioChunk
from handler_testkit.models import chunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handler_testkit.endpoints import Exchange, Script
    from handler_testkit.services import Heard

RATE = 8000
"""Samples per second of what is spoken."""

QUESTION = "How long do cats sleep?"
ANSWER = ("Cats sleep ", "sixteen ", "hours a day. ", "Dogs sleep ", "less than ", "that.")


def tone(number: int, samples: int) -> bytes:
    """Return PCM that says which piece it is: the same sample over and over."""
    return struct.pack("<h", number) * samples


def transcribes(text: str = QUESTION, *, delay: float = 0.0) -> Script:
    """Return an endpoint that hears `text` in whatever it gets."""

    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(delay)
        await exchange.json({"text": text})

    return script


def answers(
    tokens: Sequence[str] = ANSWER,
    *,
    first: float = 0.0,
    interval: float = 0.0,
    gate: asyncio.Event | None = None,
) -> Script:
    """Return a model that answers `tokens`, the first after `first` seconds, then one each `interval`.

    Args:
        tokens: The answer.
        first: Seconds to the first token.
        interval: Seconds between two.
        gate: Waited for before the fourth.
    """

    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(first)
        if not exchange.request.json().get("stream"):
            await asyncio.sleep(interval * (len(tokens) - 1))
            message = {"role": "assistant", "content": "".join(tokens)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await exchange.json({"model": "m1", "choices": [choice]})
            return
        await exchange.head(200, {"content-type": "text/event-stream"})
        for number, token in enumerate(tokens):
            if number:
                await asyncio.sleep(interval)
            if gate is not None and number == 3:
                await gate.wait()
            await exchange.send(chunk("m1", {"content": token}))
        await exchange.send(chunk("m1", {}, "stop") + b"data: [DONE]\n\n")
        await exchange.end()

    return script


def speaks(
    *, seconds_per_letter: float = 0.01, pace: float = 0.0, rate: int = RATE, whole: bool = False
) -> Script:
    """Return a voice whose every text sounds like its own number, counted from 1.

    Args:
        seconds_per_letter: How fast it speaks.
        pace: Seconds of work for a second of sound.
        rate: Samples per second.
        whole: Whether nothing is sent before all of it is made.
    """
    numbers = itertools.count(1)

    async def script(exchange: Exchange) -> None:
        number = next(numbers)
        samples = int(len(exchange.request.json()["input"]) * seconds_per_letter * rate)
        if whole:
            await asyncio.sleep(pace * samples / rate)
            await exchange.answer(wav(tone(number, samples), rate), headers={"content-type": "audio/wav"})
            return
        await exchange.head(200, {"content-type": "audio/wav"})
        await exchange.send(wav_header(rate))
        step = rate // 20
        for start in range(0, samples, step):
            count = min(step, samples - start)
            await asyncio.sleep(pace * count / rate)
            await exchange.send(tone(number, count))
        await exchange.end()

    return script


def pcm_of(file: bytes) -> bytes:
    """Return the samples of a WAV file."""
    return PcmReader().feed(file)


def chunks_of(heard: Heard) -> list[TTSAudioChunk]:
    """Return the speech that came."""
    return [TTSAudioChunk.FromString(m.data) for m in heard.all]
