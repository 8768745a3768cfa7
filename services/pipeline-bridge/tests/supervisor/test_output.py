import pytest

from pipeline_bridge.supervisor.output import Output, changed, discard, last_line, line_of


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        (b"", ""),
        (b"\n \r\n\t\n", ""),
        (b"one\ntwo", "two"),
        (b"one\ntwo\n\n", "two"),
        (b"one\r\ntwo\r\n", "two"),
        (b"10%\r20%\r30%", "30%"),
        (b"10%\r20%\r", "20%"),
        (b"10%\rdone\r    \r", "done"),
        (b"\x1b[1;32mgreen\x1b[0m \x1b]0;title\x07text", "green text"),
        (b"\x1b[2K\x1b[1Gat work", "at work"),
        (b"a\x00b\x07c\td", "a b c d"),
        ("Grüße\u2028☕\x85".encode(), "Grüße ☕"),
        (b"\xe9cut \xff\xfe", "cut"),
        (b"x" * 200, "x" * 200),
        (b"y" * 201, "y" * 199 + "…"),
    ],
)
def test_the_last_line_is_what_a_person_would_read_last(printed, line):
    assert line_of(printed) == line


def test_the_end_of_what_was_printed_is_kept(tmp_path):
    output = Output(str(tmp_path), 1000)
    for number in range(1000):
        output.write(b"line %d\n" % number)
    output.close()
    kept = (tmp_path / "output.before").read_bytes() + (tmp_path / "output").read_bytes()
    assert 500 <= len(kept) <= 1000
    assert kept.endswith(b"line 998\nline 999\n")


def test_of_a_piece_over_the_limit_the_end_is_kept(tmp_path):
    output = Output(str(tmp_path), 100)
    output.write(b"x" * 1000 + b"\nlast")
    assert (tmp_path / "output").read_bytes() == b"x" * 45 + b"\nlast"
    output.close()


def test_the_last_line_is_found_over_the_border_of_the_files(tmp_path):
    output = Output(str(tmp_path), 20)
    output.write(b"a\nbeginn")
    assert last_line(str(tmp_path)) == "beginn"
    output.write(b"ing\n")
    assert (tmp_path / "output").read_bytes() == b"ing\n"
    assert last_line(str(tmp_path)) == "beginning"
    output.close()


def test_every_piece_is_a_change(tmp_path):
    seen = [changed(str(tmp_path))]
    output = Output(str(tmp_path), 20)
    for _ in range(5):
        seen.append(changed(str(tmp_path)))
        output.write(b"12345")
    seen.append(changed(str(tmp_path)))
    output.close()
    assert len(set(seen)) == len(seen)


def test_output_that_cannot_be_written_is_dropped_until_it_can_be_again(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    output = Output(str(folder), 20)
    output.write(b"before")
    folder.rename(tmp_path / "away")
    for _ in range(5):
        output.write(b"lost lost")
    (tmp_path / "away").rename(folder)
    output.write(b"after")
    output.close()
    assert last_line(str(folder)).endswith("after")


def test_a_full_disk_costs_output_but_not_the_run(tmp_path):
    (tmp_path / "output").symlink_to("/dev/full")
    output = Output(str(tmp_path), 100)
    output.write(b"lost")
    output.write(b"kept")
    output.close()
    assert last_line(str(tmp_path)) == "kept"


def test_what_was_kept_can_be_discarded(tmp_path):
    output = Output(str(tmp_path), 20)
    output.write(b"x" * 10)
    output.write(b"y" * 10)
    output.close()
    discard(str(tmp_path))
    discard(str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert last_line(str(tmp_path)) == ""
