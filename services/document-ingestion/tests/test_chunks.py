import itertools
import re

import pytest
from hypothesis import given, strategies as st

from document_ingestion.blocks import Parsed, Section, code, items, paragraph, table
from document_ingestion.chunks import cut, measure_of
from document_ingestion.markdown import parse_markdown


def chunk(*blocks, size=100, overlap=0, title="Doc", headings=(), measure=len):
    parsed = Parsed(title, (Section(tuple(headings), blocks),))
    return cut(parsed, title, size=size, overlap=overlap, measure=measure)


SENTENCES = [f"Sentence number {number:02d} is here." for number in range(12)]


def test_a_short_section_is_one_chunk_under_its_path():
    (piece,) = chunk(paragraph("Short."), paragraph("Text."), headings=["Part", "Detail"])
    assert piece.title == "Doc > Part > Detail"
    assert piece.text == "Short.\n\nText."
    assert piece.embedded == "Doc > Part > Detail\nShort.\nText."


def test_the_title_is_not_repeated_when_it_is_the_first_heading():
    (piece,) = chunk(paragraph("x"), headings=["Doc", "Part"])
    assert piece.title == "Doc > Part"


def test_chunks_end_with_sentences_and_begin_with_the_last_ones_of_the_chunk_before():
    pieces = chunk(paragraph(" ".join(SENTENCES)), size=120, overlap=40)
    assert all(piece.text.endswith(".") and piece.text.startswith("Sentence") for piece in pieces)
    assert all(len(piece.text) <= 120 for piece in pieces)
    for before, after in itertools.pairwise(pieces):
        last = re.findall(r"Sentence[^.]*\.", before.text)[-1]
        assert after.text.startswith(last)
    assert {s for s in SENTENCES if any(s in piece.text for piece in pieces)} == set(SENTENCES)


def test_without_overlap_nothing_is_repeated():
    pieces = chunk(paragraph(" ".join(SENTENCES)), size=120)
    assert " ".join(piece.text for piece in pieces) == " ".join(SENTENCES)


def test_sections_are_never_mixed_and_do_not_overlap():
    parsed = parse_markdown("# A\nOne. Two.\n\n## B\nThree.\n\n## C\nFour.")
    pieces = cut(parsed, "A", size=500, overlap=100, measure=len)
    assert [(piece.title, piece.text) for piece in pieces] == [
        ("A", "One. Two."),
        ("A > B", "Three."),
        ("A > C", "Four."),
    ]


def test_code_that_fits_is_not_cut():
    source = "\n".join(f"line {number}" for number in range(8))
    pieces = chunk(paragraph("Intro sentence that takes some room here."), code(source), paragraph("After."))
    assert any(f"```\n{source}\n```" in piece.text for piece in pieces)


def test_code_that_does_not_fit_is_cut_between_lines_with_its_fences():
    source = "\n".join(f"line number {number:02d}" for number in range(20))
    pieces = chunk(code(source, "py"), size=100)
    assert len(pieces) > 1
    for piece in pieces:
        assert piece.text.startswith("```py\nline")
        assert piece.text.endswith("\n```")
        assert len(piece.text) <= 100
    assert [int(n) for piece in pieces for n in re.findall(r"number (\d+)", piece.text)] == list(range(20))


def test_a_table_that_does_not_fit_is_cut_between_rows_and_repeats_its_header():
    rows = [[f"`ai.chat.{number}`", f"kept {number} days"] for number in range(10)]
    pieces = chunk(paragraph("The subjects:"), table(["subject", "kept"], rows), size=120, overlap=50)
    tables = [piece for piece in pieces if "|" in piece.text]
    assert len(tables) > 1
    assert all("| subject | kept |\n| --- | --- |\n| `ai" in piece.text for piece in tables)
    assert "The subjects:" in tables[0].text
    found = [row for piece in tables for row in re.findall(r"`ai.chat.(\d)`", piece.text)]
    assert found == [str(number) for number in range(10)]
    assert "subject: ai.chat.0; kept: kept 0 days" in tables[0].embedded
    assert all(len(piece.text) <= 120 for piece in pieces)


def test_a_table_that_fits_is_not_cut_even_if_the_text_before_it_fills_the_chunk():
    whole = table(["a", "b"], [["1", "2"], ["3", "4"]])
    pieces = chunk(
        paragraph("A long sentence that fills most of this chunk, so nothing fits."), whole, size=90
    )
    assert pieces[-1].text == whole.text()


def test_list_items_are_kept_whole_and_may_overlap():
    pieces = chunk(items([f"- item number {number}" for number in range(9)]), size=60, overlap=20)
    assert all(piece.text.startswith("- item") for piece in pieces)
    assert pieces[1].text.splitlines()[0] == pieces[0].text.splitlines()[-1]


def test_a_sentence_longer_than_a_chunk_is_cut_between_words():
    pieces = chunk(paragraph("word " * 60), size=50)
    assert all(len(piece.text) <= 50 for piece in pieces)
    assert " ".join(piece.text for piece in pieces).split() == ["word"] * 60


def test_a_word_longer_than_a_chunk_is_cut_anywhere():
    pieces = chunk(paragraph("x" * 333), size=50)
    assert "".join(piece.text for piece in pieces) == "x" * 333
    assert all(len(piece.text) <= 50 for piece in pieces)


def test_a_header_that_would_fill_the_chunk_is_not_repeated():
    rows = [[str(number), "value"] for number in range(9)]
    pieces = chunk(table(["a very long header " * 5, "b"], rows), size=60)
    assert all(len(piece.text) <= 60 for piece in pieces)
    assert sum(piece.text.count("value") for piece in pieces) == 9


def test_sizes_can_be_tokens():
    text = " ".join(SENTENCES)
    by_tokens = chunk(paragraph(text), size=40, measure=measure_of("tokens"))
    by_characters = chunk(paragraph(text), size=40, measure=measure_of("characters"))
    assert len(by_tokens) < len(by_characters)


@pytest.mark.parametrize("size", [40, 200])
def test_long_headings_are_shortened(size):
    (piece,) = chunk(paragraph("x"), headings=["h" * 1000], size=size)
    assert len(piece.title) < 300


BLOCKS = st.lists(
    st.one_of(
        st.text(min_size=1, max_size=300).map(paragraph),
        st.lists(st.text(min_size=1, max_size=60).map(lambda t: f"- {t}"), min_size=1, max_size=6).map(items),
        st.text(min_size=1, max_size=300).map(code),
        st.lists(st.lists(st.text(max_size=30), min_size=2, max_size=2), min_size=1, max_size=6).map(
            lambda rows: table(["a", "b"], rows)
        ),
    ).filter(lambda block: any(piece.strip() for piece in block.pieces)),
    min_size=1,
    max_size=6,
)


@given(BLOCKS, st.integers(40, 300), st.integers(0, 100), st.sampled_from(["characters", "tokens"]))
def test_no_chunk_is_empty_or_too_long_and_nothing_is_lost(blocks, size, overlap, unit):
    measure = measure_of(unit)
    pieces = chunk(*blocks, size=size, overlap=min(overlap, size // 2), measure=measure)

    assert pieces
    everything = "".join("".join(piece.text.split()) for piece in pieces)
    for piece in pieces:
        assert piece.text.strip()
        assert measure(piece.text) <= size
    for block in blocks:
        for part in block.pieces:
            for word in part.split():
                assert word in everything or len(word) > size // 2 or "|" in part
