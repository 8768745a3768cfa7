"""`handlers say` against the real server and a scripted tts-module."""

from __future__ import annotations

import asyncio
import io
import wave

import pytest

from handler_base.audio import wav
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    TTSAudioChunk,
    TTSFullResponse,
    TTSRequest,
    TTSStatus,
    TTSVoiceInfo,
    TTSVoiceListResponse,
)
from handler_testkit.services import until
from handlers_cli.voice.say import Saying, say

REQUESTS = "ai.voice.tts.request.*"


def speech(seconds: float, value: int = 1) -> bytes:
    return value.to_bytes(2, "little") * int(16000 * seconds)


def read(data: bytes) -> tuple[int, bytes]:
    with wave.open(io.BytesIO(data)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth()) == (1, 2)
        return reader.getframerate(), reader.readframes(reader.getnframes())


def audio_of(request: TTSRequest) -> str:
    return f"ai.voice.tts.audio.{request.session_id}"


@pytest.fixture
def run(bus, terminal):
    async def run(text: str = "Hello.", **options: object) -> int:
        interrupt = options.pop("interrupt", None) or asyncio.Event()
        shown = options.pop("terminal", terminal)
        async with asyncio.timeout(30):
            return await say(Saying(text, nats_url=bus.url, **options), shown, interrupt)

    return run


@pytest.fixture
def speaking(bus):
    """Answer every text with pieces of speech and a status."""

    async def speaking(*pieces: bytes, **fields: object):
        async def script(request: TTSRequest) -> None:
            await bus.chunks(audio_of(request), request.request_id, *pieces, **fields)
            await bus.publish(
                f"ai.voice.tts.status.{request.session_id}",
                TTSStatus(session_id=request.session_id, request_id=request.request_id, status="completed"),
            )

        return await bus.serve(REQUESTS, TTSRequest, script)

    return speaking


async def test_speech_becomes_a_wav_file_with_a_right_header(run, speaking, terminal, tmp_path) -> None:
    await speaking(speech(0.5, 1), speech(0.5, 2))
    out = tmp_path / "out.wav"
    assert await run(output=str(out), voice="slt") == 0
    assert read(out.read_bytes()) == (16000, speech(0.5, 1) + speech(0.5, 2))
    assert terminal.said.startswith("slt · 1.0 s of speech · first audio 0.")
    assert str(out) in terminal.said


async def test_options_reach_the_request(run, speaking, tmp_path) -> None:
    requests = await speaking(speech(0.1))
    await run(output=str(tmp_path / "a.wav"))
    await run(output=str(tmp_path / "b.wav"), voice="v", session="s", language="de", form="wav")
    plain, full = requests
    assert (plain.text, plain.stream, plain.format, plain.speaker) == ("Hello.", True, "", "")
    assert plain.session_id
    assert plain.request_id != full.request_id
    assert (full.session_id, full.speaker, full.language, full.format) == ("s", "v", "de", "wav")


async def test_without_a_voice_the_default_is_named(run, bus, speaking, terminal, tmp_path) -> None:
    async def voices(_request) -> TTSVoiceListResponse:
        return TTSVoiceListResponse(default_voice="kal16")

    await bus.serve("ai.voice.tts.voices.list", TTSVoiceListResponse, voices)

    async def script(request: TTSRequest) -> None:
        await asyncio.sleep(0.1)
        await bus.chunks(audio_of(request), request.request_id, speech(0.1))

    await bus.serve(REQUESTS, TTSRequest, script)
    assert await run(output=str(tmp_path / "out.wav")) == 0
    assert terminal.said.startswith("kal16 · ")


async def test_standard_output_takes_the_audio_and_nothing_else(run, speaking, terminal) -> None:
    await speaking(speech(0.1))
    assert await run(output="-") == 0
    assert read(terminal.binary) == (16000, speech(0.1))
    assert terminal.said == ""
    assert "0.1 s of speech" in terminal.noted


async def test_a_terminal_is_not_given_audio(run, tty) -> None:
    assert await run(output="-", terminal=tty) == 2
    assert "not for a terminal" in tty.noted


async def test_a_folder_that_is_not_there_is_told_before_anything_is_sent(run, terminal, tmp_path) -> None:
    assert await run(output=str(tmp_path / "no" / "out.wav")) == 2
    assert "no such folder" in terminal.noted


async def test_a_higher_attempt_starts_again_and_what_is_old_or_double_is_dropped(
    run, bus, terminal, tmp_path
) -> None:
    async def script(request: TTSRequest) -> None:
        def chunk(index: int, attempt: int, value: int, **fields: object) -> TTSAudioChunk:
            return TTSAudioChunk(
                request_id=request.request_id, chunk_index=index, attempt=attempt, audio=speech(0.1, value),
                format="pcm", sample_rate=16000, **fields,
            )  # fmt: skip

        for each in (
            chunk(0, 1, 1),
            chunk(0, 2, 2),
            chunk(1, 1, 9),
            chunk(0, 2, 2),
            chunk(1, 2, 3, is_last=True),
        ):
            await bus.publish(audio_of(request), each)

    await bus.serve(REQUESTS, TTSRequest, script)
    out = tmp_path / "out.wav"
    assert await run(output=str(out)) == 0
    assert read(out.read_bytes())[1] == speech(0.1, 2) + speech(0.1, 3)
    assert "attempt 2" in terminal.noted


