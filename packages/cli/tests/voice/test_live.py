"""`handlers talk --live` against the real server and scripted stt-module and voice-assistant."""

from __future__ import annotations

import asyncio
import wave

import pytest

from handler_base.audio import wav
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    STTStreamMessage,
    STTTranscription,
    TTSStatus,
    VoiceResponse,
)
from handler_testkit.services import until
from handlers_cli.voice.live import live
from handlers_cli.voice.talk import Talking


def speech(seconds: float, value: int = 1) -> bytes:
    return value.to_bytes(2, "little") * int(16000 * seconds)


def frames(path) -> bytes:
    with wave.open(str(path)) as reader:
        return reader.readframes(reader.getnframes())


class Conversation:
    """Hears one session and says in it what a test wants."""

    def __init__(self, bus) -> None:
        self.bus = bus
        self.start = STTStreamMessage()
        self.chunks: list[STTStreamMessage] = []
        self.began = asyncio.Event()

    @property
    def session(self) -> str:
        return self.start.session_id

    async def serve(self, script) -> None:
        async def start(message: STTStreamMessage) -> None:
            self.start = message
            self.began.set()
            await script()

        async def chunk(message: STTStreamMessage) -> None:
            self.chunks.append(message)

        await self.bus.serve("ai.voice.stream.*", STTStreamMessage, chunk)
        await self.bus.serve("ai.voice.session.*", STTStreamMessage, start)

    async def spoken(self, seconds: float) -> None:
        await until(lambda: len(self.chunks) * 0.1 >= seconds)

    async def final(self, text: str, utterance: int = 0) -> None:
        said = STTTranscription(
            session_id=self.session, text=text, is_final=True, utterance=utterance, sequence=utterance
        )
        await self.bus.publish(f"ai.voice.transcription.{self.session}", said)

    async def speak(self, generation: int, *pieces: bytes) -> None:
        subject = f"ai.voice.tts.audio.{self.session}"
        await self.bus.chunks(subject, f"a{generation}", *pieces, generation=generation)

    async def answer(self, text: str, generation: int = 1, **fields: object) -> None:
        response = VoiceResponse(
            request_id=f"a{generation}", response=text, generation=generation,
            **{"session_id": self.session, "finish_reason": "stop", **fields},
        )  # fmt: skip
        await self.bus.publish(f"ai.voice.response.a{generation}", response)


@pytest.fixture
def talk(bus) -> Conversation:
    return Conversation(bus)


@pytest.fixture
def short(tmp_path) -> str:
    path = tmp_path / "short.wav"
    path.write_bytes(wav(speech(0.3, 7), 16000))
    return str(path)


@pytest.fixture
def run(bus, terminal, short, tmp_path):
    async def run(**options: object) -> int:
        interrupt = options.pop("interrupt", None) or asyncio.Event()
        options.setdefault("output", str(tmp_path / "answer.wav"))
        async with asyncio.timeout(30):
            return await live(Talking(short, nats_url=bus.url, **options), terminal, interrupt)

    return run


async def test_a_turn_is_heard_answered_and_over(talk, run, terminal, tmp_path) -> None:
    async def script() -> None:
        await talk.spoken(0.6)
        await talk.final("How high is the tower?")
        await talk.speak(1, speech(0.1, 2), speech(0.1, 3))
        await talk.answer(
            "120 metres.", transcription="How high is the tower?", timings={"first_audio": 0.5}, model="m"
        )

    await talk.serve(script)
    assert await run() == 0
    assert terminal.said.splitlines()[:2] == ["Heard:  How high is the tower?", "Answer: 120 metres."]
    assert "first audio 0.50 s · m\n0.2 s of speech · " in terminal.said
    assert frames(tmp_path / "answer.wav") == speech(0.1, 2) + speech(0.1, 3)
    audio = b"".join(chunk.audio for chunk in talk.chunks)
    assert audio.startswith(speech(0.3, 7) + bytes(2 * 1600)), "silence follows what was said"
    await until(lambda: talk.chunks[-1].type == "end")
    assert [chunk.sequence for chunk in talk.chunks] == list(range(len(talk.chunks)))


async def test_the_start_says_who_speaks_and_leaves_the_assistant_to_the_service(talk, run) -> None:
    async def script() -> None:
        await talk.spoken(0.3)
        await talk.final("Well?")
        await talk.speak(1, speech(0.1))
        await talk.answer("Well.", transcription="Well?")

    await talk.serve(script)
    assert await run(session="s1", user="ada", voice="slt", language="en", collection="c", rag=False) == 0
    start = talk.start
    assert (start.type, start.session_id, start.user_id, start.speaker) == ("start", "s1", "ada", "slt")
    assert (start.language, start.collection, start.sample_rate) == ("en", "c", 16000)
    assert not start.HasField("enable_assistant")
    assert start.HasField("enable_rag")
    assert not start.enable_rag


