"""Voices: of the endpoint, of the settings, of folders that come, go and are broken."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from typing import TYPE_CHECKING

import pytest

from handler_base.clients.text_to_speech import TextToSpeech, TTSSettings
from handler_base.errors import NotFound
from handler_base.http import HttpPool, HttpSettings
from handler_messages import ErrorResponse, TTSVoiceListResponse, TTSVoiceRefreshResponse
from handler_testkit.endpoints import answering, stalling
from handler_testkit.speaking import wav_sample
from tts_module import folders, voices as voices_module
from tts_module.config import VoicesSettings
from tts_module.folders import scan
from tts_module.voices import Voices

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Stack

LIST = "ai.voice.tts.voices.list"
REFRESH = "ai.voice.tts.voices.refresh"
ENDPOINTS_LIST = "/tts/v1/audio/voices"
MAX_SAMPLE = 100_000


def add_voice(folder: Path, name: str, description: str = "", sample: bytes = b"") -> Path:
    """Write a voice's folder."""
    here = folder / name
    here.mkdir(parents=True, exist_ok=True)
    (here / "voice.toml").write_text(description)
    if sample:
        (here / "sample.wav").write_bytes(sample)
    return here


async def listed(stack: Stack) -> TTSVoiceListResponse:
    return await stack.ask(LIST, TTSVoiceListResponse())


async def refreshed(stack: Stack) -> TTSVoiceRefreshResponse:
    return await stack.ask(REFRESH, TTSVoiceRefreshResponse())


def names(answer: TTSVoiceListResponse) -> list[str]:
    return [voice.name for voice in answer.voices]


async def test_the_endpoints_voices_are_listed_and_others_refused(stack: Stack) -> None:
    listing = {"voices": [{"id": "af_heart", "name": "Heart", "language": "en-US"}, "nova"]}
    stack.routes[ENDPOINTS_LIST] = answering(listing)
    async with stack.tts_module():
        answer = await listed(stack)
        assert [(v.name, v.language, v.description, v.custom) for v in answer.voices] == [
            ("af_heart", "en-US", "Heart", False),
            ("nova", "", "", False),
        ]
        assert answer.default_voice == "af_heart"
        session = await stack.session()
        await session.spoken("r1", "Hello.", speaker="HEART")
        await session.spoken("r2", "Hello.", speaker="AF_heart")
        await session.spoken("r3", "Hello.", speaker="Nova")
        await session.spoken("r4", "Hello.")
        assert [body["voice"] for body in stack.asked] == ["af_heart", "af_heart", "nova", "af_heart"]
        await session.say("r5", "Hello.", speaker="ghost")
        status = await session.ended("r5")
    assert (status.status, status.error.type) == ("error", "not_found")
    assert status.message == "there is no voice 'ghost'; known are af_heart, nova"


async def test_the_settings_voices_go_before_the_endpoints(stack: Stack) -> None:
    stack.routes[ENDPOINTS_LIST] = answering({"voices": ["nova"]})
    async with stack.tts_module(TTS_VOICES="slt, rms", TTS_SPEAKER="rms"):
        answer = await listed(stack)
        assert (names(answer), answer.default_voice) == (["slt", "rms"], "rms")
    assert all(r.path != ENDPOINTS_LIST for r in stack.endpoint.requests)


async def test_without_a_list_any_name_is_passed_on(stack: Stack) -> None:
    async with stack.tts_module():
        answer = await listed(stack)
        assert (names(answer), answer.default_voice) == ([], "alloy")
        session = await stack.session()
        await session.spoken("r1", "Hello.", speaker="Whoever")
        await session.spoken("r2", "Hello.")
    assert [body["voice"] for body in stack.asked] == ["Whoever", "alloy"]


async def test_json_clients_may_send_nothing_too(stack: Stack) -> None:
    async with stack.tts_module(TTS_VOICES="slt"):
        for payload in (b"", b"{}"):
            reply = await stack.client.connection.request_bytes(
                LIST, payload, timeout=10, headers={"Content-Type": "application/json"}
            )
            assert b'"default_voice": "slt"' in reply.data
        reply = await stack.client.connection.request_bytes(LIST, b"\xff", timeout=10)
        assert ErrorResponse.FromString(reply.data).type == "invalid_request"


