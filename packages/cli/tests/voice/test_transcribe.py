"""`handlers transcribe` against the real server and a scripted stt-module."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from array import array

import pytest

from handler_base.audio import wav
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    STTCheckpoint,
    STTStreamMessage,
    STTTranscription,
)
from handler_testkit.services import until
from handlers_cli.voice.transcribe import Transcribing, transcribe


class Scripted:
    """Hears sessions and publishes what a test has it recognise."""

    def __init__(self, bus) -> None:
        self.bus = bus
        self.starts: list[STTStreamMessage] = []
        self.chunks: list[STTStreamMessage] = []
        self.times: list[float] = []
        self.began = asyncio.Event()
        self.complete = asyncio.Event()

    async def listen(self) -> None:
        async def start(message: STTStreamMessage) -> None:
            self.starts.append(message)
            self.began.set()

        async def chunk(message: STTStreamMessage) -> None:
            self.chunks.append(message)
            self.times.append(time.monotonic())
            if message.type == "end":
                self.complete.set()

        await self.bus.serve("ai.voice.session.*", STTStreamMessage, start)
        await self.bus.serve("ai.voice.stream.*", STTStreamMessage, chunk)

    @property
    def session(self) -> str:
        return self.starts[0].session_id

    @property
    def audio(self) -> bytes:
        return b"".join(chunk.audio for chunk in self.chunks)

    async def say(self, text: str = "", **fields: object) -> None:
        said = STTTranscription(session_id=self.session, text=text, **fields)
        await self.bus.publish(f"ai.voice.transcription.{self.session}", said)

    def then(self, script) -> None:
        async def run() -> None:
            await self.began.wait()
            await script()

        self.bus.tasks.append(asyncio.ensure_future(run()))


@pytest.fixture
async def stt(bus) -> Scripted:
    scripted = Scripted(bus)
    await scripted.listen()
    return scripted


@pytest.fixture
def run(bus, terminal, question):
    async def run(path: str = "", **options: object) -> int:
        interrupt = options.pop("interrupt", None) or asyncio.Event()
        shown = options.pop("terminal", terminal)
        async with asyncio.timeout(30):
            what = Transcribing(path or str(question), nats_url=bus.url, **options)
            return await transcribe(what, shown, interrupt)

    return run


async def heard(stt: Scripted, *texts: str) -> None:
    await stt.complete.wait()
    for index, text in enumerate(texts):
        await stt.say(text, is_final=True, sequence=index, utterance=index)
    await stt.say(session_end=True, sequence=len(texts), utterance=len(texts))


async def test_each_utterance_is_a_line_and_the_end_of_the_session_the_end(run, stt, terminal) -> None:
    stt.then(lambda: heard(stt, "One two.", " Three. "))
    assert await run() == 0
    assert terminal.said == "One two.\nThree.\n"


async def test_a_session_is_a_start_chunks_without_gaps_and_an_end(run, stt, question) -> None:
    stt.then(lambda: heard(stt, "Yes."))
    assert await run(language="de") == 0
    (start,) = stt.starts
    assert (start.type, start.language, start.sample_rate) == ("start", "de", 16000)
    assert start.HasField("enable_assistant")
    assert not start.enable_assistant
    assert [chunk.sequence for chunk in stt.chunks] == list(range(11))
    assert [chunk.type for chunk in stt.chunks] == ["chunk"] * 10 + ["end"]
    assert {len(chunk.audio) for chunk in stt.chunks[:-1]} == {3200}
    assert {chunk.sample_rate for chunk in stt.chunks} == {16000}
    assert {chunk.session_id for chunk in stt.chunks} == {start.session_id}
    assert stt.audio == question.read_bytes()[44:]


async def test_what_was_sent_is_kept_in_the_streams(run, stt, bus) -> None:
    stt.then(lambda: heard(stt, "Yes."))
    await run()
    jetstream = bus.client.connection.jetstream
    assert (await jetstream.stream_info("AI_VOICE_SESSIONS")).state.messages == 1
    assert (await jetstream.stream_info("AI_VOICE_STREAM")).state.messages == 11 + 2


async def test_studio_sound_is_sent_at_16_khz(run, stt, tmp_path) -> None:
    path = tmp_path / "studio.wav"
    path.write_bytes(wav(bytes(4 * 44100), 44100, channels=2))
    stt.then(lambda: heard(stt, "Yes."))
    assert await run(str(path)) == 0
    assert len(stt.audio) == 2 * 16000
    assert {chunk.sample_rate for chunk in stt.chunks} == {16000}


async def test_with_a_pace_it_is_sent_as_fast_as_it_was_spoken(run, stt) -> None:
    stt.then(lambda: heard(stt, "Yes."))
    await run(realtime=True)
    assert stt.times[-1] - stt.times[0] > 0.85


async def test_without_one_it_stays_a_bounded_time_ahead_of_what_was_heard(
    run, stt, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("handlers_cli.voice.microphone.LEAD_SECONDS", 1.0)
    path = tmp_path / "long.wav"
    path.write_bytes(wav(bytes(2 * 16000 * 30), 16000))

    async def script() -> None:
        await until(lambda: len(stt.chunks) >= 10)
        assert len(stt.chunks) < 150, "a second ahead, and as much as passed"
        await stt.say("Yes.", is_final=True, end_ms=60_000, checkpoint=STTCheckpoint(position=1))
        await stt.complete.wait()
        assert stt.times[-1] - stt.times[0] < 25, "not as slow as it was spoken"
        await stt.say(session_end=True, utterance=1)

    stt.then(script)
    assert await run(str(path)) == 0
    assert len(stt.chunks) == 301


async def test_json_is_one_object_with_all_that_was_said(run, stt, terminal) -> None:
    stt.then(lambda: heard(stt, "One.", "Two."))
    assert await run(as_json=True) == 0
    said = json.loads(terminal.said)
    assert said["text"] == "One. Two."
    assert [each["text"] for each in said["transcriptions"]] == ["One.", "Two."]
    assert said["transcriptions"][1]["utterance"] == "1"


async def test_partial_texts_are_drawn_over_on_a_terminal(run, stt, tty) -> None:
    async def script() -> None:
        await stt.complete.wait()
        await stt.say("on", sequence=0)
        await stt.say("one tw", sequence=2)
        await stt.say("late", sequence=1)
        await stt.say("One two.", sequence=3, is_final=True)
        await stt.say("one two", sequence=4)  # after its final one
        await stt.say(session_end=True, sequence=5, utterance=1)

    stt.then(script)
    assert await run(terminal=tty) == 0
    assert tty.said == "\r\x1b[Kon\r\x1b[Kone tw\r\x1b[KOne two.\n"


async def test_elsewhere_partial_texts_are_not_shown_and_what_comes_twice_is_shown_once(
    run, stt, terminal
) -> None:
    async def script() -> None:
        await stt.complete.wait()
        await stt.say("on", sequence=0)
        for sequence in (1, 2):
            await stt.say("One.", sequence=sequence, is_final=True)
        await stt.say(session_end=True, sequence=3, utterance=1)

    stt.then(script)
    assert await run() == 0
    assert terminal.said == "One.\n"


async def test_nothing_recognised_ends_with_1(run, stt, terminal) -> None:
    stt.then(lambda: heard(stt, ""))
    assert await run() == 1
    assert terminal.said == ""
    assert "nothing was recognised in 1.0 s of audio" in terminal.noted


async def test_an_utterance_that_failed_is_told_and_the_rest_goes_on(run, stt, terminal) -> None:
    async def script() -> None:
        await stt.complete.wait()
        await stt.say(is_final=True, error=ErrorResponse(message="the endpoint is away"))
        await stt.say("Two.", is_final=True, sequence=1, utterance=1)
        await stt.say(session_end=True, sequence=2, utterance=2)

    stt.then(script)
    assert await run() == 0
    assert terminal.said == "Two.\n"
    assert "warning: the endpoint is away" in terminal.noted


async def test_a_session_that_fails_ends_with_1_and_no_more_is_sent(run, stt, terminal) -> None:
    async def script() -> None:
        error = ErrorResponse(message="too many sessions", type="overloaded")
        await stt.say(session_end=True, error=error)

    stt.then(script)
    assert await run(realtime=True) == 1
    assert "too many sessions (overloaded)" in terminal.noted
    assert len(stt.chunks) < 8


async def test_a_service_that_falls_silent_is_not_waited_for_for_ever(run, stt, terminal) -> None:
    assert await run(timeout=0.1) == 1
    assert "nothing was heard of stt-module for 0.1 s" in terminal.noted
    assert "no stt-module runs now; the recording is stored and waits for one" in terminal.noted


async def test_without_streams_the_service_is_named(nats, terminal, question) -> None:
    what = Transcribing(str(question), nats_url=nats.url)
    assert await transcribe(what, terminal, asyncio.Event()) == 3
    assert "no stream for ai.voice.session." in terminal.noted


async def test_ctrl_c_cancels_the_session(run, stt, bus, terminal) -> None:
    interrupt = asyncio.Event()
    cancels = await bus.client.listen("ai.voice.cancel.*")

    async def script() -> None:
        interrupt.set()
        cancel = CancelRequest.FromString((await cancels.next()).data)
        assert cancel.session_id == stt.session
        await stt.say(session_end=True)

    stt.then(script)
    assert await run(interrupt=interrupt, realtime=True) == 130
    assert "cancelled\n" in terminal.noted


async def test_a_truncated_file_is_read_as_far_as_it_goes(run, stt, terminal, question) -> None:
    question.write_bytes(question.read_bytes()[: 44 + 16000])
    stt.then(lambda: heard(stt, "Yes."))
    assert await run() == 0
    assert "warning" in terminal.noted
    assert "it ends after 0.5 s of the 1.0 s that it should have" in terminal.noted
    assert len(stt.audio) == 16000


async def test_standard_input_is_read(run, stt, question, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(question.read_bytes())))
    stt.then(lambda: heard(stt, "Yes."))
    assert await run("-") == 0
    assert len(stt.audio) == 32000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"hello, world", "no audio file that is known here"),
        (b"RIFF....WAVEdata....", "cannot be used: its samples come before it says what they are"),
        (b"fLaC and nothing more", "cannot be decoded as flac"),
    ],
)
async def test_a_file_that_cannot_be_used_is_told(
    terminal, tmp_path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert await transcribe(Transcribing(str(path)), terminal, asyncio.Event()) == 2
    assert f"{path} " in terminal.noted
    assert words in terminal.noted


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3"])
async def test_other_formats_are_read_with_soundfile(run, stt, tmp_path, form: str) -> None:
    import numpy as np
    import soundfile

    path = tmp_path / "question"
    soundfile.write(path, np.zeros((32000, 2), "int16"), 32000, format=form)
    stt.then(lambda: heard(stt, "Yes."))
    assert await run(str(path)) == 0
    assert len(stt.audio) == pytest.approx(32000, abs=4000)


async def test_without_soundfile_it_is_told_what_to_install(terminal, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    path = tmp_path / "question.mp3"
    path.write_bytes(b"ID3" + bytes(100))
    assert await transcribe(Transcribing(str(path)), terminal, asyncio.Event()) == 2
    assert "handlers-cli[audio]" in terminal.noted
    assert "ffmpeg" in terminal.noted


def test_samples_stay_what_they_were() -> None:
    from handlers_cli.voice.files import AudioFile, decode

    samples = array("h", [1, -2, 3])
    assert decode(AudioFile("x", wav(samples.tobytes(), 8000), "wav")).samples == samples
