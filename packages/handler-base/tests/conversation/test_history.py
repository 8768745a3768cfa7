"""What was said before, in a real bucket: bounded, private, and nothing lost when two speak at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from handler_base.conversation.history import History, HistorySettings, Turn
from handler_base.errors import MessagingError
from handler_base.messaging.keyvalue import Conflict, KeyValue, Value, key_of
from handler_testkit.nats import nats_server
from handler_testkit.services import Client

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_testkit.nats import NatsServer


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def history(connection: Connection, clock: Any = Clock(), **limits: Any) -> History:  # noqa: B008
    chosen = HistorySettings(**limits)
    return History(KeyValue(connection, chosen.as_bucket), chosen, wall_clock=clock)


async def say(
    history: History, number: int, *, user: str = "ada", session: str = "s1", answer: str = "", **more: Any
) -> None:
    await history.append(
        user, session, request_id=f"r{number}", question=f"q{number}", answer=answer or f"a{number}", **more
    )


def questions(turns: list[Turn]) -> list[str]:
    return [turn.question for turn in turns]


async def test_turns_come_back_oldest_first(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        clock = Clock()
        kept = history(client.connection, clock)
        assert await kept.load("ada", "s1") == []
        await say(kept, 1)
        clock.now = 1001.5
        await say(kept, 2, interrupted=True)
        assert await kept.load("ada", "s1") == [
            Turn("r1", "q1", "a1", 1000.0),
            Turn("r2", "q2", "a2", 1001.5, interrupted=True),
        ]


async def test_the_oldest_turns_go_over_the_limit(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        kept = history(client.connection, turns=3)
        for number in range(1, 6):
            await say(kept, number)
        assert questions(await kept.load("ada", "s1")) == ["q3", "q4", "q5"]


async def test_a_limit_of_no_turns_keeps_nothing_and_asks_nobody() -> None:
    with nats_server(jetstream=False) as server:
        async with Client(server.url) as client:
            kept = history(client.connection, turns=0)
            await say(kept, 1)
            assert await kept.load("ada", "s1") == []


async def test_the_oldest_turns_go_over_the_size(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        kept = history(client.connection, max_bytes=1000)
        for number in range(1, 6):
            await say(kept, number, answer="x" * 300)
        turns = await kept.load("ada", "s1")
        assert questions(turns) == ["q4", "q5"]
        assert len(msgspec.msgpack.encode(turns)) <= 1000


async def test_one_turn_over_the_size_is_shortened(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        kept = history(client.connection, max_bytes=1000)
        await say(kept, 1)
        await say(kept, 2, answer="x" * 5000)
        (turn,) = await kept.load("ada", "s1")
        assert turn.request_id == "r2"
        assert 0 < len(turn.answer) < 1000
        await say(kept, 3, answer="ü" * 5000)
        assert all(len(msgspec.msgpack.encode(t)) <= 1000 for t in await kept.load("ada", "s1"))


async def test_a_session_is_forgotten_after_its_age(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        kept = history(client.connection, max_age=1.0)
        await say(kept, 1)
        config = (await client.connection.jetstream.stream_info("KV_chat-sessions")).config
        assert config.max_age == 1.0
        async with asyncio.timeout(20):
            while await kept.load("ada", "s1"):
                await asyncio.sleep(0.02)
        await say(kept, 2)
        assert questions(await kept.load("ada", "s1")) == ["q2"]


async def test_the_same_request_replaces_its_turn(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        kept = history(client.connection)
        await say(kept, 1)
        await say(kept, 2, answer="first half", interrupted=True)
        await say(kept, 2, answer="whole")
        turns = await kept.load("ada", "s1")
        assert questions(turns) == ["q1", "q2"]
        assert (turns[1].answer, turns[1].interrupted) == ("whole", False)


@pytest.mark.parametrize("writers", [2, 8])
async def test_turns_at_the_same_time_are_all_kept(nats: NatsServer, writers: int) -> None:
    async with Client(nats.url) as one, Client(nats.url) as two:
        replicas = [history(one.connection), history(two.connection)]
        await asyncio.gather(*(say(replicas[n % 2], n) for n in range(writers)))
        turns = await replicas[0].load("ada", "s1")
        assert sorted(questions(turns)) == sorted(f"q{n}" for n in range(writers))


async def test_a_session_that_never_rests_is_given_up() -> None:
    class Contested:
        tries = 0

        async def get(self, key: str) -> Value | None:
            return Value(b"\x90", 1)

        async def put(self, key: str, data: bytes, revision: int | None = None) -> int:
            self.tries += 1
            raise Conflict("changed")

    values: Any = Contested()
    with pytest.raises(MessagingError, match="changes too fast"):
        await say(History(values, HistorySettings()), 1)
    assert 4 <= values.tries <= 20


IDS = ["ada", "bob", "", "anonymous", "default", "a.b", "ada.s1", "*", ">", "session", "=YWRh", "x" * 200]


async def test_nobody_reads_the_session_of_another_by_any_id(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        kept = history(client.connection)
        pairs = [(user, session) for user in IDS for session in IDS]
        for number, (user, session) in enumerate(pairs):
            await say(kept, number, user=user, session=session)
        for number, (user, session) in enumerate(pairs):
            assert questions(await kept.load(user, session)) == [f"q{number}"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"hello",
        b"\x93\x01\x02\x03",
        b"\x91\x80",
        b"\x91" * 5000,
        msgspec.msgpack.encode([{"request_id": 5}]),
        msgspec.msgpack.encode([{"request_id": "r", "question": b"\xff", "answer": "", "at": 1.0}]),
        b"\x91\x84\xaarequest_id\xa1\xff",
    ],
)
async def test_a_value_that_is_no_conversation_starts_a_new_one(nats: NatsServer, data: bytes) -> None:
    async with Client(nats.url) as client:
        chosen = HistorySettings()
        values = KeyValue(client.connection, chosen.as_bucket)
        await values.put(key_of("session", "ada", "s1"), data)
        kept = History(values, chosen)
        assert await kept.load("ada", "s1") == []
        await say(kept, 1)
        assert questions(await kept.load("ada", "s1")) == ["q1"]


async def test_turns_with_fields_of_a_later_version_are_read(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        chosen = HistorySettings()
        values = KeyValue(client.connection, chosen.as_bucket)
        later = {"request_id": "r1", "question": "q1", "answer": "a1", "at": 1.0, "mood": "good"}
        await values.put(key_of("session", "ada", "s1"), msgspec.msgpack.encode([later]))
        assert questions(await History(values, chosen).load("ada", "s1")) == ["q1"]


async def test_a_deleted_conversation_starts_anew(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        kept = history(client.connection)
        await say(kept, 1)
        bucket = await client.connection.jetstream.key_value("chat-sessions")
        await bucket.delete(key_of("session", "ada", "s1"))
        assert await kept.load("ada", "s1") == []
        await say(kept, 2)
        assert questions(await kept.load("ada", "s1")) == ["q2"]


async def test_without_jetstream_it_is_said_in_words() -> None:
    with nats_server(jetstream=False) as server:
        async with Client(server.url) as client:
            kept = history(client.connection)
            with pytest.raises(MessagingError, match="JetStream is not enabled"):
                await kept.load("ada", "s1")
            with pytest.raises(MessagingError, match="JetStream is not enabled"):
                await say(kept, 1)


async def test_a_limit_above_what_nats_takes_is_said(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        kept = history(client.connection, max_bytes=10_000_000)
        with pytest.raises(MessagingError, match="lower HISTORY_BYTES"):
            await say(kept, 1, answer="x" * 2_000_000)
        assert client.connection.status().reconnects == 0


class Memory:
    """A bucket without a server, for trying many turns."""

    def __init__(self) -> None:
        self.data: dict[str, Value] = {}

    async def get(self, key: str) -> Value | None:
        return self.data.get(key)

    async def put(self, key: str, data: bytes, revision: int | None = None) -> int:
        self.data[key] = Value(data, (revision or 0) + 1)
        return self.data[key].revision


@given(
    st.lists(st.tuples(st.integers(0, 5), st.text(max_size=400), st.text(max_size=400)), max_size=12),
    st.integers(1, 5),
    st.integers(0, 2000),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_limits_hold_for_any_conversation(said: list[tuple[int, str, str]], turns: int, size: int) -> None:
    async def talk() -> None:
        values: Any = Memory()
        kept = History(values, HistorySettings(turns=turns, max_bytes=size))
        for number, question, answer in said:
            await kept.append("u", "s", request_id=f"r{number}", question=question, answer=answer)
            (value,) = values.data.values()
            assert len(value.data) <= max(size, 1)  # an empty list is one byte
            loaded = await kept.load("u", "s")
            assert len(loaded) <= turns
            assert not loaded or loaded[-1].request_id == f"r{number}"
            assert len({turn.request_id for turn in loaded}) == len(loaded)

    asyncio.run(talk())
