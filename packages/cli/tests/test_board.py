import io

from handlers_cli.stack.board import Board


def board(*, in_place: bool) -> tuple[Board, io.StringIO]:
    stream = io.StringIO()
    stream.fileno = lambda: (_ for _ in ()).throw(OSError())  # no terminal: 80 columns
    return Board(["one", "three"], stream, in_place=in_place, colours=False), stream


def test_elsewhere_than_on_a_terminal_each_change_is_a_line() -> None:
    shown, stream = board(in_place=False)
    shown.set("one", "starting")
    shown.set("one", "starting")
    shown.set("three", "failed", "ended with exit code 1")
    assert stream.getvalue().splitlines() == [
        "  … one    starting",
        "  ✗ three  failed  ended with exit code 1",
    ]


def test_on_a_terminal_the_list_is_drawn_over_and_no_line_wraps() -> None:
    shown, stream = board(in_place=True)
    shown.set("one", "failed", "x" * 500)
    _, _, again = stream.getvalue().partition("\x1b[2A")
    lines = again.replace("\r\x1b[K", "").splitlines()
    assert len(lines) == 2
    assert len(lines[0]) < 80


def test_what_was_frozen_is_not_drawn_over() -> None:
    shown, stream = board(in_place=True)
    shown.freeze()
    shown.set("one", "stopped")
    assert "\x1b[2A" not in stream.getvalue()
