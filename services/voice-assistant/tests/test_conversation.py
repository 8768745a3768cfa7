"""A conversation on the bus: questions are answered aloud, and an interrupt stops everything."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from handler_messages import CancelRequest, ErrorResponse, STTInterrupt, STTStreamMessage
from handler_testkit.endpoints import answering, stalling
from handler_testkit.services import until
from handler_testkit.voice import ANSWER, QUESTION, RATE, answers, speaks

if TYPE_CHECKING:
    from conftest import Session, Stack

TEXT = "".join(ANSWER)
LONG = ["One two three. ", *(f"Sentence number {n} goes on for a while. " for n in range(20))]


async def test_a_question_is_answered_aloud_in_order_and_history_keeps_it(
    stack: Stack, session: Session
) -> None:
    async with stack.assistant():
        await session.open(user_id="ada", speaker="rms")
        await session.say(QUESTION, language="en")
        result = await session.until_result()
        await session.until_status("completed")
        (turn,) = await stack.history("ada", session.id)
    assert (result.transcription, result.response, result.finish_reason) == (QUESTION, TEXT, "stop")
    assert (result.user_id, result.session_id, result.language) == ("ada", session.id, "en")
    assert [s.title for s in result.sources] == ["Cats", "Dogs"]
    assert (turn.question, turn.answer, turn.interrupted) == (QUESTION, TEXT, False)
    names = ["speech_end", "transcript", "first_token", "first_clause", "first_audio", "total"]
    assert [result.timings[name] for name in names] == sorted(result.timings[name] for name in names)
    chunks = session.chunks
    assert [c.chunk_index for c in chunks] == list(range(len(chunks)))
    assert chunks[-1].is_last
    assert {(c.session_id, c.request_id, c.sample_rate) for c in chunks} == {
        (session.id, result.request_id, RATE)
    }
    assert {c.generation for c in chunks} == {result.generation}
    assert [c.text for c in chunks if c.text] == stack.said()
    assert {body["voice"] for body in stack.asked("/tts/v1/audio/speech")} == {"rms"}
    assert session.statuses == ["started", "completed"]
    assert session.audio.all[0].headers == {"Message-Type": "TTSAudioChunk"}


async def test_the_listening_side_is_told_when_we_respond_and_when_we_have_been_heard(
    stack: Stack, session: Session
) -> None:
    stack.tts(speaks(seconds_per_letter=0.005))
    async with stack.assistant():
        await session.open()
        await session.say(QUESTION)
        await session.until_status("completed")
        completed = time.monotonic()
        assert session.states == ["responding"]
        await session.stream.until(lambda _: len(session.states) == 2)
        assert session.states == ["responding", "listening"]
    # 57 letters are 0.28 s of sound; they were sent at once.
    assert time.monotonic() - completed > 0.1


async def test_questions_are_answered_one_after_the_other_with_growing_generations(
    stack: Stack, session: Session
) -> None:
    async with stack.assistant():
        await session.open()
        await session.say(QUESTION)
        await session.until_status("completed")
        await session.say("And dogs?")
        second = await session.until_result(2)
    first = session.results[0]
    assert second.generation > first.generation
    assert [m["content"] for m in stack.prompts()[1][1:]][-1] == "And dogs?"
    assert stack.prompts()[1][1]["content"] == QUESTION


async def test_partial_transcriptions_and_empty_ones_are_not_answered(stack: Stack, session: Session) -> None:
    async with stack.assistant():
        await session.open()
        await session.say("How lo", is_final=False)
        await session.say("  ")
        await session.say(QUESTION)
        await session.until_result()
    assert len(stack.prompts()) == 1


async def test_a_session_that_wants_no_answers_gets_none(stack: Stack, session: Session) -> None:
    async with stack.assistant() as service:
        await session.open(enable_assistant=False)
        await session.say(QUESTION)
        await until(lambda: service.in_flight == 0)
        other = stack.session(f"{session.id}-b")
        await other.open(enable_assistant=True)
        await other.say(QUESTION)
        await other.until_result()
    assert session.chunks == []
    assert len(stack.prompts()) == 1


async def test_after_the_end_of_the_session_the_last_answer_is_finished(
    stack: Stack, session: Session
) -> None:
    gate = asyncio.Event()
    stack.llm(answers(gate=gate))
    async with stack.assistant() as service:
        await session.open()
        await session.say(QUESTION)
        await session.end()
        await session.until_audio()
        gate.set()
        await session.until_status("completed")
        await until(lambda: service.in_flight == 0)


async def test_an_idle_session_ends(stack: Stack, session: Session) -> None:
    async with stack.assistant(SESSION_IDLE_SECONDS="1") as service:
        await session.open()
        await session.say(QUESTION)
        await session.until_result()
        await until(lambda: service.in_flight == 0)


# -- interrupts ------------------------------------------------------------------------------------------------


async def test_an_interrupt_stops_model_and_voice_and_history_has_what_was_heard(
    stack: Stack, session: Session
) -> None:
    stack.llm(answers(LONG, interval=0.02))
    stack.tts(speaks(seconds_per_letter=0.02, pace=0.1))
    async with stack.assistant():
        await session.open(user_id="ada")
        await session.say(QUESTION)
        await session.until_audio()
        await asyncio.sleep(0.15)
        await session.interrupt()
        await session.until_status("interrupted")
        count = len(session.chunks)
        result = await session.until_result()
        (turn,) = await stack.history("ada", session.id)
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects >= 1)
        await session.stream.until(lambda _: session.states[-1:] == ["listening"])
        assert len(session.chunks) == count
    assert turn.interrupted
    assert (result.response, result.finish_reason) == (turn.answer, "interrupted")
    # About 0.15 s of "One two three." at 50 letters a second.
    assert "One two three. Sentence".startswith(turn.answer)
    assert 0 < len(turn.answer) <= len("One two three.")
    assert not any(c.is_last for c in session.chunks)


async def test_an_interrupt_while_the_answer_is_played_shortens_history(
    stack: Stack, session: Session
) -> None:
    stack.tts(speaks(seconds_per_letter=0.1))
    async with stack.assistant():
        await session.open(user_id="ada")
        await session.say(QUESTION)
        await session.until_status("completed")
        assert (await stack.history("ada", session.id))[0].answer == TEXT
        await session.interrupt()
        await session.until_status("interrupted")
        await session.stream.until(lambda _: session.states[-1:] == ["listening"])
        (turn,) = await stack.history("ada", session.id)
    assert turn.interrupted
    assert TEXT.startswith(turn.answer)
    assert len(turn.answer) < 20


async def test_who_goes_on_before_hearing_an_answer_has_one_question(stack: Stack, session: Session) -> None:
    stack.llm(stalling)
    async with stack.assistant():
        await session.open(user_id="ada")
        await session.say("How long do")
        await until(lambda: len(stack.prompts()) == 1)
        stack.llm(answers())
        await session.say("cats sleep?")
        await session.until_status("completed")
        turns = await stack.history("ada", session.id)
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == 1)
    assert stack.prompts()[1][-1]["content"] == "How long do cats sleep?"
    assert [m["content"] for m in stack.prompts()[1][1:]] == ["How long do cats sleep?"]
    assert [(t.question, t.answer, t.interrupted) for t in turns] == [
        ("How long do cats sleep?", TEXT, False)
    ]


async def test_a_new_question_over_an_answer_cuts_it_short(stack: Stack, session: Session) -> None:
    stack.llm(answers(LONG, interval=0.02))
    async with stack.assistant():
        await session.open(user_id="ada")
        await session.say(QUESTION)
        await session.until_audio()
        stack.llm(answers())
        await session.say("Stop. And dogs?")
        await session.until_status("completed")
        first, second = await stack.history("ada", session.id)
    assert first.interrupted
    assert (second.question, second.answer) == ("Stop. And dogs?", TEXT)
    generations = [c.generation for c in session.chunks]
    assert generations == sorted(generations)


async def test_a_client_can_interrupt_too_and_others_are_not_disturbed(
    stack: Stack, session: Session
) -> None:
    stack.llm(answers(LONG, interval=0.03))
    other = stack.session(f"{session.id}-b")
    async with stack.assistant():
        await session.open()
        await other.open()
        await session.say(QUESTION)
        await other.say(QUESTION)
        await session.until_audio()
        await other.until_audio()
        await stack.client.connection.publish(f"ai.voice.interrupt.{session.id}", STTInterrupt(type="button"))
        await session.until_status("interrupted")
        await other.until_status("completed")


# -- when things fail ------------------------------------------------------------------------------------------


async def test_without_a_model_something_is_said_and_the_error_is_told(
    stack: Stack, session: Session
) -> None:
    stack.llm(answering({"error": {"message": "out of memory"}}, 400))
    async with stack.assistant(ERROR_PHRASE="Sorry about that."):
        await session.open(user_id="ada")
        await session.say(QUESTION)
        await session.until_status("error")
        assert await stack.history("ada", session.id) == []
        stack.llm(answers())
        await session.say("Again?")
        await session.until_status("completed")
    assert stack.said()[0] == "Sorry about that."
    error = ErrorResponse.FromString(session.result.all[0].data)
    assert error.type == "upstream_rejected"
    assert "out of memory" in error.message


async def test_without_a_voice_the_result_says_so(stack: Stack, session: Session) -> None:
    stack.tts(answering({}, 500))
    async with stack.assistant():
        await session.open()
        await session.say(QUESTION)
        result = await session.until_result()
    assert result.response == TEXT
    assert any("not spoken" in warning for warning in result.warnings)
    assert session.chunks == []


async def test_a_message_that_starts_nothing_is_refused(stack: Stack, session: Session) -> None:
    async with stack.assistant() as service:
        dead = await stack.client.listen("ai.dlq.voice-assistant")
        message = STTStreamMessage(session_id=session.id, type="chunk")
        await stack.client.send(f"ai.voice.session.{session.id}", message)
        await dead.next()
        await until(lambda: service.in_flight == 0)


async def test_a_cancel_by_session_ends_the_conversation(stack: Stack, session: Session) -> None:
    stack.llm(stalling)
    async with stack.assistant() as service:
        await session.open()
        await session.say(QUESTION)
        await until(lambda: bool(stack.prompts()))
        cancel = CancelRequest(session_id=session.id)
        await stack.client.connection.publish("ai.voice.cancel.any", cancel)
        await stack.endpoint.wait(lambda: stack.endpoint.disconnects == 1)
        await until(lambda: service.in_flight == 0)


async def test_a_second_start_of_a_session_does_not_answer_twice(stack: Stack, session: Session) -> None:
    async with stack.assistant():
        await session.open()
        await session.open()
        await session.say(QUESTION)
        await session.until_status("completed")
        await session.end()
        await asyncio.sleep(0.3)
    assert len(stack.prompts()) == 1


# -- replicas --------------------------------------------------------------------------------------------------


async def test_a_replica_that_stops_hands_the_session_over_and_nothing_is_answered_twice(
    stack: Stack, session: Session
) -> None:
    async with stack.assistant():
        await session.open(user_id="ada")
        await session.say(QUESTION)
        await session.until_status("completed")
    async with stack.assistant():
        await session.say("And dogs?")
        await session.until_status("completed", 2)
        turns = await stack.history("ada", session.id)
    assert [t.question for t in turns] == [QUESTION, "And dogs?"]
    assert len(stack.prompts()) == 2


async def test_a_question_that_no_replica_heard_is_answered_by_the_next_one(
    stack: Stack, session: Session
) -> None:
    async with stack.assistant():
        await session.open(user_id="ada")
        await session.say(QUESTION)
        await session.until_status("completed")
    await session.say("And")
    await session.say("dogs?")
    async with stack.assistant():
        await session.until_status("completed", 2)
    assert stack.prompts()[-1][-1]["content"] == "And dogs?"


@pytest.mark.parametrize("within", ["30", "0"])
async def test_a_question_is_not_answered_when_nobody_waits_any_more(
    stack: Stack, session: Session, within: str
) -> None:
    async with stack.assistant():  # makes the streams
        pass
    await session.open()
    await session.say(QUESTION)
    js = stack.client.connection.jetstream
    async with stack.assistant(ANSWER_WITHIN=within):
        async with asyncio.timeout(10):
            while not any(info.delivered.consumer_seq for info in await js.consumers_info("AI_VOICE_STREAM")):
                await asyncio.sleep(0.01)
        if within == "30":
            await session.until_status("completed")
        else:
            await session.say("A new one?")
            await session.until_status("completed")
            assert [p[-1]["content"] for p in stack.prompts()] == ["A new one?"]
