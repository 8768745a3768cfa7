"""A replay gives what a stream has on one subject, in order and without gaps, whatever happens to the server."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from handler_base.errors import MessagingError
from handler_base.messaging import replay as module
from handler_base.messaging.replay import Replay
from handler_testkit.nats import nats_server
from handler_testkit.services import Client, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from handler_testkit.nats import NatsServer

STREAM = "AI_VOICE_STREAM"
SUBJECT = "ai.voice.stream.s1"


@pytest.fixture
async def client(nats: NatsServer) -> AsyncIterator[Client]:
    async with Client(nats.url) as client:
        yield client


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is given up soon."""
    monkeypatch.setattr(module, "HEARTBEAT", 0.2)
    monkeypatch.setattr(module, "PATIENCE", 0.6)
    monkeypatch.setattr(module, "API_TIMEOUT", 0.5)


def reading(client: Client, *, since: float = 0.0, subject: str = SUBJECT) -> Replay:
    return Replay(client.connection, STREAM, subject, since=since)


async def store(client: Client, *numbers: int, subject: str = SUBJECT) -> None:
    for number in numbers:
        await client.connection.store(subject, b"%d" % number, msg_id=f"{subject}-{number}-{time.time()}")


async def arrive(
    replay: Replay, data: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
) -> None:
    """Let the server say something that it would not say by itself; nobody else may send such replies."""
    subject = SUBJECT if reply else replay._inbox
    await replay._arrived(SimpleNamespace(subject=subject, data=data, reply=reply, headers=headers))


async def read(replay: Replay, count: int) -> list[int]:
    return [int((await replay.next(10)).raw.data) for _ in range(count)]


async def test_what_was_and_what_will_be_is_read_in_order(client: Client) -> None:
    async with reading(client) as replay:
        assert replay.caught_up
        await store(client, 1, 2, 3)
        assert await read(replay, 3) == [1, 2, 3]
    await store(client, 4, subject="ai.voice.stream.s2")
    async with reading(client) as replay:
        assert not replay.caught_up
        first = await replay.next(10)
        assert (first.raw.subject, first.pending, first.sequence) == (SUBJECT, 2, 1)
        assert abs(first.published - time.time()) < 5
        assert await read(replay, 2) == [2, 3]
        assert replay.caught_up
        with pytest.raises(TimeoutError):
            await replay.next(0.05)
        await store(client, 5)
        assert [int(message.raw.data) async for message in _until(replay, b"5")] == [5]


async def _until(replay: Replay, last: bytes) -> AsyncIterator[module.Replayed]:
    async for message in replay:
        yield message
        if message.raw.data == last:
            return


async def test_what_was_before_is_not_read(client: Client) -> None:
    await store_first(client, 1, 2)
    await asyncio.sleep(0.01)
    since = time.time()
    await asyncio.sleep(0.01)
    await store(client, 3)
    async with reading(client, since=since) as replay:
        assert await read(replay, 1) == [3]


async def store_first(client: Client, *numbers: int) -> None:
    """Store into a stream that does not exist yet."""
    async with reading(client):
        await store(client, *numbers)


async def test_the_history_ends_with_what_the_stream_has_now(client: Client) -> None:
    async with reading(client) as replay:
        assert await replay.history() == []
        await store(client, 1, 2)
    async with reading(client) as replay:
        assert [m.raw.data for m in await replay.history()] == [b"1", b"2"]
        await store(client, 3)
        assert await read(replay, 1) == [3]
        await store(client, 4)
        await until(lambda: not replay.caught_up)
        assert [m.raw.data for m in await replay.history()] == [b"4"]


async def test_a_reader_goes_on_where_it_was_when_the_server_comes_back(
    client: Client, nats: NatsServer
) -> None:
    """A stream in files survives; what the reader had is not read again."""
    js = client.connection.jetstream
    await js.add_stream(name=STREAM, subjects=["ai.voice.stream.*", "ai.voice.transcription.*"])
    async with reading(client) as replay:
        await store(client, 1, 2)
        assert await read(replay, 2) == [1, 2]
        await asyncio.to_thread(nats.restart)
        await until(lambda: client.connection.connected)
        await store(client, 3)
        assert await read(replay, 1) == [3]


async def test_a_stream_that_was_lost_is_read_from_its_new_beginning(
    client: Client, nats: NatsServer
) -> None:
    async with reading(client) as replay:
        await store(client, 1, 2, 3)
        assert await read(replay, 3) == [1, 2, 3]
        await asyncio.to_thread(nats.restart)
        waiting = asyncio.create_task(read(replay, 2))
        async with asyncio.timeout(10):
            while True:  # the reader makes the stream anew
                try:
                    await store(client, 4, 5)
                except MessagingError:
                    continue
                break
        assert (await waiting)[-1] == 5


async def test_a_consumer_that_is_gone_is_made_anew(client: Client, hasty: None) -> None:
    async with reading(client) as replay:
        await store(client, 1)
        assert await read(replay, 1) == [1]
        await client.connection.jetstream.delete_consumer(STREAM, replay._name)
        await store(client, 2)
        assert await read(replay, 1) == [2]


