"""The messages of a session become utterances and interrupts, whatever comes and whenever."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis, strategies as st

from handler_messages import STTStreamMessage
from handler_testkit.talking import RATE, chunks, resample, silence
from stt_module.config import HearingSettings
from stt_module.events import Event, Finished, Interrupted, Spoken, Utterance
from stt_module.hearing import Hearing, Resume

if TYPE_CHECKING:
    from collections.abc import Callable

    Speak = Callable[..., bytes]

SETTINGS = HearingSettings()


class Room:
    """A session that hears what is said in real time."""

    def __init__(self, settings: HearingSettings = SETTINGS, **more: Any) -> None:
        self.hearing = Hearing(settings, "s1", **more)
        self.now = 1000.0
        self.events: list[Event] = []
        self.number = 0

    def send(self, *, live: bool = True, **fields: Any) -> list[Event]:
        events = self.hearing.hear(STTStreamMessage(**fields), self.now, live=live)
        self.events += events
        return events

    def chunk(self, pcm: bytes, rate: int = RATE, *, live: bool = True, **fields: Any) -> list[Event]:
        fields = {"sequence": self.number, **fields}
        self.number = fields["sequence"] + 1
        self.now += len(pcm) / 2 / (rate or RATE)
        return self.send(type="chunk", audio=pcm, sample_rate=rate, live=live, **fields)

    def say(self, pcm: bytes, rate: int = RATE, *, ms: int = 20, live: bool = True, **fields: Any) -> None:
        for piece in chunks(pcm, ms, rate or RATE):
            self.chunk(piece, rate, live=live, **fields)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.events += self.hearing.advance(self.now)

    def utterances(self) -> list[Utterance]:
        return [event.utterance for event in self.events if isinstance(event, Finished)]

    def interrupts(self) -> list[Interrupted]:
        return [event for event in self.events if isinstance(event, Interrupted)]


# -- interrupts ----------------------------------------------------------------------------------------------------


def test_speech_while_the_assistant_speaks_interrupts_once_as_soon_as_it_is_speech(speak: Speak) -> None:
    room = Room()
    room.say(silence(1))
    room.send(type="state", state="responding")
    speech = speak("Stop that please, I want to say something else.")
    heard = 0.0
    for piece in chunks(silence(0.3) + speech):
        events = room.chunk(piece)
        if [e for e in events if isinstance(e, Interrupted)]:
            heard = room.now - 1001.0
    (interrupt,) = room.interrupts()
    onset = interrupt.start_ms / 1000 - 1.0
    assert 0.3 <= onset <= 0.6
    voiced = SETTINGS.interrupt_min_speech_ms / 1000
    assert voiced <= heard - onset <= 2 * voiced + 0.02
    assert not room.hearing.responding


def test_a_cough_does_not_interrupt() -> None:
    draw = random.Random(1)
    burst = [draw.gauss(0, 6000) * (1 - n / 4000) for n in range(4000)]
    cough = array("h", [max(-32768, min(32767, int(sample))) for sample in burst]).tobytes()
    room = Room()
    room.send(type="state", state="responding")
    for _ in range(3):
        room.say(silence(1) + cough + silence(0.15) + cough)
    assert not room.interrupts()
    assert room.hearing.responding


def test_a_short_sound_of_the_voice_does_not_interrupt(speak: Speak) -> None:
    room = Room()
    room.send(type="state", state="responding")
    vowel = speak("aah")
    middle = vowel[len(vowel) // 4 * 2 :][: 2 * RATE * 180 // 1000]
    for _ in range(3):
        room.say(silence(1) + middle)
    assert not room.interrupts()


def test_nothing_interrupts_an_assistant_that_listens(speak: Speak) -> None:
    room = Room()
    room.say(speak("Hello there, how are you?"))
    room.send(type="state", state="responding")
    room.send(type="state", state="listening")
    room.say(speak("Hello there, how are you?"))
    assert not room.interrupts()


def test_what_is_read_later_interrupts_nobody_but_what_goes_on_does(speak: Speak) -> None:
    room = Room()
    room.send(type="state", state="responding")
    speech = speak("Hello there, how are you? Hello there, how are you?")
    half = len(speech) // 4 * 2
    room.say(speech[:half], live=False)
    assert not room.interrupts()
    room.say(speech[half:])
    assert len(room.interrupts()) == 1


def test_each_answer_can_be_interrupted(speak: Speak) -> None:
    room = Room()
    for _ in range(3):
        room.send(type="state", state="responding")
        room.say(speak("Stop that please.") + silence(1))
    assert len(room.interrupts()) == 3


# -- speakers ------------------------------------------------------------------------------------------------------


def test_speakers_are_heard_apart(speak: Speak) -> None:
    ada, bob = speak("Hello, this is Ada speaking."), speak("And Bob speaks at the same time.", "rms")
    length = max(len(ada), len(bob)) + 2 * RATE * 2
    room = Room()
    pairs = zip(chunks(ada.ljust(length, b"\0")), chunks(bob.ljust(length, b"\0")), strict=True)
    for number, (a, b) in enumerate(pairs):  # each has a sender of their own
        room.chunk(a, sequence=number, speaker_id="ada")
        room.now -= 0.02
        room.chunk(b, sequence=number, speaker_id="bob")
    first, second = sorted(room.utterances(), key=lambda u: u.speaker)
    assert (first.speaker, first.number, second.speaker, second.number) == ("ada", 0, "bob", 0)
    assert first.pcm in ada + silence(2)
    assert second.pcm in bob + silence(2)
    assert not room.hearing.counts


def test_more_speakers_than_may_speak_are_not_heard() -> None:
    room = Room(HearingSettings(max_speakers=2))
    for name in ("ada", "bob", "eve", "x" * 200):
        room.chunk(silence(0.02), sequence=0, speaker_id=name)
    assert room.hearing.counts == {"speakers": 1, "speaker": 1}


def test_the_language_is_the_speakers_or_the_sessions(speak: Speak) -> None:
    room = Room(language="en")
    room.say(speak("Hello there.") + silence(1))
    room.say(speak("Hallo.") + silence(1), language="de")
    room.say(speak("Hallo.") + silence(1))
    assert [u.language for u in room.utterances()] == ["en", "de", "de"]


# -- time ----------------------------------------------------------------------------------------------------------


def test_an_utterance_ends_when_nothing_more_comes(speak: Speak) -> None:
    room = Room()
    room.say(speak("Hello there."))
    assert not room.utterances()
    stalls = room.hearing.due
    assert stalls == pytest.approx(room.now + SETTINGS.stall_ms / 1000, abs=0.021)
    room.wait(stalls - room.now + 0.001)
    assert len(room.utterances()) == 1
    assert room.hearing.due == pytest.approx(room.now - 0.001 + SETTINGS.idle_seconds - 1, abs=0.03)


def test_whoever_reads_it_later_ends_it_at_the_same_place(speak: Speak) -> None:
    live, later = Room(), Room()
    first, second = speak("Hello there."), speak("And how are you?")
    for room in (live, later):
        room.say(first)
        if room is live:
            room.wait(1.5)
        else:
            room.now += 1.5
        room.say(second + silence(1))
    assert len(live.utterances()) == 2
    assert [u.pcm for u in live.utterances()] == [u.pcm for u in later.utterances()]


def test_long_chunks_do_not_end_utterances_between_them(speak: Speak) -> None:
    room = Room()
    room.say(
        speak("This is a long sentence that takes a while to say from the beginning to the end."), ms=1500
    )
    room.wait(1.4)
    assert not room.utterances()


def test_a_session_without_messages_ends() -> None:
    room = Room(began=1000.0)
    assert room.hearing.due == 1060.0
    room.wait(59.9)
    assert not room.hearing.ended
    room.send(type="state", state="responding")
    room.wait(59.9)
    assert not room.hearing.ended
    room.hearing.alive(room.now)
    room.wait(60.1)
    assert room.hearing.ended == "idle"


def test_the_end_ends_what_is_spoken(speak: Speak) -> None:
    room = Room()
    room.say(speak("Hello there."))
    room.send(type="end", sequence=room.number)
    assert len(room.utterances()) == 1
    assert room.hearing.ended == "end"
    room.say(speak("Too late.") + silence(1))
    assert len(room.utterances()) == 1


def test_the_end_waits_shortly_for_chunks_that_are_missing(speak: Speak) -> None:
    pieces = chunks(speak("Hello there.") + silence(1))
    room = Room()
    for number, piece in enumerate(pieces[:-3]):
        room.chunk(piece, sequence=number)
    room.send(type="end", sequence=len(pieces))
    assert not room.hearing.ended
    for number in (-1, -3, -2):
        room.chunk(pieces[number], sequence=len(pieces) + number)
    assert room.hearing.ended == "end"
    assert not room.hearing.counts["missing"]


def test_the_end_does_not_wait_for_ever() -> None:
    room = Room()
    room.say(silence(1))
    room.send(type="end", sequence=100)
    room.wait(SETTINGS.end_wait_ms / 1000 + 0.001)
    assert room.hearing.ended == "end"
    assert room.hearing.counts == {"missing": 50}


def test_one_of_several_senders_may_end(speak: Speak) -> None:
    room = Room()
    speech = chunks(speak("Hello there."))
    for number, piece in enumerate(speech):
        room.chunk(piece, sequence=number, speaker_id="ada")
        room.chunk(piece, sequence=number, speaker_id="bob")
    room.send(type="end", sequence=len(speech), speaker_id="bob")
    assert [u.speaker for u in room.utterances()] == ["bob"]
    assert not room.hearing.ended
    room.send(type="end", sequence=len(speech), speaker_id="ada")
    assert room.hearing.ended == "end"
    assert [u.speaker for u in room.utterances()] == ["bob", "ada"]


def test_somebody_who_joins_later_is_placed_in_the_session(speak: Speak) -> None:
    room = Room()
    room.say(silence(3), speaker_id="ada")
    room.number = 0
    room.say(speak("Hello there.") + silence(1), speaker_id="bob")
    (utterance,) = room.utterances()
    assert 3000 <= utterance.start_ms <= 3400


# -- bad input -----------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_counted_and_the_rest_is_heard(speak: Speak) -> None:
    room = Room(HearingSettings(max_chunk_ms=1000))
    room.say(speak("Hello there.") + silence(1))
    room.chunk(b"abc")
    room.chunk(silence(0.02), 0)
    room.chunk(silence(0.02), 12)
    room.chunk(silence(0.02), 10_000_000)
    room.chunk(silence(1.5))
    room.chunk(b"")
    room.send(type="chunk", sequence=-5, audio=silence(0.02))
    room.send(type="chunk", sequence=1, session_id="other")
    room.send(type="nonsense")
    room.send(type="state", state="dancing")
    room.send(type="start")
    room.say(speak("Hello there.") + silence(1))
    assert len(room.utterances()) == 2
    assert room.hearing.counts == {
        "odd": 1, "sample_rate": 2, "too_long": 1, "sequence": 1, "foreign": 1, "unknown": 2,
    }  # fmt: skip
    assert room.hearing.audio


def test_chunks_without_a_rate_have_that_of_the_start(speak: Speak) -> None:
    room = Room(rate=8000)
    for piece in chunks(resample(speak("Hello there.") + silence(1), RATE, 8000), 20, 8000):
        room.chunk(piece, 0)
    assert [u.rate for u in room.utterances()] == [8000]


def test_without_any_rate_nothing_is_heard_and_it_is_said_why() -> None:
    room = Room()
    room.say(silence(1), 0)
    assert not room.hearing.audio
    assert "sample_rate is 0" in room.hearing.problem


def test_a_change_of_the_rate_ends_an_utterance_and_the_next_one_goes_on(speak: Speak) -> None:
    room = Room()
    room.say(speak("Hello there."))
    room.say(resample(silence(0.5) + speak("How are you?") + silence(1), RATE, 48_000), 48_000)
    first, second = room.utterances()
    assert (first.rate, second.rate, second.number) == (RATE, 48_000, 1)
    assert second.start_ms > first.end_ms
    assert room.hearing.counts == {"rate_changed": 1}


MESSAGES = st.builds(
    STTStreamMessage,
    type=st.sampled_from(["chunk", "chunk", "chunk", "end", "state", "start", "", "x"]),
    session_id=st.sampled_from(["s1", "", "s2"]),
    sequence=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 20),
    audio=st.binary(max_size=2000),
    sample_rate=st.integers(-(2**31), 2**31 - 1) | st.sampled_from([8000, 16000, 44100, 48000, 0]),
    state=st.sampled_from(["listening", "responding", ""]),
    speaker_id=st.sampled_from(["", "ada", "bob"]) | st.text(max_size=5),
)


@given(st.lists(st.tuples(MESSAGES, st.floats(-2, 10), st.booleans()), max_size=40))
@hypothesis(max_examples=100, deadline=None)
def test_any_messages_are_heard_without_complaint(
    messages: list[tuple[STTStreamMessage, float, bool]],
) -> None:
    hearing, now = Hearing(SETTINGS, "s1", began=1000.0), 1000.0
    for message, later, live in messages:
        now += later
        hearing.hear(message, now, live=live)
        assert hearing.due > 0
    hearing.advance(now + 100)
    assert hearing.ended


# -- going on ------------------------------------------------------------------------------------------------------

TEXTS = ("Hello there.", "How are you?", "I am fine, thanks.", "Goodbye.")


def going_on(after: Utterance, published: float) -> dict[str, Resume]:
    assert after.checkpoint is not None
    return {after.speaker: Resume(after.number + 1, after.checkpoint, published)}


@given(known=st.integers(0, 2), ms=st.sampled_from([20, 33, 100, 700]), lost=st.booleans())
@hypothesis(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_takes_over_comes_to_the_same_utterances(
    speak: Speak, known: int, ms: int, lost: bool
) -> None:
    pieces = chunks(b"".join(speak(text) + silence(0.9) for text in TEXTS), ms)
    first = Room()
    published = [0.0] * len(TEXTS)
    messages: list[tuple[int, bytes, float]] = []
    for number, piece in enumerate(pieces):
        if lost and number % 50 == 49:
            first.now += ms / 1000
            continue
        before = len(first.utterances())
        first.chunk(piece, sequence=number)
        messages.append((number, piece, first.now))
        if len(first.utterances()) > before:
            published[before] = first.now + 0.1
    whole = first.utterances()
    assert len(whole) == len(TEXTS)
    second = Room(known=going_on(whole[known], published[known]))
    for number, piece, at in messages:
        second.now = at - len(piece) / 2 / RATE
        second.chunk(piece, sequence=number, live=False)
    assert [(u.number, u.pcm, u.start_ms, u.end_ms) for u in second.utterances()] == [
        (u.number, u.pcm, u.start_ms, u.end_ms) for u in whole[known + 1 :]
    ]
    assert not [event for event in second.events if isinstance(event, Spoken)]


def test_whoever_takes_over_without_the_beginning_goes_on_behind_it(speak: Speak) -> None:
    first = Room()
    first.say(speak("Hello there.") + silence(1))
    (before,) = first.utterances()
    second = Room(known=going_on(before, first.now))
    second.now, second.number = first.now + 400, first.number + 20_000
    second.say(silence(0.5) + speak("How are you?") + silence(1))
    (after,) = second.utterances()
    assert after.number == 1
    assert after.start_ms > before.end_ms


def test_a_sender_that_began_anew_after_the_last_transcription_is_heard(speak: Speak) -> None:
    first = Room()
    first.say(silence(2) + speak("Hello there.") + silence(1))
    (before,) = first.utterances()
    second = Room(known=going_on(before, first.now))
    second.now = first.now + 10
    second.say(speak("How are you?") + silence(1))
    assert [u.number for u in second.utterances()] == [1]