async def test_a_hole_in_the_speech_is_told(run, bus, terminal, tmp_path) -> None:
    async def script(request: TTSRequest) -> None:
        for index in (0, 3):
            await bus.publish(
                audio_of(request),
                TTSAudioChunk(
                    request_id=request.request_id, chunk_index=index, audio=speech(0.1), sample_rate=16000, is_last=index == 3
                ),
            )  # fmt: skip

    await bus.serve(REQUESTS, TTSRequest, script)
    assert await run(output=str(tmp_path / "out.wav")) == 0
    assert "2 pieces of the speech were lost" in terminal.noted


async def test_a_full_response_is_told_from_chunks_by_its_header(run, bus, terminal, tmp_path) -> None:
    async def script(request: TTSRequest) -> None:
        full = TTSFullResponse(
            request_id=request.request_id, audio=wav(speech(0.2), 16000), format="wav", sample_rate=16000,
            duration_seconds=0.2,
        )  # fmt: skip
        await bus.publish(audio_of(request), full, named=True)

    await bus.serve(REQUESTS, TTSRequest, script)
    out = tmp_path / "out.wav"
    assert await run(output=str(out)) == 0
    assert read(out.read_bytes()) == (16000, speech(0.2))
    assert "0.2 s of speech" in terminal.said


async def test_compressed_speech_is_written_as_it_is(run, speaking, terminal, tmp_path) -> None:
    requests = await speaking(b"ID3one", b"two", format="mp3", sample_rate=0)
    out = tmp_path / "out.mp3"
    assert await run(output=str(out)) == 0
    assert requests[0].format == "mp3", "the name of the file asks for it"
    assert out.read_bytes() == b"ID3onetwo"
    assert "9 bytes of speech" in terminal.said


async def test_another_format_than_the_name_says_is_told(run, speaking, terminal, tmp_path) -> None:
    await speaking(speech(0.1))
    assert await run(output=str(tmp_path / "out.mp3")) == 0
    assert "(wav, whatever its name says)" in terminal.said


async def test_an_error_ends_with_1_and_an_unknown_voice_lists_the_known(
    run, bus, terminal, tmp_path
) -> None:
    async def script(request: TTSRequest) -> None:
        error = ErrorResponse(error=True, message="there is no voice 'bob'", type="not_found")
        status = TTSStatus(request_id=request.request_id, status="error", message="failed", error=error)
        await bus.publish(f"ai.voice.tts.status.{request.session_id}", status)

    async def voices(_request) -> TTSVoiceListResponse:
        return TTSVoiceListResponse(voices=[TTSVoiceInfo(name="slt"), TTSVoiceInfo(name="rms")])

    await bus.serve(REQUESTS, TTSRequest, script)
    await bus.serve("ai.voice.tts.voices.list", TTSVoiceListResponse, voices)
    out = tmp_path / "out.wav"
    assert await run(output=str(out), voice="bob") == 1
    assert "there is no voice 'bob' (not_found)" in terminal.noted
    assert "known voices: slt, rms" in terminal.noted
    assert not out.exists()


