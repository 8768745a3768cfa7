"""What has been heard, told from what was sent and when."""

from __future__ import annotations

from hypothesis import given, strategies as st

from voice_assistant.playback import Playback

FIRST, SECOND = "One two three four. ", "Five six."


def played(*, complete: bool = True) -> Playback:
    """Send two seconds and one second of speech at once, at 100 s."""
    playback = Playback()
    playback.sent(0, FIRST, 0.5, 100.0)
    playback.sent(0, FIRST, 1.5, 100.1)
    playback.whole()
    playback.sent(1, SECOND, 1.0, 100.2)
    if complete:
        playback.whole()
    return playback


def test_nothing_is_heard_before_the_first_sound() -> None:
    assert Playback().heard(5.0) == ""
    assert played().heard(100.0) == ""


def test_a_piece_is_heard_word_by_word() -> None:
    assert played().heard(100.5) == "One"
    assert played().heard(101.0) == "One two"
    assert played().heard(101.5) == "One two three"
    assert played().heard(102.0) == "One two three four."
    assert played().heard(102.6) == "One two three four. Five"


def test_after_the_end_everything_was_heard() -> None:
    assert played().heard(103.0) == "One two three four. Five six."
    assert played().ahead(102.5) == 0.5
    assert played().ahead(200.0) == 0.0


def test_sound_that_comes_late_is_heard_late() -> None:
    playback = Playback()
    playback.sent(0, FIRST, 2.0, 0.0)
    playback.whole()
    playback.sent(1, SECOND, 1.0, 10.0)
    playback.whole()
    assert playback.heard(9.0) == "One two three four."
    assert playback.heard(10.5) == "One two three four. Five"
    assert playback.end == 11.0


def test_of_a_piece_that_is_still_made_its_text_tells_how_long_it_will_be() -> None:
    playback = Playback()
    playback.sent(0, FIRST, 2.0, 0.0)
    playback.whole()
    playback.sent(1, "A long piece of which little is there.", 0.1, 0.0)
    assert playback.heard(5.0) == "One two three four. A"
    playback.sent(1, "A long piece of which little is there.", 1.0, 5.0)
    assert playback.heard(20.0) == "One two three four. A long"


def test_a_script_without_spaces_is_cut_between_characters() -> None:
    playback = Playback()
    playback.sent(0, "猫每天睡十六个小时。", 2.0, 0.0)
    playback.whole()
    assert playback.heard(1.0) == "猫每天睡十"


@given(
    st.lists(st.tuples(st.text("ab c.", min_size=1), st.floats(0, 3), st.floats(0, 2)), max_size=6),
    st.floats(0, 30),
)
def test_what_is_heard_only_grows_and_never_exceeds_what_was_sent(
    pieces: list[tuple[str, float, float]], at: float
) -> None:
    playback, now = Playback(), 0.0
    for number, (source, seconds, pause) in enumerate(pieces):
        playback.sent(number, source, seconds, now)
        playback.whole()
        now += pause
    everything = "".join(source for source, _, _ in pieces).strip()
    assert everything.startswith(playback.heard(at))
    assert len(playback.heard(at)) <= len(playback.heard(at + 1))
    assert playback.heard(1000.0) == everything
