"""Chunks come out in the order of their numbers, each once, whatever came in."""

from __future__ import annotations

from hypothesis import given, strategies as st

from stt_module.sequence import MOST_WAITING, REMEMBERED, Chunk, Sequencer

REORDER_MS = 200


def chunk(number: int, speaker: str = "", ms: int = 20, published: float = 0.0) -> Chunk:
    pcm = number.to_bytes(4, "little") * (8 * ms)
    return Chunk(speaker, pcm, 16_000, published)


def end(speaker: str = "", published: float = 0.0) -> Chunk:
    return Chunk(speaker, b"", 0, published, end=True)


def take(sequencer: Sequencer, numbers: list[int], speaker: str = "", ms: int = 20) -> list[tuple[int, int]]:
    """Return the numbers that come out, and how many were missing before each."""
    return [
        (given.number, given.missing)
        for number in numbers
        for given in sequencer.take(number, chunk(number, speaker, ms))
    ]


def test_what_comes_in_order_goes_on_at_once() -> None:
    sequencer = Sequencer(REORDER_MS)
    assert take(sequencer, [0, 1, 2]) == [(0, 0), (1, 0), (2, 0)]
    assert not sequencer.counts


def test_what_comes_twice_goes_on_once_and_is_counted() -> None:
    sequencer = Sequencer(REORDER_MS)
    assert take(sequencer, [0, 0, 1, 0, 1, 2, 4, 4, 3]) == [(n, 0) for n in range(5)]
    assert sequencer.counts == {"repeated": 4, "out_of_order": 1}


def test_what_is_overtaken_is_put_back_in_its_place() -> None:
    sequencer = Sequencer(REORDER_MS)
    assert take(sequencer, [1, 0, 3, 4, 2, 5]) == [(n, 0) for n in range(6)]
    assert sequencer.counts == {"out_of_order": 2}


def test_a_missing_chunk_is_given_up_after_enough_later_audio() -> None:
    sequencer = Sequencer(REORDER_MS)
    assert take(sequencer, [0, 1, *range(3, 12)]) == [(0, 0), (1, 0)]
    assert take(sequencer, [12]) == [(3, 1), *((n, 0) for n in range(4, 13))]
    assert take(sequencer, [2]) == []
    assert sequencer.counts == {"missing": 1, "repeated": 1}


def test_a_long_chunk_that_overtook_its_neighbour_waits_for_it() -> None:
    sequencer = Sequencer(REORDER_MS)
    assert take(sequencer, [0, 2, 1], ms=1000) == [(0, 0), (1, 0), (2, 0)]
    assert take(sequencer, [4, 5], ms=1000) == [(4, 1), (5, 0)]


def test_what_waits_has_a_bound_however_short_it_is() -> None:
    sequencer = Sequencer(REORDER_MS)
    assert len(take(sequencer, [0, *range(2, 2 + MOST_WAITING)], ms=0)) == 1 + MOST_WAITING


def test_a_session_whose_beginning_is_lost_begins_where_it_is_known() -> None:
    sequencer = Sequencer(REORDER_MS)
    assert take(sequencer, list(range(3000, 3020))) == [(n, 0) for n in range(3000, 3020)]
    assert not sequencer.counts["missing"]


def test_what_waits_is_given_up_when_nothing_comes() -> None:
    sequencer = Sequencer(REORDER_MS)
    sequencer.take(0, chunk(0))
    sequencer.take(2, chunk(2, published=10.0))
    assert sequencer.due(1.0, 0.5) == 11.0
    assert sequencer.give_up(10.9, 1.0, 0.5) == []
    assert [c.number for c in sequencer.give_up(11.0, 1.0, 0.5)] == [2]


def test_an_end_waits_shortly_for_what_is_missing() -> None:
    sequencer = Sequencer(REORDER_MS)
    sequencer.take(0, chunk(0))
    assert sequencer.take(3, end(published=10.0)) == []
    assert sequencer.due(1.0, 0.5) == 10.5
    assert [c.number for c in sequencer.take(1, chunk(1))] == [1]
    (last,) = sequencer.give_up(10.5, 1.0, 0.5)
    assert (last.end, last.missing, sequencer.ends_all(last)) == (True, 1, True)


def test_an_end_without_a_number_ends_at_once() -> None:
    sequencer = Sequencer(REORDER_MS)
    take(sequencer, [0, 1])
    (last,) = sequencer.take(0, end())
    assert last.end


def test_an_end_before_any_chunk_ends_at_once() -> None:
    (last,) = (sequencer := Sequencer(REORDER_MS)).take(0, end())
    assert sequencer.ends_all(last)


