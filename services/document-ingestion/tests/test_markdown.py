import textwrap

from hypothesis import given, strategies as st

from document_ingestion.markdown import parse_markdown, parse_text


def parse(text):
    return parse_markdown(textwrap.dedent(text).strip("\n"))


def outline(parsed):
    return [(section.headings, [block.kind for block in section.blocks]) for section in parsed.sections]


def texts(parsed):
    return [block.text() for section in parsed.sections for block in section.blocks]


def test_sections_carry_the_headings_above_them():
    parsed = parse(
        """
        # Guide

        Intro.

        ## Install
        ### Linux
        Use make.

        Title two
        ---------
        Text.

        # Second top
        More.
        """
    )
    assert parsed.title == "Guide"
    assert outline(parsed) == [
        (("Guide",), ["text"]),
        (("Guide", "Install", "Linux"), ["text"]),
        (("Guide", "Title two"), ["text"]),
        (("Second top",), ["text"]),
    ]


def test_front_matter_gives_the_title_and_is_no_text():
    parsed = parse("---\ntitle: 'The Guide'\ntags: [a]\n---\n# Heading\nText.")
    assert parsed.title == "The Guide"
    assert texts(parsed) == ["Text."]


def test_a_rule_at_the_start_is_not_front_matter():
    assert texts(parse("---\nJust text.")) == ["Just text."]


def test_code_keeps_its_lines_and_hides_what_looks_like_markdown():
    parsed = parse(
        """
        Run:

        ```sh
        # not a heading
        | not | a table |
        |---|---|
        make test
        ```
        After.
        """
    )
    run, code, after = texts(parsed)
    assert (run, after) == ("Run:", "After.")
    assert code == "```sh\n# not a heading\n| not | a table |\n|---|---|\nmake test\n```"


def test_a_fence_closes_only_with_its_own_mark_and_length():
    (code,) = texts(parse("~~~~md\n```\n~~~\ninside\n~~~~"))
    assert code == "~~~~md\n```\n~~~\ninside\n~~~~"


def test_an_open_fence_runs_to_the_end():
    assert texts(parse("```\nnever closed\n# still code")) == ["```\nnever closed\n# still code\n```"]


def test_a_fence_in_a_list_loses_the_lists_indent():
    parsed = parse("- first\n- do:\n\n  ```sh\n  make\n    twice\n  ```\n- last")
    assert texts(parsed) == ["- first\n- do:", "```sh\nmake\n  twice\n```", "- last"]


def test_a_table_row_names_its_columns_for_the_embedding():
    parsed = parse(
        r"""
        | subject | carries |
        |:--------|--------:|
        | `a.b`   | **one** \| two |
        | `c.d` |
        """
    )
    ((block,),) = [section.blocks for section in parsed.sections]
    assert block.text() == "| subject | carries |\n| --- | --- |\n| `a.b` | **one** \\| two |\n| `c.d` |  |"
    assert block.words() == "subject: a.b; carries: one | two\nsubject: c.d"


def test_tables_may_come_without_outer_bars_and_right_after_text():
    parsed = parse("Values:\na | b\n--|--\n1 | 2\n\nEnd.")
    assert texts(parsed) == ["Values:", "| a | b |\n| --- | --- |\n| 1 | 2 |", "End."]


def test_a_line_with_a_bar_is_no_table():
    assert texts(parse("a | b\nc")) == ["a | b c"]


def test_lists_are_cut_between_items_and_keep_continued_lines():
    parsed = parse(
        """
        Before:
        - one
          goes on
        - two

        - three
          1. nested
        * other mark

        After.
        """
    )
    before, listed, after = [block for section in parsed.sections for block in section.blocks]
    assert listed.pieces == ("- one goes on", "- two", "- three", "  1. nested", "* other mark")
    assert (before.text(), after.text()) == ("Before:", "After.")


def test_paragraphs_are_cut_between_sentences_and_embedded_without_link_targets():
    parsed = parse('See [the guide](https://example.org/a_(b) "T") now. It\nhas **two** `lines`.')
    ((block,),) = [section.blocks for section in parsed.sections]
    assert len(block.pieces) == 2
    assert block.pieces[1] == "It has **two** `lines`."
    assert block.words() == "See the guide now. It has two lines."


def test_comments_badges_bare_tags_rules_and_references_are_no_text():
    parsed = parse(
        """
        <p align="center">
        [![CI](https://x/badge.svg)](https://x/ci) ![license](l.svg)
        </p>
        <!-- a comment
        over lines -->
        ***
        [ref]: https://example.org
        Text.
        """
    )
    assert texts(parsed) == ["Text."]


def test_a_comment_that_never_ends_swallows_the_rest():
    assert texts(parse("Text.\n<!-- open\nnever")) == ["Text."]


def test_quotes_and_indented_code_are_read():
    parsed = parse("> Quoted\n> text.\n\n    x = 1\n    y = 2\n\nEnd.")
    assert texts(parsed) == ["Quoted text.", "```\nx = 1\ny = 2\n```", "End."]


def test_plain_text_is_paragraphs():
    parsed = parse_text("# not a heading\n| a |\n\n\n second. Third.\n")
    assert texts(parsed) == ["# not a heading | a |", "second. Third."]
    assert parsed.title == ""


def test_an_empty_document_has_no_sections():
    assert parse_markdown("").sections == ()
    assert parse_markdown("# Only a heading\n\n<!-- and a comment -->").sections == ()
    assert parse_text(" \n\t\n").sections == ()


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "```",
                "~~~~",
                "# h",
                "---",
                "===",
                "| a | b |",
                "|--|--|",
                "- x",
                "",
                "    code",
                "> q",
                "<!--",
                "-->",
            ]
        ),
        st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30),
    ),
    max_size=25,
)


@given(LINES)
def test_any_text_is_read_without_an_error(lines):
    parsed = parse_markdown("\n".join(lines))
    for section in parsed.sections:
        assert section.blocks
        for block in section.blocks:
            assert block.pieces
            assert not block.plain or len(block.plain) == len(block.pieces)