async def test_custom_voices_come_from_folders(stack: Stack, tmp_path: Path) -> None:
    add_voice(tmp_path, "amy", 'language = "en-GB"\ndescription = "Calm"\nspeaker = "amy-v2"')
    add_voice(tmp_path, "bob", 'name = "Robert"')
    async with stack.tts_module(VOICES_DIR=str(tmp_path), TTS_VOICES="slt,AMY"):
        answer = await listed(stack)
        assert [(v.name, v.language, v.custom, v.description) for v in answer.voices] == [
            ("slt", "", False, ""),
            ("amy", "en-GB", True, "Calm"),
            ("Robert", "", True, ""),
        ]
        session = await stack.session()
        await session.spoken("r1", "Hello.", speaker="Amy")
        await session.spoken("r2", "Hello.", speaker="robert")
    assert [body["voice"] for body in stack.asked] == ["amy-v2", "bob"]
    assert not any("speaker_wav" in body for body in stack.asked)


async def test_a_sample_is_sent_to_an_endpoint_that_clones(stack: Stack, tmp_path: Path) -> None:
    sample = wav_sample()
    here = add_voice(tmp_path, "amy", 'sample = "sample.wav"\nlanguage = "de"', sample)
    async with stack.tts_module(VOICES_DIR=str(tmp_path), TTS_CLONING="true"):
        session = await stack.session()
        await session.spoken("r1", "Hello. There.", speaker="amy")
        await session.spoken("r2", "Hello.", speaker="me", speaker_wav=wav_sample(8), language="fr")
        (here / "sample.wav").unlink()
        await session.say("r3", "Hello.", speaker="amy")
        status = await session.ended("r3")
    assert [(b["voice"], b["language"]) for b in stack.asked] == [("amy", "de")] * 2 + [("me", "fr")]
    assert [base64.b64decode(b["speaker_wav"]) for b in stack.asked] == [sample, sample, wav_sample(8)]
    assert (status.error.type, status.message) == (
        "not_found",
        "the voice 'amy' cannot be used: there is no file sample.wav",
    )


