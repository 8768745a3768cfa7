"""An answer cut into what can be spoken: early, at the ends of sentences, the same however it was streamed."""

# ruff: noqa: RUF001 - the marks of many languages are the subject of these tests

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from handler_base.config import load
from handler_base.conversation._characters import is_wide
from handler_base.conversation.speech import Piece, SpeechCutter, SpeechSettings, cut

SMALL = SpeechSettings(first_chars=3, first_max_chars=10, max_chars=20)
CLAUSES = 60
"""Where the first piece is cut in most of these tests: late enough for a clause."""


def stream(text: str, language: str = "", *, early: bool = True, **lengths: int) -> list[str]:
    """Return the texts of the pieces, streamed character by character, and check what always holds."""
    lengths = {"first_max_chars": CLAUSES, **lengths}
    cutter = SpeechCutter(SpeechSettings(**lengths), language=language, early=early)
    pieces = [piece for char in text for piece in cutter.feed(char)]
    pieces += cutter.close()
    assert "".join(piece.source for piece in pieces) + cutter.unspoken == text
    return [piece.text for piece in pieces]


def needed(text: str, language: str = "") -> str:
    """Return how much of an answer the first piece has to wait for."""
    cutter = SpeechCutter(SpeechSettings(first_max_chars=CLAUSES), language=language)
    for index, char in enumerate(text):
        if cutter.feed(char):
            return text[: index + 1]
    return "all"


SENTENCES = {
    "en": [
        ("It is so. It stays so! Does it? Yes.", "It is so.|It stays so!|Does it?|Yes."),
        ("I met Dr. Smith and Mrs. Jones on Main St. today. Fine.", "I met Dr. Smith and Mrs. Jones on Main St. today.|Fine."),
        ("Fruit, e.g. apples, i.e. food, vs. meat etc. is good. Yes.", "Fruit, e.g. apples, i.e. food, vs. meat etc. is good.|Yes."),
        ("We sell apples, pears, etc. They are good.", "We sell apples, pears, etc.|They are good."),
        ("It began at 9 a.m. and ended at 5 p.m. The rest slept.", "It began at 9 a.m. and ended at 5 p.m.|The rest slept."),
        ("J. R. R. Tolkien wrote it. The U.S. Army did not.", "J. R. R. Tolkien wrote it.|The U.S. Army did not."),
        ("So am I. You too.", "So am I.|You too."),
        ("Pi is 3.14. It was 1999. Then came 1,000 more at 9:30. Good.", "Pi is 3.14.|It was 1999.|Then came 1,000 more at 9:30.|Good."),
        ("No. 5 is alive. No. It is not.", "No. 5 is alive.|No.|It is not."),
        ("Use version 1.2.3. Or main.py. Or a.b@example.com. Or example.com.", "Use version 1.2.3.|Or main.py.|Or a.b@example.com.|Or example.com."),
        ("Well... maybe. Hm… perhaps. And then… Nothing.", "Well... maybe.|Hm… perhaps.|And then…|Nothing."),
        ('He said "Stop." Then he left. "Why?" she asked. (Really?) Yes.', 'He said "Stop."|Then he left.|"Why?" she asked.|(Really?)|Yes.'),
        ("“Go.” He went. ‘No!’ It rained.", "“Go.”|He went.|‘No!’|It rained."),
        ("“Go.” – he went. Fine.", "“Go.” – he went.|Fine."),
        ("First: 1. Open it. 2. Close it. Done.", "First: 1. Open it.|2. Close it.|Done."),
        ("What?! No!! Yes.", "What?!|No!!|Yes."),
        ("It ends. (It does.) [Sic] “Yes.” End.", "It ends.|(It does.)|Sic “Yes.”|End."),
        ("Nothing ends here", "Nothing ends here"),
        ("Sales of Acme Inc. rose. (Acme Inc.) fell.", "Sales of Acme Inc. rose.|(Acme Inc.) fell."),
        ("We saw apples etc. “All” were red.", "We saw apples etc.|“All” were red."),
    ],
    "de": [
        ("Am 3. Oktober 1990, d. h. früher, war z. B. Dr. Kohl da. Gut.", "Am 3. Oktober 1990, d. h. früher, war z. B. Dr. Kohl da.|Gut."),
        ("Es kostet 1.000,50 Euro bzw. 12 Mio. im Jahr. Am 12.05.2024 um 9.30 Uhr.", "Es kostet 1.000,50 Euro bzw. 12 Mio. im Jahr.|Am 12.05.2024 um 9.30 Uhr."),
        ("Äpfel, Birnen usw. sind da. Äpfel usw. Mehr nicht.", "Äpfel, Birnen usw. sind da.|Äpfel usw.|Mehr nicht."),
        ("„Komm!“ sagte sie. „Nein.“ Er ging. »Doch.« Sie auch.", "„Komm!“ sagte sie.|„Nein.“|Er ging.|»Doch.«|Sie auch."),
        ("Das war 1990. Dann kam das 21. Jahrhundert. Ich mag es. Du auch.", "Das war 1990.|Dann kam das 21. Jahrhundert.|Ich mag es.|Du auch."),
    ],
    "fr": [
        ("Quoi ? Vraiment ! Il dit : « Viens ! » et part. « Oui. » Puis rien.", "Quoi ?|Vraiment !|Il dit : « Viens ! » et part.|« Oui. »|Puis rien."),
        ("M. Dupont, p. ex., et Mme. Curie sont nés av. J.-C. ou non. Oui.", "M. Dupont, p. ex., et Mme. Curie sont nés av. J.-C. ou non.|Oui."),
    ],
    "es": [
        ("¿Qué tal? ¡Hola! El Sr. García y la Sra. Ruiz viven en EE. UU. desde 1990. Bien.", "¿Qué tal?|¡Hola!|El Sr. García y la Sra. Ruiz viven en EE. UU. desde 1990.|Bien."),
    ],
    "zh": [
        ("当然可以。这是3.14！是吗？好的……然后呢。", "当然可以。|这是3.14！|是吗？|好的……然后呢。"),
        ("他说：“好。”然后走了。（真的！）是的。", "他说：“好。”|然后走了。|（真的！）|是的。"),
        ("你好!我是人。真的?！对。", "你好!|我是人。|真的?！|对。"),
        ("用`a.b。c`吧。好。", "用a.b。c吧。|好。"),
    ],
    "ja": [
        ("はい。「そうです。」と言った。『はい。』今日は、いい天気ですね！", "はい。|「そうです。」と言った。|『はい。』|今日は、いい天気ですね！"),
    ],
    "hi": [("यह सच है। वह भी।", "यह सच है।|वह भी।")],
}  # fmt: skip


