import pytest
from hypothesis import given, strategies as st

from document_ingestion.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It costs 3.5 MB, i.e. little. Good.", ["It costs 3.5 MB, i.e. little.", "Good."]),
        ("Dr. Who met J. Smith. They left.", ["Dr. Who met J. Smith.", "They left."]),
        ('He said "Go." Then (he ran.) Fast.', ['He said "Go."', "Then (he ran.)", "Fast."]),
        ("See `a.b.c`. `Next` is code.", ["See `a.b.c`.", "`Next` is code."]),
        ("ai.chat.request is a subject. It has dots.", ["ai.chat.request is a subject.", "It has dots."]),
        ("今日は晴れ。明日は雨！どう？", ["今日は晴れ。", "明日は雨！", "どう？"]),  # noqa: RUF001
        ("Это первое. Это второе.", ["Это первое.", "Это второе."]),
        ("No end", ["No end"]),
        ("Wait... What? Yes", ["Wait...", "What?", "Yes"]),
        ("v1.2 came. 2026 was late.", ["v1.2 came.", "2026 was late."]),
        ("  ", []),
    ],
)
def test_text_is_cut_where_a_sentence_ends(text, expected):
    assert sentences(text) == expected


@given(st.text())
def test_nothing_but_white_space_is_lost(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
