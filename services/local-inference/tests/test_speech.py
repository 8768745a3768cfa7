"""Speech through the openai client, Coqui's form, and what happens to the program that speaks."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import time
from pathlib import Path

import numpy as np
import openai
import pytest
import soundfile

from handler_testkit.speech import needs_flite, word_error_rate

TEXT = "The old house stands on the hill beside the river. Where did I leave the keys of the car?"
SPEECH = "/tts/v1/audio/speech"


@pytest.fixture(scope="module")
def tts(service):
    return service.client("tts")


def say(service, body: object):
    return service.client("llm")._client.post(f"{service.url}{SPEECH}", json=body)


def heard(service, file: tuple, **fields: str) -> str:
    client = service.client("whisper")
    return client.audio.transcriptions.create(model="", file=file, extra_body=fields or None).text


@needs_flite
@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("wav", "audio/wav"),
        ("pcm", "audio/pcm;rate=24000;channels=1"),
        ("flac", "audio/flac"),
        ("opus", "audio/ogg"),
        ("mp3", "audio/mpeg"),
    ],
)
def test_every_format_is_understood_again(service, tts, shape: str, kind: str) -> None:
    spoken = tts.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format=shape)
    assert spoken.response.headers["content-type"] == kind
    fields = {"sample_rate": "24000"} if shape == "pcm" else {}
    assert word_error_rate(TEXT, heard(service, (f"a.{shape}", spoken.content), **fields)) <= 0.2


@needs_flite
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 48_000])
@pytest.mark.parametrize("shape", ["wav", "pcm"])
def test_the_rate_is_the_one_that_was_asked_for(service, shape: str, rate: int) -> None:
    body = {"input": "How high is the tower?", "response_format": shape, "sample_rate": rate}
    content = say(service, body).content
    if shape == "wav":
        assert struct.unpack_from("<4sI", content, 36) == (b"data", 0xFFFFFFFF)
        assert struct.unpack_from("<I", content, 24) == (rate,)
        sound, told = soundfile.read(io.BytesIO(content))
        assert (told, sound.ndim) == (rate, 1)
    else:
        sound = np.frombuffer(content, "<i2")
    assert len(sound) / rate == pytest.approx(1.5, abs=0.4)


@needs_flite
def test_the_first_audio_is_there_long_before_the_last(service) -> None:
    client = service.client("llm")._client
    body = {"input": f"{TEXT} " * 40, "response_format": "wav"}
    begun = time.monotonic()
    with client.stream("POST", f"{service.url}{SPEECH}", json=body) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        next(pieces)
        first = time.monotonic() - begun
        rest = sum(map(len, pieces))
        whole = time.monotonic() - begun
    assert rest > 100 * 32_000
    assert first < whole / 4


@needs_flite
def test_speed_voice_and_aliases_change_what_is_heard(service) -> None:
    def length(**more: object) -> int:
        return len(say(service, {"input": TEXT, "response_format": "wav", **more}).content)

    assert length(speed=2) < 0.7 * length() < 0.5 * length(speed=0.5)
    sounds = {v: say(service, {"input": TEXT, "voice": v, "response_format": "wav"}).content
              for v in ("", "alloy", "nova", "slt", "SLT", "echo", "onyx", "rms", "fable", "awb", "kal_diphone", "kal16")}  # fmt: skip
    assert len(set(sounds.values())) == 4
    assert sounds[""] == sounds["alloy"] == sounds["slt"] == sounds["SLT"]
    assert sounds["echo"] == sounds["rms"]
    assert sounds["fable"] == sounds["awb"]


@needs_flite
@pytest.mark.parametrize(
    "text", ["\U0001f600", "...", "\u4f60\u597d", "a\0b", "-o /tmp/x", "$(id) `id` ; id", "%s%n", "<speak>"]
)
def test_odd_characters_break_nothing(service, text: str) -> None:
    answer = say(service, {"input": text, "response_format": "wav"})
    assert answer.status_code == 200
    assert len(answer.content) > 44 + 3200


@needs_flite
def test_what_looks_like_an_option_is_spoken_and_no_file_is_written(service, tmp_path) -> None:
    say(service, {"input": f"-o {tmp_path}/evil.wav -lv", "response_format": "wav"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        ({"input": ""}, "some text", "input"),
        ({"input": " \n "}, "some text", "input"),
        ({}, "input", None),
        ({"input": "x" * 5000}, "5000 characters, more than 4096", "input"),
        ({"input": "x", "voice": "nobody"}, "slt, rms, awb, kal16", "voice"),
        ({"input": "x", "voice": "-lv"}, "slt, rms, awb, kal16", "voice"),
        ({"input": "x", "response_format": "aac"}, "response_format", None),
        ({"input": "x", "speed": 5}, "0.25 to 4", "speed"),
        ({"input": "x", "speed": 0}, "0.25 to 4", "speed"),
        ({"input": "x", "response_format": "opus", "sample_rate": 44100}, "sample_rate", "sample_rate"),
        ({"input": "x", "sample_rate": 1}, "sample_rate", "sample_rate"),
        ({"input": "x", "stream_format": "sse"}, "stream_format", None),
    ],
)
def test_a_wrong_request_is_answered_with_400_in_openais_shape(service, body, says, param) -> None:
    answer = say(service, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert says in error["message"]
    assert error["param"] == param


def test_models_and_voices_are_listed(service, tts) -> None:
    assert [model.id for model in tts.models.list()] == ["flite"]
    listed = tts._client.get(f"{service.url}/tts/v1/audio/voices").json()["voices"]
    assert [voice["id"] for voice in listed] == ["slt", "rms", "awb", "kal16"]
    assert all(voice["language"].startswith("en-") and voice["name"] for voice in listed)
    with pytest.raises(openai.NotFoundError) as caught:
        tts.audio.speech.create(model="tts-9", voice="alloy", input="Hello.")
    assert caught.value.code == "model_not_found"


@needs_flite
def test_coquis_form_answers_with_a_whole_wav(service) -> None:
    client = service.client("llm")._client
    url = f"{service.url}/tts/api/tts"
    asked = {"text": TEXT, "speaker_id": "rms", "language_id": "en"}
    by_query, by_form = client.get(url, params=asked), client.post(url, data=asked)
    assert by_query.content == by_form.content
    assert by_query.headers["content-type"] == "audio/wav"
    assert struct.unpack_from("<I", by_query.content, 40) == (len(by_query.content) - 44,)
    assert soundfile.info(io.BytesIO(by_query.content)).samplerate == 16_000
    for wrong, says in (
        ({}, "text must"),
        ({"text": "x", "language_id": "de"}, "English"),
        ({"text": "x", "speaker_id": "p1"}, "slt"),
    ):
        refused = client.get(url, params=wrong)
        assert (refused.status_code, says in refused.json()["error"]["message"]) == (400, True)


def program(folder: Path, text: str) -> str:
    file = folder / "flite"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_a_client_that_goes_away_ends_the_program(run, tmp_path) -> None:
    """A program that takes long in place of flite, which is done before anybody could leave."""
    service = run(flite_path=program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60"))
    client = service.client("llm")._client
    with pytest.raises(openai.APITimeoutError):
        service.client("tts").with_options(timeout=1.5).audio.speech.create(
            model="", voice="", input=TEXT, response_format="wav"
        )
    pid = int((tmp_path / "pid").read_text())
    service.until(lambda: service.in_flight == 0, seconds=1)
    service.until(lambda: not Path(f"/proc/{pid}").exists(), seconds=1)
    assert client.get(f"{service.url}/healthz").status_code == 200


@needs_flite
def test_a_client_that_leaves_a_stream_ends_it(run, tmp_path) -> None:
    flite = shutil.which("flite")
    counted = program(tmp_path, f'echo x >> {tmp_path}/count; exec {flite} "$@"')
    service = run(flite_path=counted, tts_max_chars=1_000_000)
    client = service.client("llm")._client
    body = {"input": f"{TEXT} " * 5000, "response_format": "wav"}
    with client.stream("POST", f"{service.url}{SPEECH}", json=body) as answer:
        next(answer.iter_raw())
        assert service.in_flight == 1
    service.until(lambda: service.in_flight == 0, seconds=1)
    assert (tmp_path / "count").read_text().count("x") < 2000


def test_a_program_that_fails_is_told_by_the_status(run, tmp_path) -> None:
    service = run(flite_path=program(tmp_path, "exit 3"))
    answer = say(service, {"input": TEXT, "response_format": "wav"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_failed")


def test_without_flite_speech_says_how_to_get_it_and_all_else_works(run) -> None:
    service = run(flite_path="no-such-flite")
    client = service.client("llm")._client
    ready = client.get(f"{service.url}/readyz")
    assert ready.status_code == 200
    assert "apt-get install flite" in ready.json()["notes"][0]
    refused = say(service, {"input": TEXT, "response_format": "wav"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_missing")
    assert "apt-get install flite" in refused.json()["error"]["message"]
    assert "retry-after" not in refused.headers
    assert len(service.client("embeddings").embeddings.create(model="", input="text").data) == 1


@needs_flite
def test_with_flite_there_is_nothing_to_note(service) -> None:
    assert service.client("llm")._client.get(f"{service.url}/readyz").json() == {"ready": True}
    assert os.access(shutil.which("flite") or "", os.X_OK)