@pytest.mark.parametrize("known", [True, False], ids=["language known", "language unknown"])
@pytest.mark.parametrize(
    ("language", "text", "pieces"),
    [(language, *case) for language, cases in SENTENCES.items() for case in cases],
)
def test_a_piece_is_a_sentence(language: str, text: str, pieces: str, known: bool) -> None:
    assert stream(text, language if known else "", early=False) == pieces.split("|")


def test_the_language_tells_an_ordinal_from_a_number_at_the_end() -> None:
    assert stream("Room 21. Floor two.", "en") == ["Room 21.", "Floor two."]
    assert stream("Kapitel 21. Abschnitt zwei.", "de-AT") == ["Kapitel 21. Abschnitt zwei."]
    assert stream("Room 21. Floor two.", "xx") == ["Room 21.", "Floor two."]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Yes, it does. And more.", "Yes, it does."),
        ("Yes. And more.", "Yes."),
        ("Of course, I can do it.", "Of course, I can do it."),
        ("Yes, of course, I can do it.", "Yes, of course,"),
        ("It costs 1,000,000, they say, and more.", "It costs 1,000,000,"),
        ("Here is what you need: time and money.", "Here is what you need:"),
        ("I think – but only just.", "I think – but only just."),
        ("I really think so – but only just.", "I really think so –"),
        ("From 1914 – 1918 there was a war.", "From 1914 – 1918 there was a war."),
        ("“Certainly, my friend,” he said, and left.", "“Certainly, my friend,” he said,"),
        ("The function (with a, b, and c) works, too.", "The function (with a, b, and c) works,"),
        ("The main reason for which people prefer this approach is that it is simple", "The main reason for which people prefer this approach is"),
        ("Supercalifragilisticexpialidocious antidisestablishmentarianism pneumono", "Supercalifragilisticexpialidocious"),
        ("We all saw the big red balloon in the early evening sky and it", "We all saw the big red balloon in the early evening sky"),
        ("x" * 70, "x" * 70),
        ("当然可以，我来帮你。", "当然可以，"),
        ("好，我来帮你。", "好，我来帮你。"),
        ("這是一個非常長的句子沒有標點因為它太長了太長了", "這是一個非常長的句子沒有標點"),
        ("这是一个非常长的句子没有标点符号它真的是太长太长太长了", "这是一个非常长的句子没有标点符号它真的是"),
        ("私は昨日友達と一緒に東京駅の近くで美味しい寿司食べました", "私は昨日友達と一緒に東京駅の近くで"),
    ],
)  # fmt: skip
def test_the_first_piece_may_be_a_clause(text: str, first: str) -> None:
    assert stream(text)[0] == first


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Hello! How are you?", "Hello!"),
        ("Is it so? Yes.", "Is it so?"),
        ("Yes, of course, I can.", "Yes, of course,"),
        ("It does. It really does.", "It does. "),
        ("It does.\nIt really does.", "It does.\n"),
        ("No. It is not.", "No. I"),
        ("“Yes.” That is it.", "“Yes.” T"),
        ("“What?” That is it.", "“What?” T"),
        ("Quoi ? Vraiment.", "Quoi ? "),
        ("« Quoi ? » Vraiment.", "« Quoi ? » V"),
        ("x! = 6, of course.", "x! "),
        ("好的。我来。", "好的。"),
        ("“好的。”我来。", "“好的。”我"),
        ("Sure\n\nHere it is.", "Sure\n\n"),
        ("# Title\nText", "# Title\n"),
        ("- one\n- two", "- one\n"),
        ("**Yes!** It does.", "**Yes!"),
        ("<think>No. Wait.</think>Yes! No.", "<think>No. Wait.</think>Yes!"),
        ("We met Dr. Smith and talked.", "all"),
    ],
)
def test_the_first_piece_waits_for_no_more_than_it_needs(text: str, seen: str) -> None:
    assert needed(text) == seen