async def test_no_audio_at_all_is_an_error(run, bus, terminal, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("handlers_cli.voice.say._LAST_CHUNK_SECONDS", 0.01)

    async def script(request: TTSRequest) -> None:
        status = TTSStatus(request_id=request.request_id, status="completed")
        await bus.publish(f"ai.voice.tts.status.{request.session_id}", status)

    await bus.serve(REQUESTS, TTSRequest, script)
    assert await run(output=str(tmp_path / "out.wav")) == 1
    assert "no audio came" in terminal.noted


async def test_speech_that_cannot_be_used_is_an_error(run, speaking, terminal, tmp_path) -> None:
    await speaking(b"RIFF....this is not sound", format="wav")
    assert await run(output=str(tmp_path / "out.wav")) == 1
    assert "cannot be used" in terminal.noted


async def test_ctrl_c_cancels_at_the_far_end_and_waits_for_its_word(run, bus, terminal, tmp_path) -> None:
    interrupt = asyncio.Event()
    cancels = await bus.client.listen("ai.voice.cancel.*")

    async def script(request: TTSRequest) -> None:
        interrupt.set()
        message = await cancels.next()
        assert message.subject.endswith(request.request_id)
        assert CancelRequest.FromString(message.data).request_id == request.request_id
        status = TTSStatus(request_id=request.request_id, status="cancelled")
        await bus.publish(f"ai.voice.tts.status.{request.session_id}", status)

    await bus.serve(REQUESTS, TTSRequest, script)
    out = tmp_path / "out.wav"
    assert await run(output=str(out), interrupt=interrupt) == 130
    assert "cancelled\n" in terminal.noted
    assert not out.exists()


async def test_nobody_there_is_told_and_the_text_waits(run, terminal, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("handlers_cli.exchange.MARGIN_SECONDS", 0.0)
    assert await run(output=str(tmp_path / "out.wav"), timeout=0.1) == 1
    assert "no tts-module runs now; the text is stored and waits" in terminal.noted
    assert "no answer within 0.1 s" in terminal.noted


async def test_without_a_stream_the_service_is_named(nats, terminal, tmp_path) -> None:
    saying = Saying("Hello.", nats_url=nats.url, output=str(tmp_path / "out.wav"))
    assert await say(saying, terminal, asyncio.Event()) == 3
    assert "no stream for ai.voice.tts.request." in terminal.noted
    assert "tts-module" in terminal.noted


async def test_a_session_that_cannot_be_in_a_subject_is_refused(run, terminal, tmp_path) -> None:
    assert await run(output=str(tmp_path / "out.wav"), session="a.b") == 2
    assert "--session" in terminal.noted


async def test_it_is_played_while_it_comes(run, bus, terminal, programs) -> None:
    programs.add("aplay")
    heard = asyncio.Event()

    async def script(request: TTSRequest) -> None:
        chunk = TTSAudioChunk(
            request_id=request.request_id, audio=speech(0.2), sample_rate=16000, format="pcm"
        )
        await bus.publish(audio_of(request), chunk)
        await until(lambda: programs.played == speech(0.2))
        heard.set()
        chunk.chunk_index, chunk.is_last = 1, True
        await bus.publish(audio_of(request), chunk)

    await bus.serve(REQUESTS, TTSRequest, script)
    assert await run() == 0
    assert heard.is_set()
    assert programs.played == speech(0.4)
    assert programs.calls == ["aplay -q -t raw -f S16_LE -c 1 -r 16000 -"]
    assert "played by aplay" in terminal.said


async def test_what_was_begun_is_not_played_on_when_it_starts_again(run, bus, programs) -> None:
    programs.add("aplay", 'cat > "$here/played.$$"; cat "$here/played.$$" >> "$here/played"')

    async def script(request: TTSRequest) -> None:
        chunk = TTSAudioChunk(request_id=request.request_id, audio=speech(0.2), sample_rate=16000, attempt=1)
        await bus.publish(audio_of(request), chunk)
        await until(lambda: any(programs.folder.glob("played.*")))
        await bus.chunks(audio_of(request), request.request_id, speech(0.1, 2), attempt=2)

    await bus.serve(REQUESTS, TTSRequest, script)
    assert await run() == 0
    assert programs.played == speech(0.1, 2)
    assert len(programs.calls) == 2


async def test_a_player_of_files_gets_the_header(run, speaking, programs) -> None:
    programs.add("ffplay")
    await speaking(speech(0.1), speech(0.1))
    assert await run() == 0
    assert programs.played[:4] == b"RIFF"
    assert programs.played[44:] == speech(0.2)


async def test_a_player_that_takes_names_of_files_gets_one(run, speaking, programs) -> None:
    programs.add("afplay", 'cat "$1" > "$here/played"')
    await speaking(speech(0.1))
    assert await run() == 0
    assert programs.calls[0].endswith(".wav")
    assert programs.played[44:] == speech(0.1)


async def test_compressed_speech_goes_to_a_player_that_knows_it(run, speaking, programs) -> None:
    programs.add("aplay")
    programs.add("ffplay")
    await speaking(b"ID3one", b"two", format="mp3", sample_rate=0)
    assert await run(form="mp3") == 0
    assert programs.played == b"ID3onetwo"
    assert [call.split()[0] for call in programs.calls] == ["ffplay"]


async def test_no_player_is_told_with_what_to_do(run, programs, terminal) -> None:
    assert await run() == 2
    assert "-o answer.wav" in terminal.noted
    assert "apt install alsa-utils" in terminal.noted


async def test_a_player_that_fails_says_why(run, speaking, programs, terminal) -> None:
    programs.add("aplay", 'echo "audio open error: No such device" >&2; exit 1')
    await speaking(speech(0.1))
    assert await run() == 1
    assert "aplay cannot play: audio open error: No such device; write a file with -o" in terminal.noted


async def test_ctrl_c_ends_the_sound_without_a_cancel_when_all_is_here(
    run, bus, speaking, programs, terminal
) -> None:
    programs.add("aplay", "cat > /dev/null; echo $$ > $here/pid; exec sleep 100")
    cancels = await bus.client.listen("ai.voice.cancel.*")
    interrupt = asyncio.Event()
    await speaking(speech(0.1))
    running = asyncio.ensure_future(run(interrupt=interrupt))
    await until((programs.folder / "pid").exists)
    interrupt.set()
    assert await running == 130
    assert not cancels.all
