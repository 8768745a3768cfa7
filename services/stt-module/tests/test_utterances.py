"""One speaker's audio becomes utterances: whole, apart, and the same however it comes in pieces."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis, strategies as st

from handler_testkit.talking import RATE, resample, silence
from stt_module.config import HearingSettings
from stt_module.events import Event, Finished, Paused, Resumed, Spoken, Utterance
from stt_module.utterances import Segmenter

if TYPE_CHECKING:
    from collections.abc import Callable

    Speak = Callable[..., bytes]

SETTINGS = HearingSettings()


def listen(
    pcm: bytes,
    settings: HearingSettings = SETTINGS,
    *,
    rate: int = RATE,
    size: int = 640,
    segmenter: Segmenter | None = None,
) -> list[Event]:
    segmenter = segmenter or Segmenter(settings, "ada", rate)
    events: list[Event] = []
    for number, start in enumerate(range(0, len(pcm), size)):
        piece = pcm[start : start + size]
        events += segmenter.feed(piece, number=number, sample=0, published=number * size / 2 / rate)
    return events


def finished(events: list[Event]) -> list[Utterance]:
    return [event.utterance for event in events if isinstance(event, Finished)]


def test_speech_between_silences_is_one_utterance_with_what_was_before(speak: Speak) -> None:
    speech = speak("Hello there.")
    pcm = silence(1) + speech + silence(1)
    (utterance,) = finished(listen(pcm))
    start = pcm.index(utterance.pcm) / 2 / RATE
    assert start == pytest.approx(utterance.start_ms / 1000 - SETTINGS.pre_roll_ms / 1000, abs=0.001)
    # All that can be heard of it is in it.
    loud = [n for n, sample in enumerate(array("h", pcm)) if abs(sample) > 500]
    assert start * RATE < loud[0]
    assert start * RATE + len(utterance.pcm) / 2 > loud[-1]
    assert abs(utterance.end_ms - loud[-1] / RATE * 1000) < 200
    assert utterance.heard == pytest.approx(utterance.end_ms / 1000, abs=0.05)


def test_an_utterance_may_begin_with_the_session(speak: Speak) -> None:
    loud = speak("Hello there.").lstrip(b"\0")
    (utterance,) = finished(listen(loud[len(loud) % 2 :] + silence(1)))
    assert utterance.start_ms < 250


def test_the_end_is_told_after_the_silence_and_expected_before(speak: Speak) -> None:
    segmenter = Segmenter(SETTINGS, "ada", RATE)
    speech = silence(0.5) + speak("Hello there.")
    listen(speech, segmenter=segmenter)
    after: dict[type[Event], int] = {}
    events: list[Event] = []
    for number in range(60):
        for event in segmenter.feed(bytes(640), number=number, sample=0, published=0.0):
            after[type(event)] = 20 * (number + 1)
            events.append(event)
    (paused,) = [event for event in events if isinstance(event, Paused)]
    (end,) = [event for event in events if isinstance(event, Finished)]
    assert after[Finished] - after[Paused] == SETTINGS.end_silence_ms - SETTINGS.speculate_after_ms
    assert paused.utterance.key == end.utterance.key
    assert paused.utterance.pcm == end.utterance.pcm


def test_a_pause_that_was_none_is_taken_back(speak: Speak) -> None:
    events = listen(silence(0.5) + speak("Hello") + silence(0.1) + speak("there.") + silence(1))
    assert [type(event) for event in events if not isinstance(event, Spoken)] == [
        Paused,
        Resumed,
        Paused,
        Finished,
    ]


def test_nothing_is_expected_ahead_when_that_is_off(speak: Speak) -> None:
    events = listen(silence(0.5) + speak("Hello there.") + silence(1), HearingSettings(speculate_after_ms=0))
    assert not [event for event in events if isinstance(event, Paused)]
    assert len(finished(events)) == 1


def test_partial_utterances_grow_while_somebody_speaks(speak: Speak) -> None:
    speech = speak("This is a long sentence that takes a while to say from the beginning to the end.")
    settings = HearingSettings(partial_interval=0.5)
    events = listen(silence(0.5) + speech + silence(1), settings)
    partial = [event.utterance for event in events if isinstance(event, Spoken)]
    (whole,) = finished(events)
    assert len(partial) in {int(len(speech) / RATE) - 1, int(len(speech) / RATE)}
    assert [len(u.pcm) for u in partial] == sorted({len(u.pcm) for u in partial})
    assert all(whole.pcm.startswith(u.pcm) and u.number == whole.number for u in partial)
    assert not [e for e in listen(speech, HearingSettings(partial_interval=0)) if isinstance(e, Spoken)]


def click(ms: int) -> bytes:
    return array("h", [8000 if n // 40 % 2 else -8000 for n in range(RATE * ms // 1000)]).tobytes()


def test_what_is_shorter_than_speech_is_noise() -> None:
    assert not finished(listen(silence(0.5) + click(60) + silence(1)))
    assert not finished(listen(silence(0.5) + click(120) + silence(1)))
    assert finished(listen(silence(0.5) + click(300) + silence(1)))


def test_white_noise_is_no_utterance() -> None:
    draw = random.Random(1)
    noise = [draw.gauss(0, 5000) for _ in range(10 * RATE)]
    for offset in (0, 6000):
        shifted = array("h", [max(-32768, min(32767, int(sample + offset))) for sample in noise]).tobytes()
        events = listen(silence(1) + shifted + silence(1))
        assert not [event for event in events if not isinstance(event, Resumed)]


def test_long_speech_is_cut_at_a_pause_and_nothing_of_it_is_lost(speak: Speak) -> None:
    text = "This goes on and on, with hardly a pause, and nobody knows when it will end, if ever. "
    speech = speak(text * 8)
    settings = HearingSettings(max_utterance_seconds=10, end_silence_ms=5000)
    events = listen(silence(0.5) + speech + silence(6), settings)
    utterances = finished(events)
    assert len(utterances) > 2
    assert [u.number for u in utterances] == list(range(len(utterances)))
    for utterance in utterances[:-1]:
        assert len(utterance.pcm) / 2 / RATE <= 10
        # The cut is where it is quiet.
        assert max(map(abs, array("h", utterance.pcm[-640:]))) < 2000
    ends = [u.checkpoint.position for u in utterances if u.checkpoint]
    starts = [end - len(u.pcm) // 2 for end, u in zip(ends, utterances, strict=True)]
    assert all(start - end < 0.2 * RATE for end, start in zip(ends, starts[1:], strict=False))


def test_speech_without_a_pause_is_cut_where_it_is_too_long(speak: Speak) -> None:
    vowel = speak("aaaaaaaa")
    middle = vowel[len(vowel) // 3 // 2 * 2 :][:3200] * 100
    utterances = finished(listen(middle, HearingSettings(max_utterance_seconds=2)))
    assert all(len(u.pcm) / 2 / RATE <= 2.1 for u in utterances)


def test_missing_audio_is_silence_up_to_a_bound(speak: Speak) -> None:
    speech = speak("Hello there.")
    segmenter = Segmenter(SETTINGS, "ada", RATE)
    listen(speech, segmenter=segmenter)
    events = segmenter.feed(speech, number=5000, sample=0, published=60.0, missing=60 * RATE)
    events += listen(silence(1), segmenter=segmenter)
    first, second = finished(events)
    assert first.end_ms < 1000 * len(speech) / 2 / RATE + 100
    assert second.start_ms > 60_000
    assert len(first.pcm) + len(second.pcm) < 3 * len(speech)


def test_a_small_gap_does_not_end_an_utterance(speak: Speak) -> None:
    speech = speak("This is a long sentence that takes a while to say.")
    half = len(speech) // 4 * 2
    segmenter = Segmenter(SETTINGS, "ada", RATE)
    events = listen(speech[:half], segmenter=segmenter)
    events += segmenter.feed(speech[half:], number=500, sample=0, published=0.0, missing=RATE // 10)
    (utterance,) = finished(events + listen(silence(1), segmenter=segmenter))
    assert utterance.end_ms == pytest.approx(1000 * len(speech) / 2 / RATE + 100, abs=250)


def test_what_is_spoken_ends_when_nothing_comes(speak: Speak) -> None:
    segmenter = Segmenter(SETTINGS, "ada", RATE)
    speech = speak("Hello there.")
    assert not finished(listen(speech, segmenter=segmenter))
    assert segmenter.speaking
    (utterance,) = finished(segmenter.finish())
    assert utterance.pcm == speech[-len(utterance.pcm) :] or utterance.pcm in speech
    assert segmenter.finish() == []


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_the_endpoint_gets_the_original_rate(speak: Speak, rate: int) -> None:
    pcm = resample(silence(0.5) + speak("Hello there.") + silence(1), RATE, rate)
    (utterance,) = finished(listen(pcm, rate=rate, size=2 * rate // 50))
    assert utterance.rate == rate
    assert utterance.pcm in pcm


@given(sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=20))
@hypothesis(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_utterances_are_the_same_in_whatever_pieces_they_come(speak: Speak, sizes: list[int]) -> None:
    pcm = silence(0.4) + speak("Hello there.") + silence(0.8) + speak("How are you?", "rms") + silence(0.8)
    expected = [(u.pcm, u.start_ms, u.end_ms) for u in finished(listen(pcm))]
    assert len(expected) == 2
    segmenter, at, number = Segmenter(SETTINGS, "ada", RATE), 0, 0
    events: list[Event] = []
    while at < len(pcm):
        size = max(2, 2 * sizes[number % len(sizes)])
        events += segmenter.feed(pcm[at : at + size], number=number, sample=0, published=0.0)
        at, number = at + size, number + 1
    assert [(u.pcm, u.start_ms, u.end_ms) for u in finished(events)] == expected


@given(cut=st.integers(0, 2), size=st.sampled_from([320, 642, 3200, 20000]))
@hypothesis(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_goes_on_at_a_checkpoint_comes_to_the_same_utterances(
    speak: Speak, cut: int, size: int
) -> None:
    texts = ("Hello there.", "How are you?", "I am fine, thanks.", "Goodbye.")
    pcm = b"".join(speak(text) + silence(0.75) for text in texts)
    whole = finished(listen(pcm, size=size))
    assert len(whole) == 4
    checkpoint = whole[cut].checkpoint
    assert checkpoint is not None
    # The chunk and the sample in it are the same place as the position.
    assert checkpoint.sequence * size // 2 + checkpoint.sample == checkpoint.position
    later = Segmenter(SETTINGS, "ada", RATE, position=checkpoint.position, number=cut + 1)
    rest = finished(listen(pcm[2 * checkpoint.position :], size=size, segmenter=later))
    assert [(u.number, u.pcm, u.start_ms, u.end_ms) for u in rest] == [
        (u.number, u.pcm, u.start_ms, u.end_ms) for u in whole[cut + 1 :]
    ]


@given(pcm=st.binary(max_size=4000), rate=st.sampled_from([8000, 11025, 16000, 44100]))
@hypothesis(max_examples=50, deadline=None)
def test_any_bytes_are_heard_without_complaint(pcm: bytes, rate: int) -> None:
    segmenter = Segmenter(SETTINGS, "ada", rate)
    segmenter.feed(pcm[: len(pcm) // 2 * 2] * 20, number=0, sample=0, published=0.0)
    segmenter.finish()