def test_a_mark_after_the_first_piece_is_not_spoken_with_the_second() -> None:
    assert stream("What?! “Yes.” Oh!) And so on.") == ["What?", "“Yes.”", "Oh!)", "And so on."]


def test_only_the_first_piece_is_a_clause() -> None:
    assert stream("Yes, of course, it is. Now, of course, it is not.") == [
        "Yes, of course,",
        "it is.",
        "Now, of course, it is not.",
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("one two three, four five six seven", ["one two three,", "four five six seven"]),
        ("one two three four five six seven", ["one two three four", "five six seven"]),
        ("one two three and four five six", ["one two three", "and four five six"]),
        ("a longwordwithoutanyspaceinit", ["a", "longwordwithoutanysp", "aceinit"]),
        ("x" * 50, ["x" * 20, "x" * 20, "x" * 10]),
        ("one two three—four five six", ["one two three—", "four five six"]),
        ("ab e\u0301" + "e\u0301" * 9, ["ab", "e\u0301" * 10]),
        ("中" * 14, ["中" * 6, "中" * 6, "中" * 2]),
        ("中中中，中中中中", ["中中中，", "中中中中"]),
        ("中中ー中中っっ中中", ["中中ー中", "中っっ中中"]),
    ],
)
def test_a_long_sentence_is_cut_at_a_clause_else_at_a_space(text: str, pieces: list[str]) -> None:
    assert stream(text, early=False, max_chars=20) == pieces


def test_the_first_piece_is_a_few_words_where_no_clause_comes_in_time() -> None:
    def first(text: str) -> str:
        cutter = SpeechCutter()
        return [*cutter.feed(text), *cutter.close()][0].text

    assert first("The library opens at nine in the morning.") == "The library opens"
    assert first("Die Bibliothek öffnet um neun Uhr morgens.") == "Die Bibliothek öffnet"
    assert first("Donaudampfschifffahrtsgesellschaft heißt sie.") == "Donaudampfschifffahrtsgesellschaft"
    assert first("图书馆早上九点开门，六点关门。") == "图书馆早上九点开"


def test_nothing_but_marks_is_not_spoken() -> None:
    cutter = SpeechCutter()
    assert cutter.feed("... !!! --- ()()") == []
    assert cutter.close() == []
    assert cutter.unspoken == "... !!! --- ()()"
    assert cut("?! 😀") == []
    assert cut("") == []


def test_what_is_left_out_belongs_to_the_piece_after_it_and_at_the_end_to_the_last() -> None:
    text = "<think>x</think> **One.** [1] ```\ncode\n``` Two [2]. 😀 Three **so** [3]\n\n"
    assert cut(text) == [
        Piece("One.", "<think>x</think> **One.**"),
        Piece("Two.", " [1] ```\ncode\n``` Two [2]."),
        Piece("Three so.", " 😀 Three **so** [3]\n\n"),
    ]
    cutter = SpeechCutter()
    assert [p.source for p in [*cutter.feed("One.\n\n[1] 😀"), *cutter.close()]] == ["One."]
    assert cutter.unspoken == "\n\n[1] 😀"


def test_the_lengths_come_from_the_environment() -> None:
    assert load(SpeechSettings, {"SPEECH_FIRST_CHARS": "3", "SPEECH_FIRST_MAX_CHARS": "30", "SPEECH_MAX_CHARS": "90"}) == (
        SpeechSettings(first_chars=3, first_max_chars=30, max_chars=90)
    )  # fmt: skip


