"""A session from start to end: what is said comes back as text, in order, with what belongs to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from handler_testkit.talking import RATE, silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Stack


async def test_what_is_said_comes_back_as_text(stack: Stack, speak: Callable[..., bytes]) -> None:
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
