"""What is heard, as it is shown."""

from __future__ import annotations

import os
import shutil

import pytest

from handler_messages import STTTranscription
from handlers_cli.voice.captions import Captions


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((20, 10)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("exactly nineteen ch", "exactly nineteen ch"),
        ("the newest words are at the end", "…rds are at the end"),
        ("two  lines\nbecome one", "…o lines become one"),
        ("世界" * 10, "…界" + "世界" * 4),
        ("\x1b[2Jsteers", "\ufffd[2Jsteers"),
    ],
)
def test_a_partial_text_never_wraps(tty, text: str, shown: str) -> None:
    Captions(tty).take(STTTranscription(text=text))
    assert tty.said == f"\r\x1b[K{shown}"


def test_speakers_have_utterances_of_their_own(terminal) -> None:
    captions = Captions(terminal, "Heard: ")
    for speaker in ("ada", "bob", "ada"):
        captions.take(STTTranscription(text="Hello.", is_final=True, speaker_id=speaker))
    assert terminal.said == "Heard: Hello.\nHeard: Hello.\n"
    assert [said.speaker_id for said in captions.finals] == ["ada", "bob"]
