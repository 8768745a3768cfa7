"""A voice for tests, and the measure of what was heard."""

import array
import io
import wave

import pytest

from handler_testkit import speech
from handler_testkit.speech import RATE, VOICES, needs_flite, speak, wav, word_error_rate

SENTENCE = "The tide table hangs beside the door."


@needs_flite
@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_says_a_sentence_in_its_own_way(voice: str) -> None:
    pcm = speak(SENTENCE, voice)
    assert 1 < len(pcm) / 2 / RATE < 4
    assert max(array.array("h", pcm)) > 3000
    assert pcm == speak(SENTENCE, voice)
    assert pcm != speak(SENTENCE, VOICES[VOICES.index(voice) - 1])


@needs_flite
def test_a_text_that_looks_like_an_option_is_said() -> None:
    assert len(speak("-o /dev/null")) > len(speak(""))


def test_an_unknown_voice_is_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="awb, kal16, rms, slt"):
        speak("Hello.", "nobody")


def test_without_the_program_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech.shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match="make flite"):
        speak("Hello.")


def test_a_wav_file_has_what_was_put_in() -> None:
    with wave.open(io.BytesIO(wav(bytes(range(16)), 8000, channels=2))) as file:
        assert file.getparams()[:4] == (2, 2, 8000, 4)
        assert file.readframes(4) == bytes(range(16))


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("The tower is high.", "the tower is high", 0),
        ("The tower is high.", "the tower high", 1 / 4),
        ("The tower is high.", "the flower is very high", 2 / 4),
        ("The tower is high.", "", 1),
        ("", "", 0),
        ("", "oh", 1),
        ("Yes.", "yes yes yes", 2),
        ("It's the captain\u2019s.", "its the captains", 0),
        ("Twenty-one", "twenty one", 0),
        ("12 of 345", "twelve of three hundred forty five", 0),
        ("1,200 or 3.14", "one thousand two hundred or three point one four", 0),
        ("in 1889 and 2024", "in eighteen eighty nine and twenty twenty four", 0),
        ("1900 and 2005", "one thousand nine hundred and two thousand five", 0),
        ("Mr. Smith & Dr. Jones, 5 %", "mister smith and doctor jones five percent", 0),
        ("the 2nd of May", "the second of may", 0),
        ("1234567 x 99th", "one two three four five six seven x 99th", 0),
    ],
)
def test_the_rate_counts_wrong_missing_and_invented_words(said: str, heard: str, rate: float) -> None:
    assert word_error_rate(said, heard) == pytest.approx(rate)