PARTS = (
    "a b Hello word§ 23 1 1. Dr. z.§B.§ etc.§ . ! ? , ,§ .§ ... … 。 ， ！ ？ 」 「 はい 是的 * ** _ __ ~~ ~~~ ` `` ``` ```¶ [ ] ( ) ]( [1] "
    "![ < <b> <think> </think> <br> <p> > & &amp; &lt; &# \\ \\( \\) \\[ \\frac $ $$ # #§ ¶#§ ¶-§ ¶1.§ ¶>§ | ¶| --- ¶---¶ https:// www. http h "
    "example.com /x @ 😀 👨‍👩‍👧 é « » “ ” „ \" ' – — : ; 【 】 † • { } § § § ¶ ¶¶"
)  # fmt: skip
ANSWERS = st.lists(
    st.sampled_from([
        *(part.replace("§", " ").replace("¶", "\n") for part in PARTS.split(" ")),
        "\ud83d", "\ude00", "\x00", "\r\n", "e\u0301", "\u00a0", "\t", "x" * 30,
    ]),
    max_size=40,
).map("".join)  # fmt: skip
PROPERTY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PROPERTY
@given(
    ANSWERS,
    st.lists(st.integers(0, 120), max_size=6),
    st.sampled_from([SMALL, SpeechSettings()]),
    st.sampled_from(["", "en", "de", "fr"]),
    st.booleans(),
)
def test_pieces_do_not_depend_on_tokens_and_are_the_answer(
    text: str, marks: list[int], lengths: SpeechSettings, language: str, early: bool
) -> None:
    def pieces(parts: list[str]) -> tuple[list[Piece], str]:
        cutter = SpeechCutter(lengths, language=language, early=early)
        found = [piece for part in parts for piece in cutter.feed(part)]
        return [*found, *cutter.close()], cutter.unspoken

    places = [0, *sorted(min(mark, len(text)) for mark in marks), len(text)]
    found, unspoken = pieces([text])
    assert pieces(list(text)) == (found, unspoken)
    assert pieces([text[a:b] for a, b in pairwise(places)]) == (found, unspoken)
    assert "".join(piece.source for piece in found) + unspoken == text


@PROPERTY
@example("https://👨\u200d👩\u200d👧a", SMALL)
@given(ANSWERS, st.sampled_from([SMALL, SpeechSettings()]))
def test_a_piece_can_be_spoken_and_has_no_marks_left(text: str, lengths: SpeechSettings) -> None:
    for piece in cut(text, lengths):
        assert piece.text == " ".join(piece.text.split())
        assert any(map(str.isalnum, piece.text))
        assert len(piece.text) <= lengths.max_chars
        never = ["`", "😀", "\u200d", "\ud83d", "\x00"]
        if not set("`\\&") & set(text):  # in code, and escaped, they are what is read
            never += ["[", "]", "<b>", "<think>", "***"]
        left = [mark for mark in never if mark in piece.text]
        assert not left
        piece.text.encode()


@PROPERTY
@given(st.text(max_size=200))
def test_any_text_can_be_cut(text: str) -> None:
    pieces = cut(text, SMALL)
    assert not pieces or "".join(piece.source for piece in pieces) == text
    assert all(sum(3 if is_wide(c) else 1 for c in piece.text) <= 21 for piece in pieces)


@pytest.mark.parametrize(
    "unit",
    [
        "This is a sentence, with words. ", "x", "中", "word ", "!", "(", "*", "_", "`", "```\nx", "[", "](", "[1,", "<a ",
        "<think>a", "&a", "$", "http://a", "h ", "... ", "Dr. ", '" ', "\n", "# ", "| ", "\\", "【1",
    ],
)  # fmt: skip
def test_the_work_grows_with_the_length_of_the_answer_and_no_faster(unit: str) -> None:
    """Counts calls; what a call may copy is bounded, as the next test shows."""

    def work(length: int) -> int:
        calls = 0

        def count(_frame: object, event: str, _arg: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        cutter = SpeechCutter()
        text = (unit * length)[:length]
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            for char in text:
                cutter.feed(char)
            cutter.close()
        finally:
            sys.setprofile(before)
        return calls

    assert work(8000) < 5 * work(2000)


def test_what_is_held_back_stays_small_however_long_the_answer() -> None:
    for unit in (
        "*",
        "[1",
        "<a",
        "&a",
        "`",
        "```x",
        "http://",
        "<think>",
        "【1",
        "](x",
        "#",
        "~",
        "$\\a",
        "1",
    ):
        cutter = SpeechCutter()
        for char in unit * 2000:
            cutter.feed(char)
            assert len(cutter._plain._held) < 300
            assert len(cutter._phrase.chars) < 300
