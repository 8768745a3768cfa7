import pytest

from handlers_cli.text import aligned, duration, end_of, one_line, start_of


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (86400 * 4 + 3600 * 3, "4 d 03 h"),
    ],
)
def test_a_span_of_time_is_told_as_people_say_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "columns", "start", "end"),
    [
        ("abcdef", 6, "abcdef", "abcdef"),
        ("abcdef", 5, "abcd…", "…cdef"),
        ("abcdef", 1, "…", "…"),
        ("", 5, "", ""),
        ("世界世界", 8, "世界世界", "世界世界"),
        ("世界世界", 7, "世界世…", "…界世界"),
        ("世界世界", 6, "世界…", "…世界"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301", "e\u0301e\u0301"),
    ],
)
def test_what_does_not_fit_is_cut_with_a_mark_by_the_columns_it_takes(text, columns, start, end) -> None:
    assert start_of(text, columns) == start
    assert end_of(text, columns) == end


def test_nothing_fits_into_no_room() -> None:
    assert start_of("abc", 0) == ""
    assert start_of("abc", -3) == ""


def test_foreign_text_becomes_one_line_that_steers_nothing() -> None:
    assert one_line("a\n b\tc\x1b[2J") == "a b c�[2J"


def test_columns_are_padded_and_those_without_text_left_out() -> None:
    assert aligned([("a", "", "long text"), ("bcd", "", "")]) == [["a  ", "long text"], ["bcd", "         "]]
