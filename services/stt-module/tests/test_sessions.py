"""A session from start to end: what is said comes back as text, in order, with what belongs to it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.errors import MessagingError
from handler_base.messaging import wire
from handler_messages import CancelRequest, STTStreamMessage
from handler_testkit.endpoints import answering, in_turn, stalling
from handler_testkit.services import until
from handler_testkit.talking import RATE, answers, audio_of, by_length, chunks, resample, silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Stack

    from handler_testkit.endpoints import Exchange, Script

    Speak = Callable[..., bytes]


def stalling_first(script: Script) -> Script:
    return in_turn(stalling, script)


async def test_what_is_said_comes_back_as_text(stack: Stack, speak: Speak) -> None:
    hello, fine = speak("Hello there, how are you today?"), speak("I am fine, thank you.", "rms")
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start(language="en-GB")
        began = time.time()
        await talk.say(silence(0.5) + hello + silence(1) + fine + silence(1))
        first, second = await talk.written(2)
        await talk.end()
        last = await talk.closed()
    assert (first.session_id, first.utterance, second.utterance) == ("s1", 0, 1)
    assert first.sequence < second.sequence < last.sequence
    assert first.language == "en-GB"
    assert [audio.language for audio in stack.asked] == ["en", "en"]
    seconds = len(hello) / 2 / RATE
    assert 450 <= first.start_ms <= 900
    assert 1000 * seconds - 200 <= first.end_ms <= 1000 * seconds + 600
    assert first.end_ms < second.start_ms < second.end_ms
    assert began - 0.1 <= first.speech_end <= first.timestamp <= time.time()
    assert 0 < first.checkpoint.sequence < second.checkpoint.sequence
    assert first.checkpoint.sample_rate == RATE
    assert (last.session_end, last.is_final, last.text, last.HasField("error")) == (True, False, "", False)


async def test_the_text_is_there_when_the_silence_is_long_enough(stack: Stack, speak: Speak) -> None:
    """The endpoint takes 350 ms; it is asked 200 ms into the silence, and 400 ms later the text is published."""
    stack.transcribe = answers(by_length, delay=0.35)
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        await talk.say(silence(0.3) + speak("Hello there.") + silence(1), pace=1)
        (final,) = await talk.written(1)
    assert final.timestamp - final.speech_end < 0.6 + 0.15
    assert len(stack.asked) == 1


async def test_speech_that_goes_on_takes_back_what_was_asked(stack: Stack, speak: Speak) -> None:
    stack.transcribe = stalling_first(answers(by_length))
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        await talk.say(silence(0.3) + speak("Hello") + silence(0.2), pace=1)
        await stack.endpoint.wait(lambda: len(stack.asked) == 1)
        await talk.say(speak("there.") + silence(1))
        (final,) = await talk.written(1)
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == 1)
    assert final.text == f"{stack.asked[1].seconds:.1f} s"
    assert stack.asked[1].seconds > stack.asked[0].seconds + 0.3


async def test_words_appear_while_somebody_speaks(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module(PARTIAL_INTERVAL="0.4"):
        talk = await stack.talk()
        await talk.start()
        speech = speak("This is a long sentence that takes a while to say from the beginning to the end.")
        await talk.say(silence(0.3) + speech + silence(1), pace=0.5)
        await talk.written(1)
        await talk.end()
        await talk.closed()
    *partial, final, _ = talk.said()
    assert len(partial) >= 3
    assert not [said for said in partial if said.is_final or said.speech_end or said.HasField("checkpoint")]
    assert {said.utterance for said in partial} == {final.utterance}
    assert [said.sequence for said in talk.said()] == list(range(len(talk.said())))
    lengths = [float(said.text.split()[0]) for said in (*partial, final)]
    assert lengths == sorted(lengths)


async def test_a_slow_endpoint_has_one_partial_request_which_the_final_one_ends(
    stack: Stack, speak: Speak
) -> None:
    stack.transcribe = stalling_first(answers(by_length))
    async with stack.stt_module(PARTIAL_INTERVAL="0.3"):
        talk = await stack.talk()
        await talk.start()
        speech = speak("This is a long sentence that takes a while to say from the beginning to the end.")
        await talk.say(silence(0.3) + speech, pace=0.2)
        assert len(stack.asked) == 1
        await talk.say(silence(1))
        await talk.written(1)
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == 1)
    assert len(stack.asked) == 2
    assert [said.is_final for said in talk.said()] == [True]


async def test_nothing_is_published_where_nothing_was_understood(stack: Stack, speak: Speak) -> None:
    stack.transcribe = in_turn(answers(lambda _: "  "), answers(by_length))
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hm.") + silence(1) + speak("Hello there.") + silence(1))
        await talk.end()
        await talk.closed()
    assert [(said.utterance, said.is_final) for said in talk.said()] == [(1, True), (0, False)]


async def test_an_endpoint_that_fails_is_asked_again_while_later_words_wait(
    stack: Stack, speak: Speak
) -> None:
    failing = answering({"error": {"message": "loading"}}, 503)
    first = speak("Hello there, how are you?")

    async def script(exchange: Exchange) -> None:
        longer = audio_of(exchange.request).seconds > len(first) / 2 / RATE - 0.2
        script.failed += longer
        await (failing if longer and script.failed < 4 else answers(by_length))(exchange)

    script.failed = 0
    stack.transcribe = script
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        await talk.say(first + silence(1) + speak("Fine.") + silence(1))
        said = await talk.written(2)
    assert [one.utterance for one in said] == [0, 1]
    assert not [one for one in said if one.HasField("error")]
    assert script.failed == 4


async def test_an_endpoint_that_keeps_failing_leaves_an_error_in_place_of_the_text(
    stack: Stack, speak: Speak
) -> None:
    stack.transcribe = in_turn(*[answering({}, 503)] * 3, answers(by_length))
    async with stack.stt_module(TRANSCRIPTION_TRIES="3", TRANSCRIPTIONS_AT_ONCE="1", SPECULATE_AFTER_MS="0"):
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hello there.") + silence(1))
        await talk.written(1)
        await talk.say(speak("Hello there.") + silence(1))
        failed, said = await talk.written(2)
    assert (failed.text, failed.error.type, failed.error.retryable) == ("", "upstream_unavailable", True)
    assert failed.checkpoint.position < said.checkpoint.position
    assert said.text


async def test_audio_that_the_endpoint_rejects_is_not_sent_again(stack: Stack, speak: Speak) -> None:
    stack.transcribe = answering({"error": {"message": "no"}}, 400)
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hello there.") + silence(1))
        (failed,) = await talk.written(1)
    assert failed.error.type == "upstream_rejected"
    assert len(stack.asked) == 1


async def test_speech_while_the_assistant_speaks_interrupts_at_once(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        await talk.say(silence(0.5))
        await talk.state("responding")
        await talk.say(speak("Stop that please, I want to say something else."), pace=1, speaker_id="ada")
        await talk.say(silence(1), speaker_id="ada")
        (final,) = await talk.written(1)
    (interrupt,) = talk.interrupts()
    assert (interrupt.type, interrupt.session_id, interrupt.speaker_id) == ("barge_in", "s1", "ada")
    assert interrupt.start_ms == final.start_ms
    assert interrupt.timestamp < final.speech_end


async def test_several_people_are_written_down_apart(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        for text, who in (("Hello Bob.", "ada"), ("Hello Ada.", "bob"), ("How are you?", "ada")):
            await talk.say(speak(text) + silence(1), speaker_id=who)
        said = await talk.written(3)
    assert [(one.speaker_id, one.utterance) for one in said] == [("ada", 0), ("bob", 0), ("ada", 1)]


async def test_what_is_missing_repeated_and_out_of_order_is_put_right(
    stack: Stack, speak: Speak, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pcm = silence(0.3) + speak("Hello there, how are you?") + silence(1)
    order = list(range(len(chunks(pcm))))
    order[20], order[21] = order[21], order[20]
    order.insert(40, 38)
    order.remove(50)
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        for number in order:
            await talk.chunk(chunks(pcm)[number], sequence=number)
        await talk.written(1)
        await talk.end()
        await talk.closed()
    (audio,) = stack.asked
    heard = pcm[: 2 * RATE]
    assert audio.pcm[: RATE // 2] in heard
    assert audio.pcm.count(bytes(640)) >= 1
    (told,) = [record for record in caplog.records if record.getMessage() == "session: end"]
    assert (told.chunks_missing, told.chunks_repeated, told.chunks_out_of_order) == (1, 1, 1)  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_session_may_be_held_in_json(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module(PARTIAL_INTERVAL="0.3"):
        talk = await stack.talk()
        talk.kind = wire.JSON
        await talk.start()
        await talk.say(speak("Hello there."), pace=0.5)
        await talk.state("responding")
        await talk.say(silence(1) + speak("Stop that please.") + silence(1))
        await talk.written(2)
        await talk.end()
        await talk.closed()
    heard = talk.heard.all + talk.interrupted.all
    assert len(heard) >= 4
    for message in heard:
        assert (message.headers or {})["Content-Type"] == "application/json"
        assert json.loads(message.data)["session_id"] == "s1"


async def test_a_session_ends_when_nothing_comes(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module(SESSION_IDLE_SECONDS="1"):
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hello there."))
        last = await talk.closed()
    assert last.session_end
    assert [said.is_final for said in talk.said()] == [True, False]


async def test_a_session_in_which_nothing_could_be_used_says_why(stack: Stack) -> None:
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        await talk.chunk(b"abcd", 0)
        await talk.end()
        last = await talk.closed()
    assert (last.error.type, "sample_rate" in last.error.message) == ("invalid_request", True)


async def test_what_cannot_be_read_is_skipped(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        publish = stack.client.connection.publish_bytes
        await publish("ai.voice.stream.s1", b"\xff\xff\xff")
        await publish("ai.voice.stream.s1", b"{", {"Content-Type": "application/json"})
        await publish("ai.voice.stream.s1", b"<a/>", {"Content-Type": "text/xml"})
        await talk.say(speak("Hello there.") + silence(1))
        (said,) = await talk.written(1)
    assert said.text


async def test_what_is_no_start_is_answered_and_buried(stack: Stack) -> None:
    async with stack.stt_module():
        talk = await stack.talk()
        dead = await stack.client.listen("ai.dlq.stt-module")
        await stack.client.send("ai.voice.session.s1", STTStreamMessage(type="chunk"))
        last = await talk.closed()
        await dead.next()
    assert last.error.type == "invalid_request"


async def test_undecodable_starts_are_answered(stack: Stack) -> None:
    async with stack.stt_module():
        talk = await stack.talk()
        await stack.client.connection.publish_bytes("ai.voice.session.s1", b"\xff\xff\xff")
        last = await talk.closed()
    assert last.error.type == "invalid_request"
    assert last.session_end


async def test_a_second_start_of_a_session_does_not_double_it(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module() as service:
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hello there."))
        await talk.start()
        await until(lambda: service.in_flight == 2)
        await talk.say(silence(1) + speak("How are you?") + silence(1))
        await talk.written(2)
        await until(lambda: service.in_flight == 1)
        await talk.end()
        await talk.closed()
        await until(lambda: service.in_flight == 0)
    assert [said.is_final for said in talk.said()] == [True, True, False]


async def test_an_id_may_be_used_again(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module() as service:
        talk = await stack.talk()
        for _ in range(2):
            talk.sent = 0
            await talk.start()
            await talk.say(speak("Hello there.") + silence(1))
            await talk.end()
        await talk.heard.until(lambda _: sum(said.session_end for said in talk.said()) == 2)
        await until(lambda: service.in_flight == 0)
    assert [said.is_final for said in talk.said()] == [True, False, True, False]


async def test_chunks_may_overtake_the_start(stack: Stack, speak: Speak) -> None:
    pcm = chunks(speak("Hello there.") + silence(1))
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.send(type="chunk", sequence=0, audio=b"\1\0" * 320, sample_rate=RATE)
        await talk.send(type="end", sequence=1)  # so far another session
        for piece in pcm[:5]:
            await talk.chunk(piece)
        await talk.start()
        for piece in pcm[5:]:
            await talk.chunk(piece)
        (said,) = await talk.written(1)
        await talk.end()
        await talk.closed()
    assert said.checkpoint.sample_rate == RATE
    assert said.text


async def test_a_cancel_ends_a_session(stack: Stack, speak: Speak) -> None:
    stack.transcribe = stalling
    async with stack.stt_module() as service:
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hello there.") + silence(1))
        await stack.endpoint.wait(lambda: len(stack.asked) == 1)
        cancel = CancelRequest(session_id="s1", reason="enough")
        await stack.client.connection.publish("ai.voice.cancel.x", cancel)
        last = await talk.closed()
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == 1)
        await until(lambda: service.in_flight == 0)
    assert last.error.type == "cancelled"


async def test_a_session_may_not_last_for_ever(stack: Stack) -> None:
    async with stack.stt_module(MAX_SESSION_SECONDS="1"):
        talk = await stack.talk()
        await talk.start()
        last = await talk.closed()
    assert (last.error.type, last.session_end) == ("deadline_exceeded", True)


async def test_more_sessions_than_may_run_wait(stack: Stack, speak: Speak) -> None:
    async with stack.stt_module(MAX_SESSIONS="1"):
        first, second = await stack.talk("s1"), await stack.talk("s2")
        for talk in (first, second):
            await talk.start()
            await talk.say(speak("Hello there.") + silence(1))
        await first.written(1)
        assert not second.said()
        await first.end()
        await second.written(1)


async def test_words_wait_in_the_stream_while_the_endpoint_is_behind(stack: Stack, speak: Speak) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await answers(by_length)(exchange)

    stack.transcribe = script
    async with stack.stt_module(MAX_WAITING="2"):
        talk = await stack.talk()
        await talk.start()
        for _ in range(6):
            await talk.say(speak("Hello there.") + silence(1), ms=100)
        await stack.endpoint.wait(lambda: len(stack.asked) == 2)
        go.set()
        said = await talk.written(6)
    assert [one.utterance for one in said] == list(range(6))


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
async def test_audio_of_any_rate_reaches_the_endpoint_as_it_is(stack: Stack, speak: Speak, rate: int) -> None:
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        pcm = resample(silence(0.3) + speak("Hello there.") + silence(1), RATE, rate)
        await talk.say(pcm, rate=rate)
        await talk.written(1)
    (audio,) = stack.asked
    assert audio.rate == rate
    assert audio.pcm in pcm


async def test_a_minute_of_speech_is_written_down_in_pieces(stack: Stack, speak: Speak) -> None:
    text = "This goes on and on, with hardly a pause, and nobody knows when it will end, if it ever will. "
    pcm = speak(text * 12)
    assert len(pcm) > 60 * 2 * RATE
    async with stack.stt_module(MAX_UTTERANCE_SECONDS="15", PARTIAL_INTERVAL="1"):
        talk = await stack.talk()
        await talk.start()
        await talk.say(pcm + silence(30), ms=100)
        await talk.end()
        await talk.closed()
    said = talk.finals()
    assert len(said) >= 4
    assert sum(float(one.text.split()[0]) for one in said) > len(pcm) / 2 / RATE - len(said)


async def test_nats_may_be_restarted_in_the_middle_of_a_session(stack: Stack, speak: Speak) -> None:
    """Audio and transcriptions are in memory and lost with it; what is said from then on is written down."""
    async with stack.stt_module() as service:
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hello there.") + silence(1))
        await talk.written(1)
        await asyncio.to_thread(stack.nats.restart)
        await until(lambda: stack.client.connection.connected and service.connection.connected)
        async with asyncio.timeout(20):
            while await service.missing():
                await asyncio.sleep(0.01)
        for _ in range(100):  # the stream is made anew meanwhile
            await talk.say(silence(0.1), pace=0.2)
        await talk.say(speak("How are you?") + silence(1))
        first, second = await talk.written(2)
        await talk.end()
        await talk.closed()
    assert first.utterance < second.utterance
    assert first.sequence < second.sequence


async def test_a_partial_transcription_that_fails_is_left_out(stack: Stack, speak: Speak) -> None:
    stack.transcribe = in_turn(answering({}, 503), answers(lambda _: ""), answers(by_length))
    async with stack.stt_module(PARTIAL_INTERVAL="0.4"):
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("This is a long sentence that takes a while to say.") + silence(1), pace=0.5)
        (final,) = await talk.written(1)
    assert final.text
    assert not final.HasField("error")
    assert len(talk.said()) < len(stack.asked)


async def test_what_is_in_one_message_is_heard_to_its_last_word(stack: Stack, speak: Speak) -> None:
    """A whole recording at once, and its end: nothing of it is taken for another session."""
    async with stack.stt_module():
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hello there.") + silence(0.8) + speak("How are you?"), ms=9000)
        await talk.end()
        await talk.closed()
    assert [said.utterance for said in talk.finals()] == [0, 1]


async def test_a_transcription_that_cannot_be_stored_hands_the_session_back(
    stack: Stack, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stack.stt_module() as service:
        real, refused = service.connection.store, 0

        async def store(subject: str, *args: Any, **more: Any) -> bool:
            nonlocal refused
            if subject.startswith("ai.voice.transcription") and not refused:
                refused += 1
                raise MessagingError("not now")
            return await real(subject, *args, **more)

        monkeypatch.setattr(service.connection, "store", store)
        talk = await stack.talk()
        await talk.start()
        await talk.say(speak("Hello there.") + silence(1) + speak("How are you?") + silence(1))
        said = await talk.written(2)
        await talk.end()
        await talk.closed()
    assert refused == 1
    assert [one.utterance for one in said] == [0, 1]
