"""Hearing, through the openai client and as plain forms, against the running service."""

from __future__ import annotations

import concurrent.futures
import io
import os
import socket
import statistics
import time
from pathlib import Path

import numpy as np
import openai
import pytest
import soundfile

from handler_testkit.speech import VOICES, needs_flite, speak, wav, word_error_rate

TEXT = """
    How high is the tower?
    The tower was built in 1889 by many people.
    Please turn off the light in the kitchen.
    What is the weather going to be like tomorrow morning?
    Can you tell me how to get to the train station?
    I would like to make an appointment with the doctor for next week.
    The old house stands on the hill beside the river.
    Remember to water the plants before you go on holiday.
    Where did I leave the keys of the car?
    There is a meeting at three o'clock in the afternoon.
    My favorite color is blue and my dog is very happy.
    The computer in the office does not work today.
"""
SENTENCES = [line.strip() for line in TEXT.strip().splitlines()]
ENDINGS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "opus": "OPUS", "mp3": "MPEG_LAYER_III"}


@pytest.fixture(scope="module")
def whisper(service):
    return service.client("whisper")


def encoded(pcm: bytes, kind: str, rate: int, channels: int) -> bytes:
    from local_inference.resample import resample

    sound = resample(np.frombuffer(pcm, "<i2").astype(np.float32) / 32768, 16_000, rate)
    # The voice comes from one side.
    sides = np.zeros((len(sound), channels), np.float32)
    sides[:, 0] = sound
    file = io.BytesIO()
    container = "OGG" if kind == "opus" else kind.upper()
    soundfile.write(file, sides, rate, format=container, subtype=ENDINGS[kind])
    return file.getvalue()


def form(service, data: dict[str, str], file: tuple | None = None):
    files = {"file": file} if file else None
    url = f"{service.url}/whisper/v1/audio/transcriptions"
    return service.client("llm")._client.post(url, data=data, files=files)


def rates_of(whisper, shapes: list[tuple[str, float, int]]) -> list[float]:
    """Return the word error rate of each sentence in each voice, the shapes of the files in turn."""

    def rate_of(number: int, voice: str, sentence: str) -> float:
        kind, rate, channels = shapes[number * 7 % len(shapes)]
        file = encoded(speak(sentence, voice), kind, int(rate * 1000), channels)
        heard = whisper.audio.transcriptions.create(model="whisper-1", file=(f"speech.{kind}", file))
        return word_error_rate(sentence, heard.text)

    said = [(voice, sentence) for voice in VOICES for sentence in SENTENCES]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(rate_of, range(len(said)), *zip(*said, strict=True)))


KILOHERTZ = (8, 16, 22.05, 44.1, 48)
MIXED = [
    (kind, rate, channels)
    for kind in ENDINGS
    for rate in KILOHERTZ
    for channels in (1, 2)
    if kind != "opus" or rate in {8, 16, 48}
]


@needs_flite
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("shapes", "most"),
    [
        pytest.param([("wav", 16, 1)], 0.12, id="16 kHz", marks=pytest.mark.slow),
        pytest.param([("wav", 8, 1)], 0.25, id="8 kHz", marks=pytest.mark.slow),
        pytest.param(MIXED, 0.2, id="formats, rates and channels in turn"),
    ],
)
def test_the_word_error_rate_is_low(whisper, shapes, most: float) -> None:
    """The figures of the README: 12 sentences, four voices."""
    rates = rates_of(whisper, shapes)
    size = len(SENTENCES)
    each = {voice: statistics.mean(rates[n * size : (n + 1) * size]) for n, voice in enumerate(VOICES)}
    print({voice: f"{rate:.1%}" for voice, rate in each.items()}, f"{statistics.mean(rates):.1%}")
    assert statistics.mean(rates) <= most


@needs_flite
def test_bare_pcm_needs_its_rate_and_is_then_heard(service) -> None:
    pcm = speak(SENTENCES[2])
    heard = form(service, {"sample_rate": "16000"}, ("speech.pcm", pcm, "application/octet-stream"))
    assert heard.status_code == 200
    assert word_error_rate(SENTENCES[2], heard.json()["text"]) <= 0.2
    refused = form(service, {}, ("speech", pcm, "audio/pcm"))
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "sample_rate"


@needs_flite
def test_the_answer_comes_in_the_shape_that_was_asked_for(whisper) -> None:
    file = ("speech.wav", wav(bytes(32_000) + speak(SENTENCES[2]) + bytes(64_000) + speak(SENTENCES[0])))
    ask = whisper.audio.transcriptions.create
    plain = ask(model="", file=file, prompt="Lamps.", temperature=0.3, language="en").text
    assert ask(model="default", file=file, response_format="text", language="en-US").strip() == plain
    verbose = ask(model="pocketsphinx-en-us", file=file, response_format="verbose_json")
    assert verbose.language == "english"
    assert verbose.text == plain
    assert " ".join(segment.text for segment in verbose.segments) == plain
    first, second = verbose.segments
    assert 0.7 < first.start < 1.4 < first.end < 4.5 < second.start + 0.5
    assert second.end <= verbose.duration


