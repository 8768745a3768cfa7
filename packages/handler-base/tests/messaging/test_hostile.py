"""What a hostile or clumsy client sends: it ends in an answer or in one dead letter, and the service lives on."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from handler_base.config import load
from handler_base.errors import InvalidRequest
from handler_base.messaging import wire
from handler_base.service import Service, ServiceSettings
from handler_messages import (
    CancelRequest,
    ChatRequest,
    ChatResponse,
    ErrorResponse,
    GreetingRequest,
    GreetingResponse,
    subjects,
)
from handler_testkit.services import Client, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.context import Context
    from handler_testkit.nats import NatsServer

MESSAGE = "ai.chat.user.ada.message"
SECRET = "the-password-is-swordfish"


def make(
    nats: NatsServer, handler: Callable[[Context, ChatRequest], Awaitable[Any]], **environ: str
) -> Service:
    settings = load(
        ServiceSettings,
        {"NATS_URL": nats.url, "HEALTH_PORT": "0", "RETRY_DELAY": "0.02", "MAX_ATTEMPTS": "2", **environ},
    )
    service = Service("chat-handler", "1.0.0", settings)
    service.handle(subjects.CHAT_REQUEST, handler, response=subjects.CHAT_RESPONSE)  # type: ignore[arg-type]
    service.handle(subjects.CHAT_USER_MESSAGE, handler, response=subjects.CHAT_RESPONSE)  # type: ignore[arg-type]
    service.handle(subjects.CHAT_GREETING_REQUEST, greet, response=subjects.CHAT_GREETING_RESPONSE)
    service.cancel_on(subjects.CHAT_CANCEL)
    return service


async def echo(context: Context, request: ChatRequest) -> ChatResponse:
    return ChatResponse(request_id=context.request_id, user_id=request.user_id, response=request.message)


async def greet(context: Context, request: GreetingRequest) -> GreetingResponse:
    return GreetingResponse(request_id=context.request_id, greeting="Hello!")


async def still_works(client: Client) -> None:
    answer = await client.connection.request(
        "ai.chat.request", ChatRequest(message="hello"), ChatResponse, timeout=10
    )
    assert isinstance(answer, ChatResponse)


async def settled(client: Client, stream: str, consumer: str) -> None:
    async with asyncio.timeout(10):
        while True:
            info = await client.connection.jetstream.consumer_info(stream, consumer)
            if not info.num_ack_pending and not info.num_pending:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("user", ["x" * 200, "a\u200bb", "\x01"], ids=["long", "invisible", "control"])
@pytest.mark.parametrize("kind", ["message", "greeting-request"])
async def test_a_subject_whose_user_id_cannot_be_one_is_a_dead_letter(
    nats: NatsServer, user: str, kind: str
) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        dead = await client.listen("ai.dlq.>")
        answers = await client.listen("ai.chat.response.*")
        subject = f"ai.chat.user.{user}.{kind.replace('-', '.')}"
        await client.connection.store(subject, b"", msg_id="m1")
        assert ((await dead.next()).headers or {})["Dead-Letter-Type"] == "invalid_request"
        if kind == "message":
            assert ErrorResponse.FromString((await answers.next()).data).type == "invalid_request"
        await settled(client, "COMPANIONS_CHAT", f"chat-handler-chat-user-{kind}")
        await still_works(client)
        assert len(dead.all) == 1


@pytest.mark.parametrize("size", [10, 60_000])
async def test_headers_that_cannot_be_sent_again_are_left_out_of_the_dead_letter(
    nats: NatsServer, size: int
) -> None:
    async def refuse(context: Context, request: ChatRequest) -> ChatResponse:
        raise InvalidRequest("no")

    async with Client(nats.url) as client, running(make(nats, refuse)):
        dead = await client.listen("ai.dlq.>")
        answers = await client.listen("ai.chat.response.*")
        data = ChatRequest(request_id="r1", message="hello").SerializeToString()
        headers = b"NATS/1.0\r\nBad(Key): x\r\nK\xc3\xa9y: \xff\r\nOk: v\r\nBig: " + b"x" * size + b"\r\n\r\n"
        await publish_raw(nats, MESSAGE, headers, data)
        letter = await dead.next()
        assert (letter.headers or {})["Ok"] == "v"
        assert ("Big" in (letter.headers or {})) == (size < 100)
        assert letter.data == data
        assert ErrorResponse.FromString((await answers.next()).data).message == "no"
        await settled(client, "COMPANIONS_CHAT", "chat-handler-chat-user-message")
        assert len(dead.all) == 1


async def publish_raw(nats: NatsServer, subject: str, headers: bytes, data: bytes) -> None:
    """Speak the protocol as no client library would, and wait until the server has taken it."""
    where = urlsplit(nats.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    await reader.readline()
    size = len(headers)
    writer.write(b'CONNECT {"headers":true,"verbose":false}\r\n')
    writer.write(f"HPUB {subject} {size} {size + len(data)}\r\n".encode() + headers + data + b"\r\nPING\r\n")
    assert (await reader.readline()).startswith(b"PONG")
    writer.close()
    await writer.wait_closed()


async def test_a_result_that_is_no_message_is_an_internal_error_and_not_the_end(nats: NatsServer) -> None:
    async def wrong(context: Context, request: ChatRequest) -> Any:
        return {"not": "a message"} if request.message == "wrong" else await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, wrong)):
        answer = await client.connection.request(
            "ai.chat.request", ChatRequest(message="wrong"), ChatResponse, timeout=10
        )
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "internal"
        dead = await client.listen("ai.dlq.>")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="wrong"))
        await dead.next()
        await still_works(client)


async def test_a_cancels_reply_cannot_be_a_subject_that_a_service_consumes(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        consumed = await client.listen("ai.chat.user.>")
        for reply in (MESSAGE, "$JS.API.STREAM.PURGE.COMPANIONS_CHAT"):
            await client.connection.publish("ai.chat.cancel.r1", CancelRequest(), reply=reply)
        # Cancels are taken in turn: this one's answer comes after theirs would have.
        await client.connection.request("ai.chat.cancel.r2", CancelRequest(), CancelRequest, timeout=10)
        await client.connection.flush()
        assert consumed.all == []


@pytest.mark.parametrize("headers", [{"Content-Type": "application/xml"}, None])
async def test_a_cancel_that_cannot_be_read_cancels_what_its_subject_names(
    nats: NatsServer, headers: dict[str, str] | None
) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        reply = await client.connection.request_bytes(
            "ai.chat.cancel.r1", b"\xff\xff", timeout=10, headers=headers
        )
        assert CancelRequest.FromString(reply.data).request_id == "r1"


async def test_a_response_subject_that_is_the_reply_inbox_too_is_answered_once(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        heard = await client.listen("my.inbox")
        request = ChatRequest(message="hello", response_subject="my.inbox")
        await client.connection.publish("ai.chat.request", request, reply="my.inbox")
        await heard.next()
        await still_works(client)
        await client.connection.flush()
        assert len(heard.all) == 1


@pytest.mark.parametrize("value", ["9" * 400, "9" * 5000])
async def test_a_deadline_without_end_is_bounded_or_refused_in_words(nats: NatsServer, value: str) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answer = await client.connection.request(
            "ai.chat.request",
            ChatRequest(message="hello"),
            ChatResponse,
            timeout=10,
            headers={"Request-Timeout-Ms": value},
        )
        assert not isinstance(answer, ErrorResponse) or answer.type == "invalid_request"


async def test_header_names_count_in_any_case(nats: NatsServer) -> None:
    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with Client(nats.url) as client, running(make(nats, slow)):
        answers = await client.listen("ai.chat.response.*")
        headers = {"request-timeout-ms": "50", "content-type": wire.JSON}
        reply = await client.connection.request_bytes(
            "ai.chat.request", b'{"message":"hello"}', timeout=10, headers=headers
        )
        assert json.loads(reply.data)["type"] == "deadline_exceeded"
        await client.connection.store(
            MESSAGE, b'{"request_id":"r1","message":"hello"}', msg_id="m1", headers=headers
        )
        assert json.loads((await answers.next()).data)["type"] == "deadline_exceeded"


async def test_what_people_write_is_in_no_log_and_in_no_statistics(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(context: Context, request: ChatRequest) -> ChatResponse:
        if context.durable:
            raise InvalidRequest(f"no such thing as {request.message}")
        raise KeyError(request.message)

    with caplog.at_level(logging.INFO):
        async with Client(nats.url) as client, running(make(nats, refuse)):
            dead = await client.listen("ai.dlq.>")
            await client.send(MESSAGE, ChatRequest(message=SECRET))
            await client.connection.store(
                MESSAGE, f'{{"top_k":"{SECRET}"}}'.encode(), msg_id="m1", headers={wire.HEADER: wire.JSON}
            )
            await dead.count(2)
            await client.connection.request(
                "ai.chat.request", ChatRequest(message=SECRET), ChatResponse, timeout=10
            )
            stats = await client.connection.request_bytes("$SRV.STATS.chat-handler", b"", timeout=10)
    assert SECRET not in stats.data.decode()
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    # The stack of a defect is the exception: without it nobody finds the defect.
    assert not [r for r in caplog.records if SECRET in r.getMessage()]
