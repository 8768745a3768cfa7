"""Request/reply against the real nats-server: every request gets an answer that a person understands."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from handler_base.config import load
from handler_base.errors import Overloaded, UpstreamTimeout
from handler_base.messaging import wire
from handler_base.service import Service, ServiceSettings
from handler_messages import CancelRequest, ChatRequest, ChatResponse, ErrorResponse, subjects
from handler_testkit.services import Client, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.context import Context
    from handler_testkit.nats import NatsServer

SUBJECT = "ai.chat.request"


def make(
    nats: NatsServer, handler: Callable[[Context, ChatRequest], Awaitable[Any]], **environ: str
) -> Service:
    settings = load(ServiceSettings, {"NATS_URL": nats.url, "HEALTH_PORT": "0", **environ})
    service = Service("chat-handler", "1.0.0", settings)
    service.handle(subjects.CHAT_REQUEST, handler, response=subjects.CHAT_RESPONSE)  # type: ignore[arg-type]
    service.cancel_on(subjects.CHAT_CANCEL)
    return service


async def echo(context: Context, request: ChatRequest) -> ChatResponse:
    return ChatResponse(request_id=context.request_id, response=request.message)


async def ask(client: Client, **fields: Any) -> ChatResponse | ErrorResponse:
    return await client.connection.request(SUBJECT, ChatRequest(**fields), ChatResponse, timeout=10)


async def test_a_request_is_answered_on_its_inbox(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answer = await ask(client, request_id="r1", message="hello")
        assert isinstance(answer, ChatResponse)
        assert (answer.request_id, answer.response) == ("r1", "hello")


async def test_a_request_without_an_id_gets_one(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        first, second = await ask(client, message="a"), await ask(client, message="b")
        assert first.request_id
        assert first.request_id != second.request_id


async def test_the_answer_goes_to_the_response_subject_and_to_the_inbox(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        mine = await client.listen("my.answers")
        default = await client.listen("ai.chat.response.*")
        await ask(client, request_id="r1", message="hello", response_subject="my.answers")
        assert ChatResponse.FromString((await mine.next()).data).response == "hello"
        assert default.all == []


async def test_without_inbox_and_response_subject_it_goes_to_the_contracts_subject(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        default = await client.listen("ai.chat.response.r1")
        await client.connection.publish(SUBJECT, ChatRequest(request_id="r1", message="hello"))
        await default.next()


@pytest.mark.parametrize(
    "hostile",
    [
        "ai.chat.request",
        "ai.chat.user.eve.message",
        "$SYS.REQ.SERVER.PING",
        "my.*",
        "my.>",
        "a b",
        "a..b",
        ".",
        "a\r\nb",
    ],
)
async def test_a_hostile_response_subject_is_refused_and_nothing_is_sent_there(
    nats: NatsServer, hostile: str
) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        everything = await client.listen(">")
        answer = await ask(client, message="hello", response_subject=hostile)
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "invalid_request"
        assert "response subject" in answer.message
        await client.connection.flush()
        assert [m.subject for m in everything.all if m.subject == hostile] == (
            [hostile] if hostile == SUBJECT else []
        )


@pytest.mark.parametrize(
    "template",
    ["ai.chat.response.{}", "ai.chat.response.stream.{}", "ai.voice.response.{}", "voice.response.{}"],
)
async def test_a_response_subject_of_somebody_elses_request_is_refused(
    nats: NatsServer, template: str
) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        others = await client.listen(template.format("theirs"))
        fields = {"request_id": "mine", "message": "hello"}
        refused = await ask(client, **fields, response_subject=template.format("theirs"))
        assert isinstance(refused, ErrorResponse)
        assert refused.type == "forbidden"
        allowed = await ask(client, **fields, response_subject=template.format("mine"))
        assert isinstance(allowed, ChatResponse)
        await client.connection.flush()
        assert others.all == []


async def test_discovery_does_not_answer_where_services_consume(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        heard = await client.listen("ai.chat.request")
        await client.connection.publish_bytes("$SRV.PING", b"", reply="ai.chat.request")
        await client.connection.request_bytes("$SRV.PING.chat-handler", b"", timeout=5)
        await client.connection.flush()
        assert heard.all == []


async def test_a_reply_inbox_that_a_service_consumes_is_not_answered(nats: NatsServer) -> None:
    served: list[str] = []

    async def count(context: Context, request: ChatRequest) -> ChatResponse:
        served.append(context.request_id)
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, count)):
        default = await client.listen("ai.chat.response.r1")
        payload = ChatRequest(request_id="r1", message="hello").SerializeToString()
        await client.connection.publish_bytes(SUBJECT, payload, reply=SUBJECT)
        await default.next()
        await ask(client, request_id="r2", message="after")
    assert served == ["r1", "r2"]


@pytest.mark.parametrize("request_id", ["a.b", "a*", ">", "a b", "x" * 200, "ü\n"])
async def test_a_hostile_request_id_is_refused(nats: NatsServer, request_id: str) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answer = await ask(client, request_id=request_id, message="hello")
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "invalid_request"


@pytest.mark.parametrize(
    ("payload", "content_type", "kind"),
    [
        (b"\xff\xff", "", "invalid_request"),
        (b"{", "application/json", "invalid_request"),
        (b"[1]", "application/json", "invalid_request"),
        (b'{"mesage": "x"}', "application/json", "invalid_request"),
        (b"[" * 100_000, "application/json", "invalid_request"),
        (b'{"message":' * 50_000, "application/json", "invalid_request"),
        (b"\x91" * 100_000, "application/msgpack", "invalid_request"),
        (b"\xc1", "application/msgpack", "invalid_request"),
        (b"<x/>", "application/xml", "unsupported_content_type"),
    ],
)
async def test_malformed_input_is_answered_in_words(
    nats: NatsServer, payload: bytes, content_type: str, kind: str
) -> None:
    headers = {wire.HEADER: content_type} if content_type else None
    async with Client(nats.url) as client, running(make(nats, echo)):
        reply = await client.connection.request_bytes(SUBJECT, payload, timeout=10, headers=headers)
        sent = reply.headers or {}
        assert sent["Error-Type"] == kind
        error = wire.decode(ErrorResponse, reply.data, wire.content_type(reply.headers))
        assert error.error
        assert 10 < len(error.message) < 400
        assert sent["Nats-Service-Error-Code"] in {"400", "415"}


async def test_the_largest_payload_that_nats_takes_is_served(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        request = ChatRequest(request_id="r1", message="x" * (client.connection.max_payload - 64))
        reply = await client.connection.request(SUBJECT, request, ChatResponse, timeout=10)
        assert len(reply.response if isinstance(reply, ChatResponse) else "") == len(request.message)


async def test_json_and_messagepack_are_answered_in_kind(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        in_json = await client.connection.request_bytes(
            SUBJECT,
            b'{"message": "hello"}',
            timeout=10,
            headers={"content-type": "application/json; charset=utf-8"},
        )
        assert json.loads(in_json.data)["response"] == "hello"
        in_msgpack = await client.connection.request_bytes(
            SUBJECT,
            msgspec.msgpack.encode({"message": "hello"}),
            timeout=10,
            headers={wire.HEADER: wire.MSGPACK},
        )
        assert msgspec.msgpack.decode(in_msgpack.data)["response"] == "hello"


async def test_over_the_limit_of_load_a_request_is_refused_at_once(nats: NatsServer) -> None:
    release = asyncio.Event()
    started = asyncio.Semaphore(0)

    async def wait(context: Context, request: ChatRequest) -> ChatResponse:
        started.release()
        await release.wait()
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, wait, MAX_IN_FLIGHT="2")):
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(ask(client, request_id=f"r{n}", message="hello")) for n in range(2)]
            for _ in waiting:
                await started.acquire()
            refused = await ask(client, request_id="r3", message="hello")
            assert isinstance(refused, ErrorResponse)
            assert (refused.type, refused.retryable) == ("overloaded", True)
            release.set()
        assert all(isinstance(task.result(), ChatResponse) for task in waiting)


async def test_a_cancel_stops_the_handler_and_answers(nats: NatsServer) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    async with Client(nats.url) as client, running(make(nats, slow)), asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(client, request_id="r1", message="hello"))
        await started.wait()
        told = await client.connection.request(
            "ai.chat.cancel.r1", CancelRequest(), CancelRequest, timeout=10
        )
        assert isinstance(told, CancelRequest)
        assert told.reason == "stopped 1"
        answer = await asked
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "cancelled"
        assert stopped.is_set()


async def test_a_cancel_by_session_stops_all_its_requests_and_no_other(nats: NatsServer) -> None:
    started = asyncio.Semaphore(0)

    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        started.release()
        await asyncio.sleep(0 if request.session_id == "other" else 60)
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, slow)), asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(ask(client, request_id=f"r{n}", session_id="mine", message="hello"))
            for n in range(3)
        ]
        for _ in range(3):
            await started.acquire()
        cancel = CancelRequest(session_id="mine")
        told = await client.connection.request("ai.chat.cancel.all", cancel, CancelRequest, timeout=10)
        assert isinstance(told, CancelRequest)
        assert told.reason == "stopped 3"
        assert {getattr(await task, "type", "") for task in asked} == {"cancelled"}
        assert isinstance(await ask(client, session_id="other", message="hello"), ChatResponse)


async def test_the_callers_deadline_is_kept(nats: NatsServer) -> None:
    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        assert context.remaining <= 0.05
        await asyncio.Event().wait()
        raise AssertionError

    async with Client(nats.url) as client, running(make(nats, slow)):
        answer = await client.connection.request(
            SUBJECT,
            ChatRequest(message="hello"),
            ChatResponse,
            timeout=10,
            headers={"Request-Timeout-Ms": "50"},
        )
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "deadline_exceeded"


@pytest.mark.parametrize("value", ["soon", "0", "-5", "1.5"])
async def test_a_deadline_that_makes_no_sense_is_refused(nats: NatsServer, value: str) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answer = await client.connection.request(
            SUBJECT,
            ChatRequest(message="hello"),
            ChatResponse,
            timeout=10,
            headers={"Request-Timeout-Ms": value},
        )
        assert isinstance(answer, ErrorResponse)
        assert "Request-Timeout-Ms" in answer.message


async def test_errors_of_parallel_steps_are_said_as_the_one_that_counts(nats: NatsServer) -> None:
    async def parallel(context: Context, request: ChatRequest) -> ChatResponse:
        async def fail() -> None:
            raise UpstreamTimeout("the model is slow", endpoint="llm")

        async with asyncio.TaskGroup() as steps:
            steps.create_task(fail())
            steps.create_task(asyncio.sleep(60))
        raise AssertionError

    async with Client(nats.url) as client, running(make(nats, parallel)):
        answer = await ask(client, message="hello")
        assert isinstance(answer, ErrorResponse)
        assert (answer.type, answer.message) == ("upstream_timeout", "the model is slow")


async def test_a_bug_is_answered_without_its_details_and_counted(nats: NatsServer) -> None:
    async def bug(context: Context, request: ChatRequest) -> ChatResponse:
        raise ZeroDivisionError("secret")

    async with Client(nats.url) as client, running(make(nats, bug)):
        answer = await ask(client, message="hello")
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "internal"
        assert "secret" not in answer.message
        stats = await client.connection.request_bytes("$SRV.STATS.chat-handler", b"", timeout=5)
        (endpoint,) = json.loads(stats.data)["endpoints"]
        assert (endpoint["num_requests"], endpoint["num_errors"]) == (1, 1)
        assert endpoint["processing_time"] > 0


async def test_an_answer_over_the_payload_limit_becomes_an_error(nats: NatsServer) -> None:
    async def shout(context: Context, request: ChatRequest) -> ChatResponse:
        return ChatResponse(audio=bytes(context.max_payload))

    async with Client(nats.url) as client, running(make(nats, shout)):
        answer = await ask(client, message="hello")
        assert isinstance(answer, ErrorResponse)
        assert answer.type == "too_large"


async def test_two_replicas_share_the_requests(nats: NatsServer) -> None:
    counts = [0, 0]

    def counted(index: int) -> Service:
        async def count(context: Context, request: ChatRequest) -> ChatResponse:
            counts[index] += 1
            return await echo(context, request)

        return make(nats, count)

    async with Client(nats.url) as client, running(counted(0)), running(counted(1)):
        for number in range(40):
            await ask(client, message=str(number))
    assert sum(counts) == 40
    assert all(counts)


async def test_a_handler_may_say_that_it_is_overloaded_itself(nats: NatsServer) -> None:
    async def busy(context: Context, request: ChatRequest) -> ChatResponse:
        raise Overloaded("no free connection to the model")

    async with Client(nats.url) as client, running(make(nats, busy)):
        answer = await ask(client, message="hello")
        assert isinstance(answer, ErrorResponse)
        assert answer.retryable