async def test_a_server_that_says_nothing_is_asked_again_until_it_answers(
    client: Client, nats: NatsServer, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(client) as replay:
        await store(client, 1)
        assert await read(replay, 1) == [1]
        nats.pause()
        waiting = asyncio.create_task(read(replay, 1))
        await until(
            lambda: (
                "timed out" in caplog.text or "did not answer" in caplog.text or "no answer" in caplog.text
            )
        )
        nats.resume()
        await store(client, 2)
        assert await waiting == [2]
    assert "the server is silent" in caplog.text


async def test_a_quiet_server_is_not_a_silent_one(
    client: Client, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(client) as replay:
        with pytest.raises(TimeoutError):
            await replay.next(1.5)
        name = replay._name
        await store(client, 1)
        assert await read(replay, 1) == [1]
        assert replay._name == name
    assert not caplog.text


@pytest.mark.parametrize("how", ["a later message", "a heartbeat"])
async def test_a_message_that_is_missing_is_read_again(client: Client, how: str) -> None:
    async with reading(client) as replay:
        await store(client, 1)
        assert await read(replay, 1) == [1]
        if how == "a heartbeat":
            headers, reply = {"Status": "100", "Nats-Last-Consumer": "9"}, ""
        else:
            headers, reply = None, f"$JS.ACK.{STREAM}.{replay._name}.1.9.9.1700000000000000000.0"
        await arrive(replay, b"9", reply=reply, headers=headers)
        await store(client, 2, 3)
        assert await read(replay, 2) == [2, 3]


async def test_the_newer_form_of_acknowledgements_is_read(client: Client) -> None:
    async with reading(client) as replay:
        reply = f"$JS.ACK.domain.account.{STREAM}.{replay._name}.1.7.1.1700000000000000000.3.token"
        await arrive(replay, b"1", reply=reply)
        message = await replay.next(5)
        assert (message.sequence, message.published, message.pending) == (7, 1_700_000_000.0, 3)
        # What another consumer sent is not for us.
        stray = reply.replace(replay._name, "another")
        await arrive(replay, b"2", reply=stray)
        with pytest.raises(TimeoutError):
            await replay.next(0.1)


async def test_what_never_comes_because_it_grew_too_old_is_not_waited_for(
    client: Client, hasty: None
) -> None:
    async with reading(client) as replay:
        reply = f"$JS.ACK.{STREAM}.{replay._name}.1.1.1.1700000000000000000.3"
        await arrive(replay, b"1", reply=reply)
        assert await read(replay, 1) == [1]
        assert not replay.caught_up
        # The server's own heartbeat would say that it has sent nothing; it is told in its place.
        idle = {"Status": "100", "Nats-Last-Consumer": "1"}
        await arrive(replay, headers=idle)
        assert await replay.history() == []


async def test_a_history_that_does_not_come_is_an_error(
    client: Client, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    async with reading(client) as replay:
        reply = f"$JS.ACK.{STREAM}.{replay._name}.1.1.1.1700000000000000000.3"
        await arrive(replay, b"1", reply=reply)
        with pytest.raises(MessagingError, match="does not send what it has"):
            await replay.history()


async def test_a_slow_reader_makes_the_server_wait(client: Client, hasty: None) -> None:
    """20 MB are stored; only a part of them is in memory, and all of them come."""
    async with reading(client):
        for number in range(400):
            await client.connection.publish_bytes(SUBJECT, b"%06d" % number + bytes(50_000))
        await client.connection.flush()
        await store(client, 400)
    async with reading(client) as replay:
        await asyncio.sleep(1.5)
        assert len(replay._messages) < 400
        numbers = [int((await replay.next(10)).raw.data[:6]) for _ in range(401)]
        assert numbers == list(range(401))


async def test_a_reader_leaves_nothing_behind(client: Client) -> None:
    async with reading(client):
        assert (await client.connection.jetstream.stream_info(STREAM)).state.consumer_count == 1
    async with asyncio.timeout(5):
        while (await client.connection.jetstream.stream_info(STREAM)).state.consumer_count:
            await asyncio.sleep(0.01)
    assert not client.connection._on_reconnect


async def test_without_jetstream_there_is_nothing_to_read() -> None:
    with nats_server(jetstream=False) as server:
        async with Client(server.url) as client:
            with pytest.raises(MessagingError):
                async with reading(client):
                    pass
            assert not client.connection._on_reconnect


async def test_what_the_server_refuses_is_an_error(client: Client) -> None:
    with pytest.raises(MessagingError, match=r"a\.\.b cannot be read"):
        async with Replay(client.connection, STREAM, "a..b"):
            pass


@pytest.mark.parametrize("answer", [b"nonsense", b'{"error": {"description": "no"}}'])
async def test_an_answer_that_makes_no_sense_is_an_error(
    client: Client, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    heard = await client.listen("$TEST.api")
    replay = reading(client)
    original = client.connection.request_bytes

    async def elsewhere(subject: str, payload: bytes, **more: object) -> object:
        waiting = asyncio.ensure_future(original("$TEST.api", payload, **more))  # pyright: ignore[reportArgumentType]
        asked = await heard.next()
        await client.connection.publish_bytes(asked.reply, answer)
        return await waiting

    async with replay:
        monkeypatch.setattr(client.connection, "request_bytes", elsewhere)
        with pytest.raises(MessagingError, match="cannot be read"):
            await replay._look_at_the_stream()
        monkeypatch.undo()
