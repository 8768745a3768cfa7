from local_inference.passages import Passage, pieces_of, read_prompt, sentences_of

SYSTEM = """You answer from the context. Cite passages like [1].

Context:
[1] Subjects (docs/architecture.md)
The first text.
It has two lines.

[2] A title without a place
The second text.

[3] Functions (f(x)) of x (https://example.org/a_(b))
The third."""


def texts(markdown: str) -> list[str]:
    return [piece.text for piece in pieces_of(Passage(1, "T", "u", markdown))]


def test_numbered_passages_come_with_title_and_uri() -> None:
    prompt = read_prompt([("system", SYSTEM), ("user", "What?")])
    assert prompt.question == "What?"
    assert prompt.passages[0] == Passage(
        1, "Subjects", "docs/architecture.md", "The first text.\nIt has two lines."
    )
    assert prompt.passages[1] == Passage(2, "A title without a place", "", "The second text.")
    assert prompt.passages[2].number == 3
    assert prompt.passages[2].text == "The third."


def test_passages_on_one_line_keep_their_text() -> None:
    prompt = read_prompt(
        [("system", "Context:\n[1] Water boils at 100 degrees.\n[2] Ice melts at 0."), ("user", "?")]
    )
    assert [passage.text for passage in prompt.passages] == ["Water boils at 100 degrees.", "Ice melts at 0."]


def test_context_in_the_user_message_leaves_the_question() -> None:
    prompt = read_prompt([("user", "Context:\n[1] A\nSome text here.\n\nQuestion: What is it?")])
    assert prompt.question == "What is it?"
    assert prompt.passages[0].title == "A"


def test_long_pasted_text_is_a_passage_and_its_last_line_the_question() -> None:
    pasted = "The bridge was built in 1932 by three hundred workers. " * 6
    prompt = read_prompt([("user", f"{pasted}\n\nWhen was the bridge built?")])
    assert prompt.question == "When was the bridge built?"
    assert [passage.number for passage in prompt.passages] == [0]
    assert "question" not in prompt.passages[0].text


def test_a_question_at_the_end_of_one_long_paragraph_is_found() -> None:
    pasted = "The bridge was built in 1932 by three hundred workers. " * 6
    prompt = read_prompt([("user", f"{pasted}When was it built?")])
    assert prompt.question == "When was it built?"


def test_what_the_assistant_said_is_no_context() -> None:
    prompt = read_prompt([("user", "a?"), ("assistant", "The moon is made of cheese. " * 20), ("user", "b?")])
    assert not prompt.passages
    assert (prompt.question, prompt.earlier) == ("b?", "a?")


def test_the_person_to_greet_is_named() -> None:
    for told, name in {
        "Greet the person named Ada in one or two sentences.": "Ada",
        "Greet the person named Emily Warm warmly in one or two short sentences. Use the name.": "Emily Warm",
        'Greet the person named "Grace Hopper", warmly.': "Grace Hopper",
        "Be kind.\nGreet the person named J\u00fcrgen\nBe short.": "J\u00fcrgen",
    }.items():
        assert read_prompt([("system", told)]).greet == name


def test_no_message_of_the_user_means_no_question() -> None:
    assert read_prompt([("system", "Be kind.")]).question == ""


def test_lines_of_a_paragraph_are_joined_and_cut_into_sentences() -> None:
    assert texts("A stream is kept\nfor 30 days. See e.g. Fig. 3 for more.\n\nNext one.") == [
        "A stream is kept for 30 days.",
        "See e.g. Fig. 3 for more.",
        "Next one.",
    ]


def test_a_lead_in_of_few_words_stays_with_what_it_leads_to() -> None:
    assert texts("**Choice.** We take SQLite. It is small and fast.") == [
        "**Choice.** We take SQLite.",
        "It is small and fast.",
    ]


def test_what_closes_a_sentence_stays_with_it() -> None:
    assert texts('He said "come in now please." Then (quietly.) He left the room.') == [
        'He said "come in now please."',
        "Then (quietly.) He left the room.",
    ]


def test_list_items_stand_alone() -> None:
    assert texts("Promises:\n- first thing\n  goes on\n- second thing\n2. third") == [
        "Promises:",
        "first thing goes on",
        "second thing",
        "third",
    ]


def test_table_rows_name_their_columns() -> None:
    table = "| subject | carries |\n|---|---|\n| `ai.x` | Foo |\n| `ai.y` | |"
    assert texts(table) == ["subject: `ai.x` \u00b7 carries: Foo", "subject: `ai.y`"]


def test_rows_of_a_table_that_lost_its_header_stay_readable() -> None:
    assert texts("| `ai.x` | Foo |\n| `ai.y` | Bar |") == ["`ai.x` \u00b7 Foo", "`ai.y` \u00b7 Bar"]


def test_code_stays_in_one_piece_even_when_its_fence_never_ends() -> None:
    assert texts("Run:\n```sh\nmake setup\nmake demo\n```\nThen wait.") == [
        "Run:",
        "make setup\nmake demo",
        "Then wait.",
    ]
    assert texts("```\nmake setup\n| a |") == ["make setup\n| a |"]


def test_headings_are_the_setting_of_what_follows() -> None:
    (piece,) = pieces_of(Passage(1, "Guide", "", "# Install\nRun it."))
    assert piece.setting == "Guide Install"


def test_long_sentences_are_cut_at_semicolons() -> None:
    long = "; ".join(["one part of a sentence that goes on and on"] * 8)
    assert len(sentences_of(long)) == 8
    assert len(sentences_of("one; two")) == 1