@pytest.mark.parametrize("kind", ["silence", "noise"])
def test_half_a_minute_without_a_voice_is_nothing_and_soon_so(whisper, kind: str) -> None:
    sound = (
        np.zeros(30 * 16_000) if kind == "silence" else np.random.default_rng(1).normal(0, 3000, 30 * 16_000)
    )
    begun = time.monotonic()
    heard = whisper.audio.transcriptions.create(model="", file=("a.wav", wav(sound.astype("<i2").tobytes())))
    assert heard.text == ""
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("fields", "file", "says", "param"),
    [
        ({}, ("a.wav", b"", "audio/wav"), "empty", "file"),
        ({}, ("a.wav", b"no audio at all", "audio/wav"), "cannot be read", "file"),
        ({}, ("a.webm", b"\x1a\x45\xdf\xa3" + bytes(99), "audio/webm"), "WebM", "file"),
        ({"file": "text"}, None, "multipart", None),
        ({"language": "de"}, ("a.wav", wav(bytes(9)), ""), "English alone, not 'de'", "language"),
        ({"response_format": "srt"}, ("a.wav", wav(bytes(9)), ""), "verbose_json", "response_format"),
        ({"sample_rate": "x"}, ("a.wav", wav(bytes(9)), ""), "whole number", "sample_rate"),
        ({"sample_rate": "-1"}, ("a.wav", wav(bytes(9)), ""), "whole number", "sample_rate"),
        ({"channels": "65"}, ("a.wav", wav(bytes(9)), ""), "whole number", "channels"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_answered_with_400_in_openais_shape(service, fields, file, says, param) -> None:
    answer = form(service, fields, file)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert says in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("multipart/form-data", b"--x", "boundary"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n", "form"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", "part named file"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--x--\r\n', "filename"),
        ("application/json", b"{}", "multipart"),
        ("", b"", "multipart"),
    ],
)  # fmt: skip
def test_a_form_that_is_none_is_told_so(service, kind: str, body: bytes, says: str) -> None:
    url = f"{service.url}/whisper/v1/audio/transcriptions"
    answer = service.client("llm")._client.post(url, content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_the_model_is_listed_and_others_are_not_found(whisper) -> None:
    assert [model.id for model in whisper.models.list()] == ["pocketsphinx-en-us"]
    with pytest.raises(openai.NotFoundError) as caught:
        whisper.audio.transcriptions.create(model="whisper-9", file=("a.wav", wav(bytes(9))))
    assert caught.value.code == "model_not_found"


def test_too_long_and_too_large_are_refused(run) -> None:
    service = run(whisper_max_seconds=2, whisper_max_bytes=200_000)
    long = form(service, {}, ("a.wav", wav(bytes(96_000)), ""))
    assert (long.status_code, long.json()["error"]["code"]) == (413, "audio_too_long")
    large = form(service, {}, ("a.wav", wav(bytes(300_000)), ""))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")


@needs_flite
def test_what_else_runs_is_not_held_up_while_a_minute_is_heard(service, whisper) -> None:
    minute = speak(" ".join(SENTENCES * 2))
    assert len(minute) > 60 * 32_000
    http = service.client("llm")._client
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hearing = pool.submit(whisper.audio.transcriptions.create, model="", file=("a.wav", wav(minute)))
        waits = []
        while not hearing.done():
            begun = time.monotonic()
            assert http.get(f"{service.url}/readyz").status_code == 200
            waits.append(time.monotonic() - begun)
            time.sleep(0.01)
        assert word_error_rate(" ".join(SENTENCES * 2), hearing.result().text) <= 0.2
    print(
        f"{len(waits)} probes, 99 % within {np.quantile(waits, 0.99) * 1000:.0f} ms, at most {max(waits) * 1000:.0f} ms"
    )
    assert len(waits) > 20
    assert np.quantile(waits, 0.9) < 0.25


def processes_of(parent: int) -> dict[int, int]:
    """Return the CPU ticks of the child processes that listen."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = stat.with_name("cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and "local_inference.listener" in command:
            found[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    return found


@needs_flite
def test_a_client_that_goes_away_ends_the_process_at_its_work_and_the_next_is_served(run) -> None:
    service = run(whisper_parallel=1)
    others = set(processes_of(os.getpid()))
    minute = wav(speak(" ".join(SENTENCES * 2)))
    part = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + minute
        + b"\r\n--x--\r\n"
    )
    head = f"POST /whisper/v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(part)}\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + part)
        service.until(
            lambda: any(ticks > 100 for pid, ticks in processes_of(os.getpid()).items() if pid not in others)
        )
        assert service.in_flight == 1
    # The whole minute would take ten seconds.
    service.until(lambda: service.in_flight == 0, seconds=1)
    service.until(lambda: set(processes_of(os.getpid())) <= others, seconds=1)
    heard = form(service, {}, ("a.wav", wav(speak(SENTENCES[2]))))
    assert word_error_rate(SENTENCES[2], heard.json()["text"]) <= 0.2


@needs_flite
def test_a_process_that_dies_is_told_and_replaced(run) -> None:
    service = run(whisper_parallel=1)
    others = set(processes_of(os.getpid()))
    file = ("a.wav", wav(speak(SENTENCES[2])))
    assert form(service, {}, file).status_code == 200
    (ours,) = set(processes_of(os.getpid())) - others
    os.kill(ours, 9)
    service.until(lambda: ours not in processes_of(os.getpid()))
    broken = form(service, {}, file)
    assert broken.status_code in {200, 500}
    assert form(service, {}, file).status_code == 200


@needs_flite
def test_nothing_is_left_when_the_service_ends_and_nothing_runs_before_somebody_speaks(run) -> None:
    others = set(processes_of(os.getpid()))
    service = run()
    assert set(processes_of(os.getpid())) <= others
    form(service, {}, ("a.wav", wav(speak(SENTENCES[2]))))
    assert len(set(processes_of(os.getpid())) - others) == 1
    service.stop()
    assert set(processes_of(os.getpid())) <= others
