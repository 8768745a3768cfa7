"""A voice whose audio says what it was made of, so that a listener can tell what is missing, doubled or in disorder."""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING

from handler_base.audio import wav, wav_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handler_testkit.endpoints import Exchange, Script

RATE = 16_000
"""Samples per second of this voice."""


def samples_of(text: str) -> array[int]:
    """Return the audio of a text: 200 samples for each letter, each of them the letter's number and its place."""
    return array("h", [ord(letter) * 100 % 32_000 + n for letter in text for n in range(200)])


def spelling(*, interval: float = 0.0, size: int = 4000, rate: int = RATE) -> Script:
    """Return a voice that sends its WAV file in parts.

    Args:
        interval: Seconds between two parts.
        size: Bytes of a part; the first is as long as the header and one more sample.
        rate: Samples per second.
    """

    async def script(exchange: Exchange) -> None:
        pcm = samples_of(exchange.request.json()["input"]).tobytes()
        await exchange.head(200, {"content-type": "audio/wav"})
        await exchange.send(wav_header(rate) + pcm[:2])
        for start in range(2, len(pcm), size):
            if interval:
                await asyncio.sleep(interval)
            await exchange.send(pcm[start : start + size])
        await exchange.end()

    return script


async def stalling_midway(exchange: Exchange) -> None:
    """Speak half a second, and no more."""
    await exchange.head(200, {"content-type": "audio/wav"})
    await exchange.send(wav_header(RATE) + bytes(RATE))
    await exchange.stall()


async def breaking_midway(exchange: Exchange) -> None:
    """Speak half a second, and break off."""
    await exchange.head(200, {"content-type": "audio/wav"})
    await exchange.send(wav_header(RATE) + bytes(RATE))
    await asyncio.sleep(0.05)
    exchange.reset()


def when(texts: Mapping[str, Script], otherwise: Script) -> Script:
    """Return a script that picks by what is in the text to speak."""

    async def script(exchange: Exchange) -> None:
        text = exchange.request.json()["input"]
        chosen = next((played for part, played in texts.items() if part in text), otherwise)
        await chosen(exchange)

    return script


def wav_sample(samples: int = 800) -> bytes:
    """Return a small WAV file."""
    return wav(array("h", range(samples)).tobytes(), RATE)
