"""The streams of the contract on a real server: made as declared, extended, never trampled on."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies as st
from nats.js.errors import NoStreamResponseError

from handler_base.errors import MessagingError
from handler_base.messaging.streams import STREAMS, _covered, _overlap, ensure_streams
from handler_messages import subjects
from handler_testkit.nats import nats_server
from handler_testkit.services import Client

if TYPE_CHECKING:
    from handler_testkit.nats import NatsServer

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

# Section "Subjects" of the architecture: what is kept how long, and where.
DECLARED = {
    "COMPANIONS_LOGINS": (7 * DAY, "file", ["ai.chat.user.*.login"]),
    "COMPANIONS_CHAT": (30 * DAY, "file", ["ai.chat.user.*.message", "ai.chat.user.*.greeting.*"]),
    "AI_CHAT_STREAM": (5 * MINUTE, "memory", ["ai.chat.response.stream.>"]),
    "AI_RESPONSES": (HOUR, "file", ["ai.chat.response.*", "ai.voice.response.*"]),
    "AI_VOICE_REQUESTS": (HOUR, "file", ["ai.voice.user.*.request"]),
    "AI_VOICE_SESSIONS": (DAY, "file", ["ai.voice.session.*"]),
    "AI_VOICE_STREAM": (5 * MINUTE, "memory", ["ai.voice.stream.*", "ai.voice.transcription.*"]),
    "AI_VOICE_TTS": (
        5 * MINUTE,
        "memory",
        ["ai.voice.tts.request.*", "ai.voice.tts.audio.*", "ai.voice.tts.status.*"],
    ),
    "AI_PIPELINE": (
        30 * DAY,
        "file",
        ["ai.pipeline.trigger", "ai.pipeline.cancel.*", "ai.pipeline.status.*"],
    ),
    "AI_DLQ": (30 * DAY, "file", ["ai.dlq.*"]),
}


async def configs(js: Any) -> dict[str, Any]:
    return {info.config.name: info.config for info in await js.streams_info()}


def binaries() -> list[Any]:
    """Return the servers to test with: ours, and an older one named by NATS_SERVER_OLD."""
    old = os.environ.get("NATS_SERVER_OLD", "")
    skip = pytest.mark.skipif(not old, reason="NATS_SERVER_OLD names no older nats-server")
    return [pytest.param("", id="current"), pytest.param(old, id="old", marks=skip)]


@pytest.mark.parametrize("binary", binaries())
async def test_every_stream_is_made_as_the_contract_declares_it(binary: str) -> None:
    with nats_server(binary=binary) as server:
        async with Client(server.url) as client:
            js = client.connection.jetstream
            for _ in range(2):  # a second time changes nothing
                await ensure_streams(js, STREAMS)
                made = await configs(js)
                assert {
                    name: (config.max_age, config.storage, config.subjects) for name, config in made.items()
                } == DECLARED
            assert {config.retention for config in made.values()} == {"limits"}
            assert {config.discard for config in made.values()} == {"old"}
            assert all(config.duplicate_window <= config.max_age for config in made.values())
            # A redelivered request finds its result for as long as the result is kept.
            assert made["AI_RESPONSES"].duplicate_window == HOUR
            for name in ("AI_CHAT_STREAM", "AI_VOICE_STREAM", "AI_VOICE_TTS"):
                assert made[name].max_bytes > 0


async def test_every_subject_that_names_a_stream_is_kept_by_it_and_no_other_is(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await ensure_streams(js, STREAMS)
        for row in subjects.ALL:
            subject = row.build(**dict.fromkeys(row.names, "x1"))
            try:
                stream = (await js.publish(subject, b"")).stream
            except NoStreamResponseError:
                stream = ""
            assert stream == row.stream, row.template


async def test_a_stream_that_exists_keeps_its_settings_and_gets_what_it_lacks(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await js.add_stream(
            name="COMPANIONS_CHAT",
            subjects=["ai.chat.user.bob.message", "extra.>"],
            max_age=99 * DAY,
            max_msgs_per_subject=7,
            allow_msg_ttl=True,
            metadata={"owner": "operator"},
            description="tuned",
        )
        await client.connection.store("ai.chat.user.bob.message", b"kept", msg_id="a")
        await ensure_streams(js, ["COMPANIONS_CHAT"])
        info = await js.stream_info("COMPANIONS_CHAT")
        # The narrower subject would overlap with the one that was added.
        assert sorted(info.config.subjects) == [
            "ai.chat.user.*.greeting.*",
            "ai.chat.user.*.message",
            "extra.>",
        ]
        assert (info.config.max_age, info.config.max_msgs_per_subject) == (99 * DAY, 7)
        assert (info.config.allow_msg_ttl, info.config.description) == (True, "tuned")
        assert info.config.metadata["owner"] == "operator"
        assert info.state.messages == 1


async def test_a_stream_that_keeps_more_than_it_must_is_left_alone(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await js.add_stream(name="AI_PIPELINE", subjects=["ai.pipeline.>"])
        await ensure_streams(js, ["AI_PIPELINE"])
        assert (await configs(js))["AI_PIPELINE"].subjects == ["ai.pipeline.>"]


@pytest.mark.parametrize("existing", [[], ["ai.pipeline.trigger"]])
async def test_a_subject_that_another_stream_keeps_is_said_with_its_name(
    nats: NatsServer, existing: list[str]
) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await js.add_stream(name="LEGACY", subjects=["ai.pipeline.status.>", "legacy"])
        await js.add_stream(name="HARMLESS", subjects=["harmless.*"])
        if existing:
            await js.add_stream(name="AI_PIPELINE", subjects=existing)
        with pytest.raises(MessagingError) as caught:
            await ensure_streams(js, ["AI_PIPELINE"])
        assert caught.value.message == (
            "stream AI_PIPELINE cannot be made ready: its subjects are kept by LEGACY (ai.pipeline.status.>, legacy) "
            "already; change or delete that stream"
        )


async def test_every_problem_is_told_at_once(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await js.add_stream(name="ALL", subjects=["ai.>"])
        with pytest.raises(MessagingError) as caught:
            await ensure_streams(js, ["AI_DLQ", "AI_PIPELINE"])
        assert "AI_DLQ" in caught.value.message
        assert "AI_PIPELINE" in caught.value.message


async def test_without_jetstream_it_is_said_in_words() -> None:
    with nats_server(jetstream=False) as server:
        async with Client(server.url) as client:
            with pytest.raises(
                MessagingError, match="stream AI_DLQ cannot be made ready: JetStream is not enabled"
            ):
                await ensure_streams(client.connection.jetstream, ["AI_DLQ"])


async def test_without_permission_it_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    config = 'authorization { users: [ {user: a, password: b, permissions: {publish: {deny: "$JS.>"}}} ] }\n'
    with nats_server(config=config) as server:
        async with Client(server.url, NATS_USER="a", NATS_PASSWORD="b") as client:
            js = client.connection.jetstream
            monkeypatch.setattr(js, "_timeout", 0.1)
            with pytest.raises(MessagingError, match=r"is this user allowed to use \$JS\.API\?"):
                await ensure_streams(js, ["AI_DLQ"])


async def test_streams_in_memory_are_made_again_after_a_restart(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await ensure_streams(js, STREAMS)
        again = asyncio.Event()

        async def prepare() -> None:
            again.set()

        client.connection.on_reconnect(prepare)
        await asyncio.to_thread(nats.restart)
        await asyncio.wait_for(again.wait(), 10)
        assert "AI_CHAT_STREAM" not in await configs(js)
        await ensure_streams(js, STREAMS)
        assert set(await configs(js)) == set(STREAMS)


async def test_two_services_make_the_same_streams_at_once(nats: NatsServer) -> None:
    async with Client(nats.url) as one, Client(nats.url) as two:
        await asyncio.gather(
            *(ensure_streams(c.connection.jetstream, STREAMS) for c in (one, two, one, two)),
        )
        assert set(await configs(one.connection.jetstream)) == set(STREAMS)


# -- covering and overlapping ----------------------------------------------------------------------------------

tokens = st.sampled_from(["a", "b", "*"])
patterns = st.builds(
    lambda parts, tail: ".".join([*parts, *tail]),
    st.lists(tokens, min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
)
ALL_SUBJECTS = [
    ".".join(parts) for length in range(1, 6) for parts in itertools.product("abc", repeat=length)
]


def matching(pattern: str) -> set[str]:
    """Return the subjects that a pattern matches, by trying them all."""
    found = set()
    for subject in ALL_SUBJECTS:
        theirs, ours = subject.split("."), pattern.split(".")
        if ours[-1] == ">":
            if len(theirs) < len(ours):
                continue
            ours = ours[:-1]
            theirs = theirs[: len(ours)]
        if len(theirs) == len(ours) and all(a in {"*", b} for a, b in zip(ours, theirs, strict=True)):
            found.add(subject)
    return found


@given(patterns, patterns)
@settings(deadline=None)
def test_covering_and_overlapping_are_those_of_the_matching_subjects(one: str, other: str) -> None:
    assert _covered(one, [other]) == (matching(one) <= matching(other))
    assert _overlap(one, other) == bool(matching(one) & matching(other))


def test_the_declared_streams_do_not_overlap() -> None:
    rows = [(stream.name, subject) for stream in STREAMS.values() for subject in stream.subjects]
    for name, subject in rows:
        for other, theirs in rows:
            assert name == other or not _overlap(subject, theirs)
