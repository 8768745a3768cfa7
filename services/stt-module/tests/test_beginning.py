"""Messages close to a `start` are given to the session that they are of."""

from __future__ import annotations

import math

from handler_messages import STTStreamMessage
from stt_module.beginning import AFTER_END, CLOSE, Beginning

START = 1000.0


def release(*types: str, followed: bool = False) -> list[str]:
    beginning = Beginning(START)
    for number, kind in enumerate(types):
        assert beginning.hold(STTStreamMessage(type=kind), START - 0.01 + 0.001 * number)
    return [message.type for message, _ in beginning.release(followed=followed)]


def test_first_chunks_are_the_sessions_own_though_they_came_before_it() -> None:
    assert release("chunk", "chunk") == ["chunk", "chunk"]


def test_what_ends_right_before_is_another_session() -> None:
    assert release("chunk", "end", "chunk", "state") == ["chunk", "state"]
    assert release("chunk", "end", followed=True) == []


def test_a_whole_session_sent_at_once_is_one() -> None:
    assert release("chunk", "chunk", "end") == ["chunk", "chunk", "end"]
    assert release("end", "chunk", "end") == ["chunk", "end"]


def test_later_messages_are_not_held() -> None:
    beginning = Beginning(START)
    assert beginning.due == math.inf
    assert not beginning.hold(STTStreamMessage(type="chunk"), START + CLOSE)
    assert beginning.release(followed=True) == []
    assert not beginning.hold(STTStreamMessage(type="chunk"), START)


def test_what_is_held_is_due_soon_and_after_an_end_a_little_later() -> None:
    beginning = Beginning(START)
    beginning.hold(STTStreamMessage(type="chunk"), START)
    assert beginning.due == START + CLOSE
    beginning.hold(STTStreamMessage(type="end"), START)
    assert beginning.due == START + CLOSE + AFTER_END
    beginning.release(followed=False)
    assert beginning.due == math.inf