async def test_a_sample_that_takes_its_time_does_not_change_the_order(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_voice(tmp_path, "amy", 'sample = "sample.wav"', wav_sample())
    async with stack.tts_module(VOICES_DIR=str(tmp_path), TTS_CLONING="true", VOICES_RESCAN="0"):
        session = await stack.session()
        await listed(stack)
        slow = folders.read_sample
        monkeypatch.setattr(folders, "read_sample", lambda *args: (time.sleep(0.2), slow(*args))[1])
        await session.say("r1", "The first one.", speaker="amy")
        await session.say("r2", "The second one.")
        await session.ended("r2")
    assert [r for r, s in session.told if s == "completed"] == ["r1", "r2"]


async def test_a_refresh_tells_what_came_and_went(stack: Stack, tmp_path: Path) -> None:
    add_voice(tmp_path, "amy")
    async with stack.tts_module(VOICES_DIR=str(tmp_path), VOICES_RESCAN="0"):
        assert names(await listed(stack)) == ["amy"]
        add_voice(tmp_path, "bob")
        add_voice(tmp_path, "cleo")
        (tmp_path / "amy" / "voice.toml").unlink()
        answer = await refreshed(stack)
        assert (answer.count, list(answer.added), list(answer.removed)) == (2, ["bob", "cleo"], ["amy"])
        answer = await refreshed(stack)
        assert (answer.count, list(answer.added), list(answer.removed)) == (2, [], [])


async def test_folders_are_looked_at_again_and_again(stack: Stack, tmp_path: Path) -> None:
    async with stack.tts_module(VOICES_DIR=str(tmp_path), VOICES_RESCAN="0.05"):
        assert names(await listed(stack)) == []
        add_voice(tmp_path, "amy")
        async with asyncio.timeout(10):
            while names(await listed(stack)) != ["amy"]:
                await asyncio.sleep(0.02)


async def test_a_list_that_the_endpoint_cannot_give_now_is_asked_for_later(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(voices_module, "RETRY_MAX", 0.05)
    stack.routes[ENDPOINTS_LIST] = answering({"error": "loading"}, 503)
    async with stack.tts_module(VOICES_RESCAN="0"):
        session = await stack.session()
        await session.spoken("r1", "Hello.", speaker="whoever")  # unknown is not refused
        assert names(await listed(stack)) == []
        stack.routes[ENDPOINTS_LIST] = answering({"voices": ["nova"]})
        async with asyncio.timeout(10):
            while names(await listed(stack)) != ["nova"]:
                await asyncio.sleep(0.02)
        asked = len(stack.endpoint.requests)
        stack.routes[ENDPOINTS_LIST] = answering({}, 503)
        answer = await refreshed(stack)  # what was known stays known
        assert (answer.count, list(answer.removed)) == (1, [])
        assert len(stack.endpoint.requests) == asked + 1
    assert len([r for r in caplog.records if "voices of the endpoint are not known" in r.message]) == 2


async def test_an_endpoint_that_keeps_its_list_to_itself_delays_an_answer_only_so_long(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voices_module, "LIST_TIMEOUT", 0.1)
    stack.routes[ENDPOINTS_LIST] = stalling
    async with stack.tts_module(VOICES_RESCAN="0"):
        assert names(await listed(stack)) == []


async def test_many_voices_are_not_all_named() -> None:
    pool = HttpPool(HttpSettings())
    voices = Voices(
        TextToSpeech(pool, TTSSettings()),
        VoicesSettings(built_in=tuple(f"v{n:02}" for n in range(40))),
        MAX_SAMPLE,
    )
    with pytest.raises(NotFound, match=r"v29 and 10 more$"):
        voices.find("x")
    await pool.aclose()


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("language = ", "voice.toml: Invalid value"),
        ("language = 7", "voice.toml: Expected `str`, got `int` - at `$.language`"),
        ('langauge = "en"', "voice.toml: Object contains unknown field `langauge`"),
        ('sample = "gone.wav"', "there is no file gone.wav"),
        ('sample = "../secret.wav"', "'../secret.wav' is no file of this folder"),
        ('sample = "/etc/hostname"', "'/etc/hostname' is no file of this folder"),
        ('sample = ".."', "is no file of this folder"),
        ('sample = "link.wav"', "'link.wav' is no file of this folder"),
        ('sample = "circle.wav"', "circle.wav"),
        ('sample = "a\\u0000b"', "voice.toml: sample: 'a\\x00b' is no file of this folder"),
        ('sample = "voice.toml"', "voice.toml is no audio file"),
        ('sample = "large.wav"', "large.wav has more than 100000 bytes"),
        ('sample = "pipe.wav"', "there is no file pipe.wav"),
        ('name = "a\\u0007b"', "voice.toml: name"),
        ('name = "amy"', "the name 'amy' is taken by 'amy'"),
        ("a = " + "[" * 5000, "voice.toml"),
        ("#" * 70_000, "voice.toml has more than 65536 bytes"),
    ],
)
def test_a_broken_folder_is_named_and_keeps_nobody_from_the_others(
    tmp_path: Path, description: str, says: str
) -> None:
    import os

    folder = tmp_path / "voices"
    (tmp_path / "secret.wav").write_bytes(wav_sample())
    add_voice(folder, "amy")
    here = add_voice(folder, "broken", description)
    (here / "link.wav").symlink_to("../../secret.wav")
    (here / "circle.wav").symlink_to("circle.wav")
    (here / "large.wav").write_bytes(wav_sample(800) + bytes(MAX_SAMPLE))
    os.mkfifo(here / "pipe.wav")
    add_voice(folder, "zoe")
    (folder / "notes.txt").write_text("no folder")
    (folder / ".hidden").mkdir()
    found = scan(folder, MAX_SAMPLE)
    assert [voice.name for voice in found.voices] == ["amy", "zoe"]
    assert list(found.problems) == ["broken"]
    assert says in found.problems["broken"]


def test_a_mounted_folder_with_links_within_itself_is_fine(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: files are links into a folder with a date in its name."""
    here = add_voice(tmp_path, "amy", 'sample = "amy.wav"')
    (here / "..data").mkdir()
    (here / "..data" / "amy.wav").write_bytes(wav_sample())
    (here / "amy.wav").symlink_to("..data/amy.wav")
    found = scan(tmp_path, MAX_SAMPLE)
    assert (len(found.voices), found.problems) == (1, {})


async def test_problems_are_logged_once_and_a_folder_that_is_away_takes_no_voice_with_it(
    stack: Stack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "voices"
    add_voice(folder, "amy")
    (folder / "empty").mkdir()
    with caplog.at_level(logging.WARNING, logger="tts_module.voices"):
        async with stack.tts_module(VOICES_DIR=str(folder), VOICES_RESCAN="0"):
            await refreshed(stack)
            await refreshed(stack)
            folder.rename(tmp_path / "moved")
            await refreshed(stack)
            assert names(await listed(stack)) == ["amy"]
    said = [r.getMessage() for r in caplog.records if "no voice" in r.message]
    assert said == [
        f"no voice: {folder / 'empty'}: there is no file voice.toml",
        f"no voice: {folder}: cannot be read: No such file or directory",
    ]
