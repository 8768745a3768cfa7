"""Typed messages and stored messages over a real connection."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.errors import InvalidRequest, MessagingError, NotFound, TooLarge
from handler_base.messaging import wire
from handler_base.messaging.connection import ERROR_TYPE, Connection
from handler_base.messaging.streams import ensure_streams
from handler_messages import ChatRequest, ChatResponse, ErrorResponse
from handler_testkit.nats import nats_server
from handler_testkit.services import Client, until

if TYPE_CHECKING:
    from handler_base.messaging.subscription import RawMessage
    from handler_testkit.nats import NatsServer

STREAM, SUBJECT = "AI_RESPONSES", "ai.chat.response.r1"


async def ready(connection: Connection) -> None:
    await ensure_streams(connection.jetstream, [STREAM])


async def stored(connection: Connection) -> int:
    info = await connection.jetstream.stream_info(STREAM)
    return info.state.messages


# -- store -----------------------------------------------------------------------------------------------------


async def test_a_message_is_stored_once_however_often_it_is_sent(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await ready(client.connection)
        assert await client.connection.store(SUBJECT, b"1", msg_id="a") is True
        assert await client.connection.store(SUBJECT, b"2", msg_id="a") is False
        assert await client.connection.store(SUBJECT, b"3", msg_id="b") is True
        assert await stored(client.connection) == 2


async def test_a_subject_without_a_stream_is_said_in_words(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        with pytest.raises(MessagingError, match=r"^nowhere was not stored: no stream takes this subject"):
            await client.connection.store("nowhere", b"", msg_id="a", tries=2)


async def test_without_jetstream_it_is_said_in_words() -> None:
    with nats_server(jetstream=False) as server:
        async with Client(server.url) as client:
            with pytest.raises(MessagingError, match="JetStream is not enabled"):
                await client.connection.store(SUBJECT, b"", msg_id="a", tries=2)
            with pytest.raises(
                MessagingError, match=f"stream {STREAM} does not answer: JetStream is not enabled"
            ):
                await client.connection.last_stored(STREAM, SUBJECT)


async def test_storing_lasts_through_a_restart_of_the_server(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await ready(client.connection)
        nats.kill()
        await until(lambda: not client.connection.connected)
        storing = asyncio.create_task(
            client.connection.store(SUBJECT, b"1", msg_id="a", timeout=0.5, tries=20)
        )
        await asyncio.to_thread(nats.start)
        assert await asyncio.wait_for(storing, 20) in {True, False}
        assert await stored(client.connection) == 1


async def test_storing_gives_up_when_nobody_answers(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await ready(client.connection)
        nats.pause()
        with pytest.raises(MessagingError, match=r"was not stored: no answer from .* within 0\.05 s"):
            await client.connection.store(SUBJECT, b"1", msg_id="a", timeout=0.05, tries=2)
        nats.resume()


async def test_more_than_the_stream_or_the_server_takes_is_too_large(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await client.connection.jetstream.add_stream(name="SMALL", subjects=["small"], max_msg_size=100)
        with pytest.raises(TooLarge, match="101 bytes are more than the stream of small takes"):
            await client.connection.store("small", bytes(101), msg_id="a")
        with pytest.raises(TooLarge, match="that NATS takes"):
            await client.connection.store("small", bytes(1024 * 1024), msg_id="a")
        assert client.connection.status().reconnects == 0


async def test_what_the_stream_has_decided_is_not_tried_again(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await ready(client.connection)
        heard = await client.listen(SUBJECT)
        with pytest.raises(MessagingError, match="was not stored: expected stream does not match"):
            await client.connection.store(
                SUBJECT, b"2", msg_id="b", headers={"Nats-Expected-Stream": "OTHER"}, tries=1000
            )
        await client.connection.flush()
        assert len(heard.all) == 1


async def test_a_stream_that_is_full_is_tried_again(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        js = client.connection.jetstream
        await js.add_stream(name="FULL", subjects=["full"], max_msgs=1, discard="new")
        await client.connection.store("full", b"1", msg_id="a")
        heard = await client.listen("full")
        storing = asyncio.create_task(client.connection.store("full", b"2", msg_id="b", tries=100))
        await heard.count(2)
        await js.purge_stream("FULL")
        assert await asyncio.wait_for(storing, 10) is True


@pytest.mark.parametrize("answer", [b"", b"hello", b"{}", b"[]", b'{"stream": 5}', b'{"error": 5}'])
async def test_an_answer_that_is_not_from_jetstream_is_no_acknowledgement(
    nats: NatsServer, answer: bytes
) -> None:
    async with Client(nats.url) as client, Client(nats.url) as other:

        async def impostor(message: RawMessage) -> None:
            await other.connection.publish_bytes(message.reply, answer)

        await other.connection.subscribe("anything", impostor)
        await other.connection.subscribe("$JS.API.STREAM.MSG.GET.OTHER", impostor)
        await other.connection.flush()
        with pytest.raises(MessagingError, match="not from JetStream"):
            await client.connection.store("anything", b"", msg_id="a", tries=2)


async def test_headers_are_stored_and_come_back(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await ready(client.connection)
        headers = {"Content-Type": wire.JSON, "Reason": "grüße: «»", "Empty": ""}
        await client.connection.store(SUBJECT, b"\x00\xff", msg_id="a", headers=headers)
        found = await client.connection.last_stored(STREAM, SUBJECT)
        assert found is not None
        assert (found.data, found.sequence) == (b"\x00\xff", 1)
        assert found.headers == {**headers, "Nats-Msg-Id": "a"}
        # As a redelivered request does: what was found goes out again.
        await client.connection.publish_bytes("again", found.data, found.headers)


async def test_the_newest_of_a_subject_is_found(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await ready(client.connection)
        for number in range(3):
            await client.connection.store(SUBJECT, str(number).encode(), msg_id=str(number))
        await client.connection.store("ai.chat.response.r2", b"", msg_id="other")
        found = await client.connection.last_stored(STREAM, SUBJECT)
        assert found == (b"2", {"Nats-Msg-Id": "2"}, 3, SUBJECT)
        empty = await client.connection.last_stored(STREAM, "ai.chat.response.r2")
        assert empty is not None
        assert empty.data == b""
        assert await client.connection.last_stored(STREAM, "ai.chat.response.r3") is None


async def test_what_is_recorded_is_published_once(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        await ready(client.connection)
        heard = await client.listen(SUBJECT)
        connection = client.connection
        assert await connection.record(STREAM, SUBJECT, b"1", msg_id="a.1")
        assert not await connection.record(STREAM, SUBJECT, b"1", msg_id="a.1")
        assert await connection.record(STREAM, SUBJECT, b"2", msg_id="a.2", headers={"Reason": "why"})
        await connection.flush()
        await heard.count(2)
        assert [message.data for message in heard.all] == [b"1", b"2"]
        found = await connection.last_stored(STREAM, SUBJECT)
        assert found is not None
        assert found.headers == {"Reason": "why", "Nats-Msg-Id": "a.2"}


async def test_what_is_recorded_comes_after_nothing_that_we_have_not_seen(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Client(nats.url) as client:
        await ready(client.connection)
        connection, look = client.connection, client.connection.last_stored
        await connection.store(SUBJECT, b"1", msg_id="a.1")

        async def frozen(stream: str, subject: str) -> Any:
            """Somebody else publishes while we think about what we have seen."""
            monkeypatch.undo()
            seen = await look(stream, subject)
            await connection.store(SUBJECT, b"2", msg_id="a.2")
            await connection.store(SUBJECT, b"3", msg_id="a.3")
            return seen

        monkeypatch.setattr(connection, "last_stored", frozen)
        await connection.record(
            STREAM, SUBJECT, b"2", msg_id="b.2", there=lambda stored: stored.headers["Nats-Msg-Id"] >= "a.2"
        )
        assert (await connection.jetstream.stream_info(STREAM)).state.messages == 3
        monkeypatch.setattr(connection, "last_stored", frozen)
        assert await connection.record(STREAM, SUBJECT, b"4", msg_id="b.4")
        found = await look(STREAM, SUBJECT)
        assert found is not None
        assert found.data == b"4"


async def test_a_stream_that_does_not_exist_is_said(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        with pytest.raises(MessagingError, match="stream NOWHERE does not answer: stream not found"):
            await client.connection.last_stored("NOWHERE", "a")


@pytest.mark.parametrize("answer", [b"", b"hello", b"{}", b'{"message": {"seq": 1, "data": "%"}}'])
async def test_an_api_that_makes_no_sense_is_said(answer: bytes) -> None:
    with nats_server(jetstream=False) as server:
        async with Client(server.url) as client, Client(server.url) as other:

            async def impostor(message: RawMessage) -> None:
                await other.connection.publish_bytes(message.reply, answer)

            await other.connection.subscribe("$JS.API.STREAM.MSG.GET.X", impostor)
            await other.connection.flush()
            with pytest.raises(MessagingError, match="stream X"):
                await client.connection.last_stored("X", "a")


# -- requests --------------------------------------------------------------------------------------------------


async def serve(client: Client, subject: str, answer: ChatResponse | ErrorResponse | bytes) -> None:
    async def reply(message: RawMessage) -> None:
        if isinstance(answer, bytes):
            await client.connection.publish_bytes(message.reply, answer)
            return
        headers = {ERROR_TYPE: answer.type} if isinstance(answer, ErrorResponse) else {}
        kind = wire.content_type(message.headers)
        await client.connection.publish(message.reply, answer, kind=kind, headers=headers)

    await client.connection.subscribe(subject, reply)
    await client.connection.flush()


async def test_a_request_gets_its_answer_or_the_error_that_came_instead(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        answer, error = (
            ChatResponse(response="hello"),
            ErrorResponse(error=True, message="no", type="forbidden"),
        )
        await serve(client, "good", answer)
        await serve(client, "bad", error)
        await serve(client, "ugly", b"\xff\xff")
        for headers in (None, {"Content-Type": wire.PROTOBUF}):
            assert await client.connection.request(
                "good", ChatRequest(), ChatResponse, timeout=5, headers=headers
            ) == answer  # fmt: skip
            assert await client.connection.request(
                "bad", ChatRequest(), ChatResponse, timeout=5, headers=headers
            ) == error  # fmt: skip
        with pytest.raises(InvalidRequest):
            await client.connection.request("ugly", ChatRequest(), ChatResponse, timeout=5)
        with pytest.raises(NotFound):
            await client.connection.request("nobody", ChatRequest(), ChatResponse, timeout=5)


@pytest.mark.parametrize("kind", [wire.PROTOBUF, wire.JSON, wire.MSGPACK])
async def test_messages_go_out_in_the_format_asked_for(nats: NatsServer, kind: str) -> None:
    async with Client(nats.url) as client:
        heard = await client.listen("a")
        await client.connection.publish("a", ChatRequest(message="hello"), kind=kind, headers={"X": "y"})
        message = await heard.next()
        assert message.headers is not None
        assert message.headers["X"] == "y"
        assert wire.content_type(message.headers) == kind
        assert wire.decode(ChatRequest, message.data, kind).message == "hello"
        if kind == wire.JSON:
            assert json.loads(message.data)["message"] == "hello"


async def test_the_messages_of_a_subject_are_found_one_after_the_other(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        connection = client.connection
        await connection.jetstream.add_stream(name="S", subjects=["s.*"])
        for number, name in enumerate("abab"):
            await connection.store(f"s.{name}", b"%d" % number, msg_id=str(number), headers={"N": name})
        found = []
        after = 0
        while (stored := await connection.next_stored("S", "s.b", after + 1)) is not None:
            found.append((stored.sequence, stored.data, stored.headers["N"]))
            after = stored.sequence
        assert found == [(2, b"1", "b"), (4, b"3", "b")]
        assert await connection.next_stored("S", "s.c", 1) is None
        with pytest.raises(MessagingError, match="stream T does not answer"):
            await connection.next_stored("T", "s.a", 1)


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost(nats: NatsServer) -> None:
    async with Client(nats.url) as client, Client(nats.url) as other:
        connection = client.connection

        async def answer(message: RawMessage) -> None:
            await connection.publish_bytes(message.reply, b"here")

        await connection.subscribe("question", answer)
        await other.connection.flush()

        async def ask() -> None:
            await connection.request_bytes("question", b"", timeout=5)

        for _ in range(20):
            asking = asyncio.create_task(ask())
            # Its future gets the answer, and in the same round of the loop the task is told to stop.
            while not (waited_for := [t for t in _futures(connection) if not t.done()]):
                await asyncio.sleep(0)
            told: list[bool] = []
            waited_for[0].add_done_callback(lambda _, task=asking, told=told: told.append(task.cancel()))
            await asyncio.wait((asking,))
            # From Python 3.12 on it was done before that.
            assert asking.cancelled() is told[0]


def _futures(connection: Connection) -> list[asyncio.Future[object]]:
    """Return what requests wait for inside nats-py."""
    return list(connection._client._resp_map.values())
