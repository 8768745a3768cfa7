"""The table of subjects: what is built is parsed back, and no id reaches another subject than the one meant."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings, strategies as st

from handler_messages import subjects
from handler_messages.subjects import (
    ALL,
    MAX_TOKEN_BYTES,
    Delivery,
    Subject,
    SubjectError,
    check_response_subject,
    check_token,
    find,
)

HOSTILE = [
    "", " ", "a b", "a.b", ".", "..", "*", ">", "a*", "a>", "a\tb", "a\r\nPUB x 0\r\n", "a\nb", "\x00", "a\x7f", "\x1f",
    "a\xa0b", "a\u2028b", "a\u200bb", "\u202eabc", "\ufeff", "\ufffd", "\udcff", "\ud800x", "\x0b", "a\x0c7",
    "x" * (MAX_TOKEN_BYTES + 1), "ü" * MAX_TOKEN_BYTES,
]  # fmt: skip

good_ids = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=".*>\ufffd"), min_size=1, max_size=40
).filter(lambda text: len(text.encode()) <= MAX_TOKEN_BYTES)

rows = pytest.mark.parametrize("row", ALL, ids=lambda row: row.template)


@st.composite
def built(draw: st.DrawFn) -> tuple[Subject, dict[str, str], str]:
    row = draw(st.sampled_from(ALL))
    ids = {name: draw(good_ids) for name in row.names}
    return row, ids, row.build(**ids)


# -- building and parsing --------------------------------------------------------------------------------------


@given(built())
@settings(deadline=None)
def test_what_is_built_is_parsed_back_and_found(case: tuple[Subject, dict[str, str], str]) -> None:
    row, ids, subject = case
    assert row.parse(subject) == ids
    assert row.matches(subject)
    assert find(subject) is row
    assert len(subject.split(".")) == len(row.template.split("."))


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_is_a_good_id_or_refused(text: str) -> None:
    try:
        check_token(text)
    except SubjectError as error:
        refused = error.value
    else:
        refused = None
        subject = subjects.CHAT_RESPONSE.build(request_id=text)
        assert subject.count(".") == 3
        assert subjects.CHAT_RESPONSE.parse(subject) == {"request_id": text}
        subject.encode()
    assert refused in {None, text}


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_hostile_ids_are_refused(value: str) -> None:
    with pytest.raises(SubjectError) as caught:
        check_token(value, "user_id")
    assert str(caught.value).startswith("user_id")
    assert len(str(caught.value)) < 300
    assert caught.value.value == value
    with pytest.raises(SubjectError):
        subjects.CHAT_USER_MESSAGE.build(user_id=value)


@pytest.mark.parametrize(
    "value", ["ada", "a-b_c", "ü", "日本", "{user_id}", "$JS", "a:b", "a/b", "%2E", "x" * MAX_TOKEN_BYTES]
)
def test_other_ids_are_taken(value: str) -> None:
    assert check_token(value) == value
    assert subjects.CHAT_USER_MESSAGE.parse(subjects.CHAT_USER_MESSAGE.build(user_id=value)) == {
        "user_id": value
    }


@rows
def test_ids_that_are_missing_or_unknown_are_refused(row: Subject) -> None:
    with pytest.raises(SubjectError, match="takes"):
        row.build(**dict.fromkeys(row.names, "x"), stranger="x")
    if row.names:
        with pytest.raises(SubjectError, match="takes"):
            row.build()


@rows
def test_a_subject_of_another_shape_is_not_parsed(row: Subject) -> None:
    good = row.build(**dict.fromkeys(row.names, "x"))
    for bad in (f"{good}.x", f"x.{good}", good.rsplit(".", 1)[0], good.upper(), "", good + "."):
        assert not row.matches(bad)
        with pytest.raises(SubjectError, match="does not follow"):
            row.parse(bad)
    with pytest.raises(SubjectError):
        row.parse(good + "\n")


def test_a_subject_with_a_hostile_id_is_not_parsed() -> None:
    for value in ("*", ">", "a b", "\ufffd", "a\x0b7", "\udcff", "x" * 200):
        with pytest.raises(SubjectError):
            subjects.CHAT_USER_MESSAGE.parse(f"ai.chat.user.{value}.message")


# -- the table -------------------------------------------------------------------------------------------------


def overlap(one: Subject, other: Subject) -> bool:
    ours, theirs = one.wildcard.split("."), other.wildcard.split(".")
    return len(ours) == len(theirs) and all(
        a == b or "*" in {a, b} for a, b in zip(ours, theirs, strict=True)
    )


def test_no_two_rows_overlap() -> None:
    """So that a subject belongs to one row, whatever its ids."""
    assert [(a.template, b.template) for a, b in itertools.combinations(ALL, 2) if overlap(a, b)] == []


def test_the_table_is_the_contract() -> None:
    assert len(ALL) == len({row.template for row in ALL})
    assert {row.template: row.stream for row in ALL if row.delivery is Delivery.DURABLE} == {
        "ai.chat.user.{user_id}.message": "COMPANIONS_CHAT",
        "ai.chat.user.{user_id}.login": "COMPANIONS_LOGINS",
        "ai.chat.user.{user_id}.greeting.request": "COMPANIONS_CHAT",
        "ai.voice.user.{user_id}.request": "AI_VOICE_REQUESTS",
        "ai.voice.session.{session_id}": "AI_VOICE_SESSIONS",
        "ai.voice.tts.request.{session_id}": "AI_VOICE_TTS",
        "ai.pipeline.trigger": "AI_PIPELINE",
        "ai.pipeline.cancel.{request_id}": "AI_PIPELINE",
    }
    assert {row.template for row in ALL if row.delivery is Delivery.REQUEST} == {
        "ai.chat.request",
        "voice.request",
        "ai.voice.tts.voices.list",
        "ai.voice.tts.voices.refresh",
        "ai.pipeline.list",
        "ai.pipeline.runs.list",
    }
    assert {row.template for row in ALL if row.delivery is Delivery.REPLAY} == {
        "ai.voice.stream.{session_id}"
    }


@rows
def test_what_is_durable_or_replayed_is_kept(row: Subject) -> None:
    if row.delivery in {Delivery.DURABLE, Delivery.REPLAY}:
        assert row.stream
    if row.delivery in {Delivery.REQUEST, Delivery.BROADCAST}:
        assert not row.stream


@given(st.text(max_size=60))
@settings(deadline=None)
def test_what_is_outside_the_contract_is_not_found(text: str) -> None:
    row = find(text)
    assert row is None or text.startswith(("ai.", "voice."))


# -- where a response may go -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        "_INBOX.abc.def",
        "_INBOX_ada.abc",
        "my.own.place",
        "companions.frontend.42",
        "ai.chat.response.r1",
        "ai.chat.response.stream.r1",
        "ai.voice.response.r1",
        "voice.response.r1",
        "ai.chat.user.ada.greeting.response",
        "ai.pipeline.status.r1",
        "aix.chat.request",
    ],
)
def test_a_response_may_go_to_an_inbox_and_to_subjects_for_responses(subject: str) -> None:
    assert check_response_subject(subject) == subject


@pytest.mark.parametrize(
    "subject",
    [
        "", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", ">", "a\r\nPUB b 0\r\n", "a.\udcff", "x" * 200,
        ".".join(["x" * 100] * 6),
        "$JS.API.STREAM.DELETE.AI_RESPONSES", "$SYS.REQ.SERVER.PING", "$SRV.PING", "$JS.ACK.a.b.1.2.3.4.5", "$KV.chat-sessions.a",
        "ai", "voice", "ai.x", "voice.x", "ai.chat", "ai.chat.response.r1.x", "ai.anything.new",
        "ai.dlq.chat-handler",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_response_goes_nowhere_else(subject: str) -> None:
    with pytest.raises(SubjectError) as caught:
        check_response_subject(subject)
    assert len(str(caught.value)) < 700


@rows
def test_a_response_is_never_taken_for_a_request(row: Subject) -> None:
    """What a service consumes may not be asked for, whatever the ids."""
    subject = row.build(**dict.fromkeys(row.names, "x"))
    if row.delivery is Delivery.PUBLISHED and row is not subjects.DEAD_LETTER:
        assert check_response_subject(subject) == subject
    else:
        with pytest.raises(SubjectError, match="is not a subject for responses"):
            check_response_subject(subject)


@given(st.text(max_size=80))
@settings(deadline=None)
def test_any_response_subject_is_good_or_refused(text: str) -> None:
    try:
        subject = check_response_subject(text)
    except SubjectError:
        return
    row = find(subject)
    assert not subject.startswith("$")
    assert row is None or row.delivery is Delivery.PUBLISHED
    assert not any(c.isspace() for c in subject)
