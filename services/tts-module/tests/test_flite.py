"""A real voice: flite behind the contract of `/v1/audio/speech`."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from handler_base.audio import read_wav_header
from handler_messages import TTSFullResponse

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Stack

    from handler_testkit.endpoints import Exchange, Script

FLITE = shutil.which("flite")


def flite(folder: Path) -> Script:
    """Return an endpoint that lets flite speak."""

    async def script(exchange: Exchange) -> None:
        assert FLITE is not None
        asked = exchange.request.json()
        out = folder / f"{exchange.request.connection}-{id(exchange)}.wav"
        process = await asyncio.create_subprocess_exec(
            FLITE, "-voice", asked["voice"], "-t", asked["input"], "-o", str(out)
        )
        assert await process.wait() == 0
        await exchange.answer(out.read_bytes(), headers={"content-type": "audio/wav"})

    return script


@pytest.mark.skipif(FLITE is None, reason="flite is not installed")
async def test_flite_speaks_a_text_sentence_by_sentence(stack: Stack, tmp_path: Path) -> None:
    stack.voice(flite(tmp_path))
    text = "Good morning. The quick brown fox jumps over the lazy dog. How are you today?"
    async with stack.tts_module(TTS_VOICES="slt,rms", TTS_SPEAKER="slt"):
        session = await stack.session()
        chunks = await session.spoken("r1", text, speaker="RMS")
        await session.say("r2", text, speaker="rms", stream=False)
        await session.ended("r2")
        [whole] = [m for m in session.all if isinstance(m, TTSFullResponse)]
    assert [c.text for c in chunks if c.text] == [
        "Good morning.",
        "The quick brown fox jumps over the lazy dog.",
        "How are you today?",
    ]
    pcm = session.pcm_of(chunks)
    rate = chunks[0].sample_rate
    assert rate in {8000, 16000}
    assert 3 < len(pcm) / rate < 12
    loudest = [max(abs(s) for s in pcm[at : at + rate // 2]) for at in range(0, len(pcm), rate // 2)]
    assert max(loudest) > 3000
    header = read_wav_header(whole.audio)
    assert header is not None
    assert whole.audio[header.start :] == pcm.tobytes()
    assert whole.duration_seconds == len(pcm) / rate