def test_speakers_of_one_sender_share_its_numbers() -> None:
    sequencer = Sequencer(REORDER_MS)
    order = [(0, "ada"), (1, "bob"), (3, "bob"), (2, "ada"), (4, "ada")]
    given = [g.number for n, who in order for g in sequencer.take(n, chunk(n, who))]
    assert given == [0, 1, 2, 3, 4]
    assert sequencer.together_with("ada") == ["ada", "bob"]


def test_speakers_with_senders_of_their_own_have_numbers_of_their_own() -> None:
    sequencer = Sequencer(REORDER_MS)
    take(sequencer, list(range(10)), "ada")
    assert take(sequencer, [0, 1], "bob") == [(0, 0), (1, 0)]
    take(sequencer, [5, 6], "eve")  # her beginning is lost, and the number is used
    assert [sequencer.together_with(who) for who in ("ada", "bob", "eve")] == [["ada"], ["bob"], ["eve"]]
    assert take(sequencer, [10], "ada") == [(10, 0)]


def test_an_end_of_one_of_several_senders_ends_that_one() -> None:
    sequencer = Sequencer(REORDER_MS)
    take(sequencer, [0, 1], "ada")
    take(sequencer, [0], "bob")
    (last,) = sequencer.take(1, end("bob"))
    assert not sequencer.ends_all(last)
    (last,) = sequencer.take(2, end("ada"))
    assert sequencer.ends_all(last)


def test_an_end_of_nobody_ends_the_session() -> None:
    sequencer = Sequencer(REORDER_MS)
    take(sequencer, [0, 1], "ada")
    take(sequencer, [0], "bob")
    (last,) = sequencer.take(2, end())
    assert sequencer.ends_all(last)


def test_senders_that_seemed_to_be_one_are_told_apart() -> None:
    """The beginning is lost: that each counts alone shows when both use a number."""
    sequencer = Sequencer(REORDER_MS)
    given = [
        (who, g.number)
        for n in range(40)
        for who, at in (("ada", 2990 + n), ("bob", 3000 + n))
        for g in sequencer.take(at, chunk(at, who))
    ]
    assert sequencer.together_with("ada") == ["ada"]
    assert [n for who, n in given if who == "ada" and n > 3000][-1] == 3029
    assert len(given) == 80


def test_a_sender_that_begins_anew_is_heard() -> None:
    sequencer = Sequencer(REORDER_MS)
    take(sequencer, list(range(100)))
    again = [Chunk("", bytes([number + 1]) * 640, 16_000, 0.0) for number in range(3)]
    given = [g.number for number, one in enumerate(again) for g in sequencer.take(number, one)]
    assert given == [100, 101, 102]
    assert sequencer.counts == {"restarted": 1}


def test_a_sender_that_sends_everything_again_is_not_heard_twice() -> None:
    sequencer = Sequencer(REORDER_MS)
    take(sequencer, list(range(100)))
    assert take(sequencer, list(range(50))) == []
    assert sequencer.counts == {"repeated": 50}


def test_a_sender_that_does_not_count_is_heard() -> None:
    sequencer = Sequencer(REORDER_MS)
    heard = [sequencer.take(0, chunk(number)) for number in range(5)]
    assert [g.number for given in heard for g in given] == [0, 1, 2, 3, 4]


def test_a_first_chunk_that_comes_too_late_is_no_new_beginning() -> None:
    sequencer = Sequencer(REORDER_MS)
    take(sequencer, list(range(1, 30)))
    assert take(sequencer, [0, 30]) == [(30, 0)]
    assert REMEMBERED > 1


@given(st.lists(st.integers(0, 400), max_size=300), st.sampled_from([0, 10, 20, 500]))
def test_whatever_comes_goes_on_in_order_and_at_most_once(numbers: list[int], ms: int) -> None:
    sequencer = Sequencer(REORDER_MS)
    given = take(sequencer, numbers, ms=ms) + [(c.number, c.missing) for c in sequencer.release()]
    out = [number for number, _ in given]
    assert out == sorted(set(out))
    # Who comes with number 0 where the first chunks are not known any more begins anew, behind what there was.
    assert sequencer.counts["restarted"] or set(out) <= set(numbers)


@given(st.data())
def test_what_is_a_little_out_of_order_and_repeated_loses_nothing(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    delays = data.draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))
    copies = data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    arriving = sorted((n + delays[n] + copy * 0.1, n) for n in range(count) for copy in range(copies[n]))
    given = take(sequencer := Sequencer(REORDER_MS), [n for _, n in arriving])
    assert given == [(n, 0) for n in range(count)]
    assert sequencer.counts["repeated"] == sum(copies) - count
