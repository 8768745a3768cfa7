"""Key-value buckets on a real server."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from handler_base.errors import MessagingError, TooLarge
from handler_base.messaging.keyvalue import Conflict, KeyValue, key_of
from handler_base.messaging.streams import Bucket
from handler_testkit.nats import nats_server
from handler_testkit.services import Client, until

if TYPE_CHECKING:
    from handler_testkit.nats import NatsServer

BUCKET = Bucket("chat-sessions", 3600.0, 2000)


async def test_a_value_is_written_and_read(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        assert await values.get("a") is None
        first = await values.put("a", b"\x00\xff")
        assert await values.get("a") == (b"\x00\xff", first)
        second = await values.put("a", b"")
        assert second > first
        assert await values.get("a") == (b"", second)


async def test_the_bucket_is_made_as_declared_and_an_existing_one_is_taken(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await KeyValue(client.connection, BUCKET).prepare()
        js = client.connection.jetstream
        config = (await js.stream_info("KV_chat-sessions")).config
        assert (config.max_age, config.max_msg_size, config.max_msgs_per_subject) == (3600.0, 2000, 1)
        await js.delete_stream("KV_chat-sessions")
        await js.create_key_value(bucket="chat-sessions", history=5)
        values = KeyValue(client.connection, BUCKET)
        await values.prepare()
        await values.put("a", b"1")
        assert (await js.stream_info("KV_chat-sessions")).config.max_msgs_per_subject == 5


async def test_a_change_needs_the_revision_that_was_read(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        first = await values.put("a", b"1", 0)
        with pytest.raises(Conflict, match="a in bucket chat-sessions was changed meanwhile"):
            await values.put("a", b"2", 0)
        second = await values.put("a", b"2", first)
        with pytest.raises(Conflict):
            await values.put("a", b"3", first)
        assert await values.get("a") == (b"2", second)
        await values.put("a", b"4")
        assert Conflict.type == "conflict"


@pytest.mark.parametrize("how", ["delete", "purge"])
async def test_a_deleted_key_is_a_new_one(nats: NatsServer, how: str) -> None:
    """An operator may delete a conversation; it could otherwise never be written again."""
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        await values.put("a", b"1")
        bucket = await client.connection.jetstream.key_value("chat-sessions")
        await getattr(bucket, how)("a")
        assert await values.get("a") is None
        await values.put("a", b"2", 0)
        found = await values.get("a")
        assert found is not None
        assert found.data == b"2"


async def test_what_the_bucket_or_the_server_does_not_take_is_too_large(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        with pytest.raises(TooLarge, match="2500 bytes are more than bucket chat-sessions takes"):
            await values.put("a", bytes(2500))
        wide = KeyValue(client.connection, Bucket("wide", 3600.0))
        # Without its headers it would fit, and the server would close the connection over it.
        with pytest.raises(TooLarge):
            await wide.put("a", bytes(client.connection.max_payload), 0)
        await wide.put("a", bytes(client.connection.max_payload - 1024), 0)
        assert client.connection.status().reconnects == 0


async def test_a_bucket_lost_with_its_disk_is_made_again(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        await values.put("a", b"1")
        again = asyncio.Event()

        async def reconnected() -> None:
            again.set()

        client.connection.on_reconnect(reconnected)
        nats.kill()
        nats.forget()
        await asyncio.to_thread(nats.start)
        await asyncio.wait_for(again.wait(), 10)
        with pytest.raises(MessagingError, match="bucket chat-sessions does not answer"):
            await values.put("a", b"2")
        await values.put("a", b"3", 0)
        assert (await values.get("a") or (b"", 0))[0] == b"3"


async def test_values_outlive_a_restart(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        await values.put("a", b"1")
        await asyncio.to_thread(nats.restart)
        await until(lambda: client.connection.status().reconnects == 1)
        assert (await values.get("a") or (b"", 0))[0] == b"1"


async def test_without_jetstream_it_is_said_in_words() -> None:
    with nats_server(jetstream=False) as server:
        async with Client(server.url) as client:
            values = KeyValue(client.connection, BUCKET)
            with pytest.raises(
                MessagingError, match="bucket chat-sessions cannot be made ready: JetStream is not"
            ):
                await values.get("a")
            with pytest.raises(MessagingError):
                await values.put("a", b"")


async def test_a_bucket_that_disappears_is_said_and_made_again(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        await values.put("a", b"1")
        await client.connection.jetstream.delete_stream("KV_chat-sessions")
        with pytest.raises(MessagingError, match="bucket chat-sessions does not answer"):
            await values.get("a")
        assert await values.get("a") is None


async def test_a_bucket_that_is_full_is_said(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await js.create_key_value(bucket="chat-sessions", max_bytes=100)
        values = KeyValue(client.connection, BUCKET)
        with pytest.raises(MessagingError, match=r"bucket chat-sessions does not answer: .*maximum bytes"):
            await values.put("a", bytes(500))


# -- keys ------------------------------------------------------------------------------------------------------

ids = st.text(max_size=20) | st.sampled_from(
    ["", ".", "*", ">", "a.b", "=", "/", "YQ", "=YQ", "x" * 200, "ü" * 200, "\ud800"]
)


@given(st.lists(ids, min_size=1, max_size=3))
@settings(deadline=None)
def test_a_key_is_valid_for_ids_of_any_text(parts: list[str]) -> None:
    key = key_of(*parts)
    assert re.fullmatch(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*", key)
    assert len(key.split(".")) == len(parts)
    assert len(key) < 600


@given(st.lists(ids, min_size=1, max_size=3), st.lists(ids, min_size=1, max_size=3))
@settings(deadline=None)
def test_different_ids_have_different_keys(one: list[str], other: list[str]) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)


async def test_odd_keys_hold_their_own_values(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        odd = [
            "ada",
            "a.b",
            "*",
            ">",
            "",
            " ",
            "ü",
            "x" * 100_000,
            "y" * 100_000,
            "\udcff",
            "a\r\nPING",
            "=YQ",
            "YQ",
        ]
        for number, name in enumerate(odd):
            await values.put(key_of("session", name), str(number).encode(), 0)
        for number, name in enumerate(odd):
            assert (await values.get(key_of("session", name)) or (b"", 0))[0] == str(number).encode()
        assert client.connection.status().reconnects == 0


async def test_all_values_under_a_prefix_are_listed_as_they_are_now(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        assert await values.all("run") == {}
        for number in range(5):
            await values.put(f"run.{number}", b"%d" % number)
        await values.put("other.1", b"x")
        await values.put("run", b"y")
        again = await values.put("run.1", b"again")
        await values.delete("run.3")
        await values.delete("run.99")
        found = await values.all("run")
        assert {key: value.data for key, value in found.items()} == {
            "run.0": b"0",
            "run.1": b"again",
            "run.2": b"2",
            "run.4": b"4",
        }
        assert found["run.1"].revision == again
        assert await values.get("run.3") is None
        assert await values.put("run.3", b"anew", 0)


async def test_what_is_written_under_a_prefix_is_heard(nats: NatsServer) -> None:
    heard: list[tuple[str, bytes]] = []

    async def changed(key: str, data: bytes) -> None:
        heard.append((key, data))

    async with Client(nats.url) as client:
        values = KeyValue(client.connection, BUCKET)
        await values.prepare()
        await values.listen("run", changed)
        await client.connection.flush()
        await values.put("other.1", b"x")
        await values.put("run.1", b"a")
        await values.delete("run.1")
        await values.put("run.2", b"b")
        await until(lambda: len(heard) == 2)
        assert heard == [("run.1", b"a"), ("run.2", b"b")]


async def test_a_bucket_that_is_away_is_an_error_when_it_is_listed_or_deleted_from() -> None:
    with nats_server() as server:
        async with Client(server.url) as client:
            values = KeyValue(client.connection, BUCKET)
            await values.put("a", b"1")
            await client.connection.jetstream.delete_stream("KV_chat-sessions")
            with pytest.raises(MessagingError):
                await values.delete("a")