async def test_audio_of_an_older_generation_is_dropped(talk, run, terminal, tmp_path) -> None:
    async def script() -> None:
        await talk.spoken(0.3)
        await talk.final("One.")
        await talk.speak(1, speech(0.1, 1), speech(0.1, 1))
        await talk.answer("First.", 1, finish_reason="interrupted")
        await talk.final("Two.", 1)
        await talk.speak(3, speech(0.1, 3), speech(0.1, 3))
        await talk.speak(2, speech(0.1, 2))
        await talk.answer("Second.", 3, transcription="Two.")

    await talk.serve(script)
    assert await run() == 0
    assert "Answer: First. (interrupted)" in terminal.said
    assert "Answer: Second." in terminal.said
    assert frames(tmp_path / "answer.wav") == speech(0.2, 3)


async def test_an_interrupt_drops_what_was_not_heard_yet(talk, run, tmp_path) -> None:
    async def script() -> None:
        await talk.spoken(0.3)
        await talk.final("One.")
        await talk.speak(1, speech(0.1, 1))
        status = TTSStatus(session_id=talk.session, status="interrupted", generation=2)
        await talk.bus.publish(f"ai.voice.tts.status.{talk.session}", status)
        await talk.bus.client.connection.flush()
        await talk.speak(1, speech(0.1, 1))
        await talk.final("Two.", 1)
        await talk.speak(2, speech(0.1, 2))
        await talk.answer("Second.", 2, transcription="Two.")

    await talk.serve(script)
    assert await run() == 0
    assert frames(tmp_path / "answer.wav") == speech(0.1, 2)


async def test_an_answer_to_somebody_else_is_not_ours(talk, run, terminal) -> None:
    async def script() -> None:
        await talk.spoken(0.3)
        await talk.final("Well?")
        await talk.answer("Not yours.", 7, session_id="another")
        await talk.speak(1, speech(0.1))
        await talk.answer("Yours.", transcription="Well?")

    await talk.serve(script)
    assert await run() == 0
    assert "Not yours" not in terminal.said


async def test_an_answer_that_comes_before_all_was_said_is_not_the_end(
    talk, run, terminal, short, tmp_path
) -> None:
    async def script() -> None:
        await talk.spoken(0.1)
        await talk.final("One.")
        await talk.speak(1, speech(0.1, 1))
        await talk.answer("First.", 1, transcription="One.")
        await talk.spoken(0.6)
        await talk.final("Two.", 1)
        await talk.speak(2, speech(0.1, 2))
        await talk.answer("Second.", 2, transcription="Two.")

    await talk.serve(script)
    assert await run() == 0
    assert [line for line in terminal.said.splitlines() if line.startswith(("Heard", "Answer"))] == [
        "Heard:  One.",
        "Answer: First.",
        "Heard:  Two.",
        "Answer: Second.",
    ]
    assert frames(tmp_path / "answer.wav") == speech(0.1, 2)


async def test_the_answer_is_played_and_an_interrupt_silences_it(talk, run, terminal, programs) -> None:
    programs.add("aplay", 'cat > "$here/played.$$"; cat "$here/played.$$" >> "$here/played"')

    async def script() -> None:
        await talk.spoken(0.3)
        await talk.final("One.")
        await talk.speak(1, speech(0.1, 1))
        await until(lambda: any(programs.folder.glob("played.*")))
        await talk.final("Two.", 1)
        await talk.speak(2, speech(0.1, 2))
        await talk.answer("Second.", 2, transcription="Two.")

    await talk.serve(script)
    assert await run(output="") == 0
    assert programs.played == speech(0.1, 2)


async def test_an_error_of_the_turn_ends_it(talk, run, terminal) -> None:
    async def script() -> None:
        await talk.spoken(0.3)
        await talk.final("Well?")
        error = ErrorResponse(
            error=True, message="no model", type="upstream_unavailable", request_id=f"{talk.session}-0"
        )
        await talk.bus.publish(f"ai.voice.response.{talk.session}-0", error)

    await talk.serve(script)
    assert await run() == 1
    assert "no model (upstream_unavailable)" in terminal.noted


async def test_no_answer_in_time_is_said(talk, run, terminal) -> None:
    async def script() -> None:
        pass

    await talk.serve(script)
    assert await run(timeout=0.2) == 1
    assert "nothing was recognised, and no answer came within 0.2 s" in terminal.noted
    assert "no stt-module runs now" in terminal.noted
    assert "no voice-assistant runs now" in terminal.noted


async def test_a_session_that_ends_without_an_answer_is_an_error(talk, run, terminal) -> None:
    async def script() -> None:
        said = STTTranscription(session_id=talk.session, session_end=True)
        await talk.bus.publish(f"ai.voice.transcription.{talk.session}", said)

    await talk.serve(script)
    assert await run() == 1
    assert "the session ended without an answer" in terminal.noted


async def test_ctrl_c_cancels_the_session(talk, run, bus, terminal) -> None:
    interrupt = asyncio.Event()
    cancels = await bus.client.listen("ai.voice.cancel.*")

    async def script() -> None:
        interrupt.set()
        cancel = CancelRequest.FromString((await cancels.next()).data)
        assert cancel.session_id == talk.session
        said = STTTranscription(session_id=talk.session, session_end=True)
        await bus.publish(f"ai.voice.transcription.{talk.session}", said)

    await talk.serve(script)
    assert await run(interrupt=interrupt) == 130
    assert "cancelled" in terminal.noted
