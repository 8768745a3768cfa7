"""What is said in one breath, and what cannot be said at all."""

from __future__ import annotations

import pytest

from local_inference.utterances import sayable, utterances


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The first is here. The second is there! Is a third anywhere?", ["The first is here.", "The second is there!", "Is a third anywhere?"]),
        ("Yes. No. Hello there, my old friend.", ["Yes. No. Hello there, my old friend."]),
        ("Dr. Jones lives in St. Ives, e.g. by the sea.", ["Dr. Jones lives in St. Ives, e.g. by the sea."]),
        ("A first paragraph\n\nand a second one", ["A first paragraph", "and a second one"]),
        ("  spaces \t and\nlines  ", ["spaces and lines"]),
        ("Caf\u00e9 na\u00efve, it\u2019s \u201cfine\u201d\u2026", ['Cafe naive, it\'s "fine"...']),
        ("Good \U0001f600 morning \U0001f44d\U0001f3fd", ["Good morning"]),
        ("\u4f60\u597d\u3002 Hello there, my friend\u3002\u4e16\u754c", ["Hello there, my friend"]),
        ("\U0001f600", []),
        ("...", []),
        ("" , []),
        ("nul\0 and \x1b[31m control", ["nul and [31m control"]),
    ],
)  # fmt: skip
def test_a_text_becomes_sentences_in_characters_that_can_be_said(text: str, said: list[str]) -> None:
    assert utterances(text) == said


def test_a_long_sentence_is_cut_at_a_comma_or_else_between_words() -> None:
    with_commas = "the quick brown fox, " * 60
    parts = utterances(with_commas)
    assert all(len(part) <= 400 and part.endswith(",") for part in parts)
    assert " ".join(parts) == with_commas.strip()
    without = "word " * 500
    parts = utterances(without)
    assert all(len(part) <= 400 for part in parts)
    assert " ".join(parts) == without.strip()
    endless = "x" * 1000
    assert "".join(utterances(endless)) == endless


def test_letters_of_other_languages_lose_what_flite_does_not_know() -> None:
    assert sayable("Stra\u00dfe \u0141\u00f3d\u017a \u00c6r\u00f8 \u20ac5") == "Strasse Lodz AEro  euros 5"
