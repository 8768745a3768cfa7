from local_inference.ranking import bm25


def test_the_document_with_the_rare_words_wins() -> None:
    scores = bm25(
        "how long are dead letters kept",
        ["Letters of a dead poet", "Streams are kept on disk", "Dead letters are kept for 30 days", "Cats"],
    )
    assert max(scores) == scores[2]
    assert scores[3] == 0
    assert all(0 <= score < 1 for score in scores)


def test_word_forms_and_parts_of_identifiers_match() -> None:
    plural, identifier, other = bm25(
        "carrying users", ["It carries a user.", "`ai.chat.user.carry`", "Nothing here"]
    )
    assert plural > 0
    assert identifier > 0
    assert other == 0


def test_scores_do_not_depend_on_anything_but_the_request() -> None:
    documents = ["a red house", "a blue house by the sea", "the sea"]
    assert bm25("blue sea", documents) == bm25("blue sea", documents)


def test_a_query_without_a_known_word_ranks_nothing() -> None:
    assert bm25("the of and", ["one", "two"]) == [0.0, 0.0]
    assert bm25("zebra", ["one", ""]) == [0.0, 0.0]
    assert bm25("zebra", ["", ""]) == [0.0, 0.0]
