"""`handlers voices` against the real server and a scripted tts-module."""

from __future__ import annotations

import asyncio
import json

import pytest

from handler_messages import (
    ErrorResponse,
    TTSVoiceInfo,
    TTSVoiceListResponse,
    TTSVoiceRefreshResponse,
)
from handlers_cli.voice.voices import Voices, voices


@pytest.fixture
async def served(bus):
    async def listed(_request) -> TTSVoiceListResponse:
        known = [
            TTSVoiceInfo(name="kal16", language="en", description="a man, a machine"),
            TTSVoiceInfo(name="ada", custom=True),
        ]
        return TTSVoiceListResponse(voices=known, default_voice="kal16")

    async def refreshed(_request) -> TTSVoiceRefreshResponse:
        return TTSVoiceRefreshResponse(count=2, added=["ada"], removed=["bob"])

    await bus.serve("ai.voice.tts.voices.list", TTSVoiceListResponse, listed)
    return await bus.serve("ai.voice.tts.voices.refresh", TTSVoiceListResponse, refreshed)


@pytest.fixture
def run(bus, terminal):
    async def run(**options: object) -> int:
        async with asyncio.timeout(20):
            return await voices(Voices(nats_url=bus.url, **options), terminal, asyncio.Event())

    return run


async def test_voices_are_listed_in_columns(run, served, terminal) -> None:
    assert await run() == 0
    assert terminal.said.splitlines() == [
        "kal16  en            built in  default  a man, a machine",
        "ada    any language  custom",
    ]
    assert not served


async def test_refresh_says_what_is_new_and_then_lists(run, served, terminal) -> None:
    assert await run(refresh=True) == 0
    assert terminal.noted == "2 voices; new: ada; gone: bob\n"
    assert "kal16" in terminal.said
    assert len(served) == 1


async def test_json_is_one_object(run, served, terminal) -> None:
    assert await run(refresh=True, as_json=True) == 0
    said = json.loads(terminal.said)
    assert said["default_voice"] == "kal16"
    assert said["voices"][1]["custom"] is True


async def test_an_error_is_told(run, bus, terminal) -> None:
    async def broken(_request) -> ErrorResponse:
        return ErrorResponse(error=True, message="no endpoint", type="upstream_unavailable")

    await bus.serve("ai.voice.tts.voices.list", TTSVoiceListResponse, broken)
    assert await run() == 1
    assert "no endpoint (upstream_unavailable)" in terminal.noted


async def test_nobody_listening_is_told_with_what_to_do(run, terminal) -> None:
    assert await run() == 3
    assert "nobody listens on ai.voice.tts.voices.list" in terminal.noted
    assert "tts-module" in terminal.noted
    assert "handlers up" in terminal.noted


async def test_a_list_without_voices_is_said(run, bus, terminal) -> None:
    async def none(_request) -> TTSVoiceListResponse:
        return TTSVoiceListResponse()

    await bus.serve("ai.voice.tts.voices.list", TTSVoiceListResponse, none)
    assert await run() == 0
    assert terminal.said == "no voices\n"
