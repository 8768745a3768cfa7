"""Server-sent events out of bytes, as the WHATWG standard says, however the bytes are cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings, strategies as st

from handler_base.errors import UpstreamProtocol
from handler_base.http import Event, EventParser

LINES = st.sampled_from(
    [
        b"data: one", b"data:two", b"data:  three", b"data", b"data:", b": comment", b":", b"event: token", b"event",
        b"event:", b"id: 7", b"id", b"id: a\0b", b"retry: 250", b"retry: soon", b"unknown: x", b"dat\xc3\xa4: x",
        "data: smörgås 🦜".encode(), b"data: \xff\xfe broken", b"data: [DONE]", b"",
    ]
)  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAMS = st.builds(
    lambda bom, lines: bom + b"".join(line + end for line, end in lines),
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef"]),
    st.lists(st.tuples(st.one_of(LINES, LINES, st.binary(max_size=6)), ENDS), max_size=24),
)


def reference(stream: bytes) -> list[tuple[str, str, str]]:
    """The standard's algorithm word for word, on the whole text."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\r|\n", text)
    events: list[tuple[str, str, str]] = []
    data, kind, last_id = "", "", ""
    for line in lines:
        if line == "":
            if data:
                events.append((data.removesuffix("\n"), kind or "message", last_id))
            data, kind = "", ""
            continue
        if line.startswith(":"):
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return events


def parse(pieces: list[bytes]) -> list[tuple[str, str, str]]:
    parser = EventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    parser.close()
    return [(event.text, event.event, event.id) for event in events]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    places = sorted(place % (len(stream) + 1) for place in places)
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=40))
@example(b"\xef\xbb\xbfdata: x\r\n\r\n", list(range(20)))
@example(b"data: x\r\r\ndata: y\n\r", list(range(20)))
@settings(max_examples=400, deadline=None)
def test_any_cut_of_the_bytes_gives_the_events_of_the_standard(stream: bytes, places: list[int]) -> None:
    expected = reference(stream)
    assert parse([stream]) == expected
    assert parse(cut(stream, places)) == expected
    assert parse([stream[index : index + 1] for index in range(len(stream))]) == expected


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=10), st.integers(8, 40))
@settings(max_examples=200, deadline=None)
def test_the_limit_is_met_at_the_same_event_however_the_bytes_are_cut(
    stream: bytes, places: list[int], limit: int
) -> None:
    def outcome(pieces: list[bytes]) -> tuple[list[Event], bool]:
        parser = EventParser(limit)
        events: list[Event] = []
        try:
            for piece in pieces:
                events += parser.feed(piece)
            parser.close()
        except UpstreamProtocol:
            return events, True
        return events, False

    assert outcome([stream]) == outcome(cut(stream, places))


def test_data_lines_are_joined_and_only_one_space_is_dropped() -> None:
    assert EventParser().feed(b"data: a\ndata:  b\ndata\n\n") == [Event(b"a\n b\n")]


def test_type_holds_for_one_event_and_id_for_all_that_follow() -> None:
    events = EventParser().feed(b"event: token\nid: 1\ndata: a\n\ndata: b\n\n")
    assert events == [Event(b"a", "token", "1"), Event(b"b", "message", "1")]


def test_an_event_that_is_not_completed_is_dropped() -> None:
    assert EventParser().feed(b"data: a\n\ndata: cut") == [Event(b"a")]


def test_a_character_cut_in_two_is_whole_again() -> None:
    parser = EventParser()
    stream = "data: 🦜\n\n".encode()
    assert parser.feed(stream[:8]) == []
    assert [event.text for event in parser.feed(stream[8:])] == ["🦜"]


def test_retry_is_remembered() -> None:
    parser = EventParser()
    parser.feed(b"retry: 3000\nretry: soon\n\n")
    assert parser.retry == 3000


def test_an_event_over_the_limit_is_refused_after_the_events_before_it() -> None:
    parser = EventParser(limit=16)
    assert parser.feed(b"data: a\n\ndata: " + b"b" * 32) == [Event(b"a")]
    with pytest.raises(UpstreamProtocol, match="larger than 16 bytes"):
        parser.feed(b"\n\n")
    with pytest.raises(UpstreamProtocol):
        parser.close()


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    parser = EventParser(limit=1000)
    with pytest.raises(UpstreamProtocol):
        for _ in range(101):
            parser.feed(b"0123456789")


def test_comments_that_keep_a_stream_alive_do_not_add_up() -> None:
    parser = EventParser(limit=32)
    for _ in range(100):
        assert parser.feed(b": still here\n") == []
    assert parser.feed(b"data: a\n\n") == [Event(b"a")]
