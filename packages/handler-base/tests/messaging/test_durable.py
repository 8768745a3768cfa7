"""Durable work against the real nats-server: nothing lost, nothing answered twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.config import load
from handler_base.errors import InvalidRequest, UpstreamRejected, UpstreamUnavailable
from handler_base.messaging import wire
from handler_base.messaging.delivered import Delivered
from handler_base.messaging.delivery import nak
from handler_base.service import Service, ServiceSettings
from handler_messages import CancelRequest, ChatRequest, ChatResponse, ErrorResponse, subjects
from handler_testkit.services import Client, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.context import Context
    from handler_testkit.nats import NatsServer

MESSAGE = "ai.chat.user.ada.message"


def make(
    nats: NatsServer, handler: Callable[[Context, ChatRequest], Awaitable[Any]], **environ: str
) -> Service:
    settings = load(
        ServiceSettings,
        {"NATS_URL": nats.url, "HEALTH_PORT": "0", "RETRY_DELAY": "0.05", "MAX_ATTEMPTS": "3", **environ},
    )
    service = Service("chat-handler", "1.0.0", settings)
    service.handle(subjects.CHAT_USER_MESSAGE, handler, response=subjects.CHAT_RESPONSE)  # type: ignore[arg-type]
    service.cancel_on(subjects.CHAT_CANCEL)
    return service


async def echo(context: Context, request: ChatRequest) -> ChatResponse:
    return ChatResponse(request_id=context.request_id, user_id=request.user_id, response=request.message)


def error_of(message: Any) -> ErrorResponse:
    return ErrorResponse.FromString(message.data)


async def test_a_message_is_answered_on_its_response_subject_and_acknowledged(nats: NatsServer) -> None:
    service = make(nats, echo)
    async with Client(nats.url) as client, running(service):
        answers = await client.listen("ai.chat.response.*")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        answer = await answers.next()
        assert answer.subject == "ai.chat.response.r1"
        response = ChatResponse.FromString(answer.data)
        assert (response.response, response.user_id) == ("hello", "ada")
    info = await settled(nats)
    assert info.num_ack_pending == 0
    assert info.num_pending == 0


async def settled(nats: NatsServer) -> Any:
    async with Client(nats.url) as client:
        return await client.connection.jetstream.consumer_info(
            "COMPANIONS_CHAT", "chat-handler-chat-user-message"
        )


async def test_a_message_sent_before_the_service_ever_ran_is_answered(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        async with running(make(nats, echo)):
            pass
        await client.connection.jetstream.delete_consumer("COMPANIONS_CHAT", "chat-handler-chat-user-message")
        await client.send(MESSAGE, ChatRequest(request_id="early", message="hello"))
        answers = await client.listen("ai.chat.response.early")
        async with running(make(nats, echo)):
            await answers.next()


async def test_a_transient_error_is_retried_until_it_works_and_answered_once(nats: NatsServer) -> None:
    attempts: list[int] = []

    async def flaky(context: Context, request: ChatRequest) -> ChatResponse:
        attempts.append(context.attempt)
        if len(attempts) < 3:
            raise UpstreamUnavailable("the model is loading")
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, flaky)):
        answers = await client.listen("ai.chat.response.*")
        dead = await client.listen("ai.dlq.>")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        await answers.next()
        assert attempts == [1, 2, 3]
        await client.connection.flush()
        assert len(answers.all) == 1
        assert dead.all == []


async def test_after_the_last_attempt_it_is_a_dead_letter_and_its_sender_is_told(nats: NatsServer) -> None:
    async def down(context: Context, request: ChatRequest) -> ChatResponse:
        raise UpstreamUnavailable("the model at llm:8000 refuses connections")

    async with Client(nats.url) as client, running(make(nats, down)):
        answers = await client.listen("ai.chat.response.*")
        dead = await client.listen("ai.dlq.>")
        request = ChatRequest(request_id="r1", message="hello")
        await client.send(MESSAGE, request, X_Mine="kept")
        letter = await dead.next()
        assert letter.subject == "ai.dlq.chat-handler"
        assert letter.data == request.SerializeToString()
        headers = letter.headers or {}
        assert headers["X-Mine"] == "kept"
        assert headers["Dead-Letter-Attempts"] == "3"
        assert headers["Dead-Letter-Reason"] == "the model at llm:8000 refuses connections"
        assert headers["Dead-Letter-Type"] == "upstream_unavailable"
        assert headers["Dead-Letter-Subject"] == MESSAGE
        error = error_of(await answers.next())
        assert error.request_id == "r1"
        assert error.type == "upstream_unavailable"
        assert error.retryable
    assert (await settled(nats)).num_ack_pending == 0


@pytest.mark.parametrize("failure", [InvalidRequest("there is no text"), UpstreamRejected("too long")])
async def test_what_cannot_succeed_is_not_tried_again(nats: NatsServer, failure: Exception) -> None:
    attempts = Counter[str]()

    async def refuse(context: Context, request: ChatRequest) -> ChatResponse:
        attempts[context.request_id] += 1
        raise failure

    async with Client(nats.url) as client, running(make(nats, refuse)):
        answers = await client.listen("ai.chat.response.*")
        dead = await client.listen("ai.dlq.>")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        assert error_of(await answers.next()).message == str(failure)
        await dead.next()
    assert attempts == {"r1": 1}


async def test_a_bug_in_a_handler_is_retried_then_buried_and_its_text_is_kept_from_the_caller(
    nats: NatsServer,
) -> None:
    async def bug(context: Context, request: ChatRequest) -> ChatResponse:
        raise KeyError("secret detail")

    async with Client(nats.url) as client, running(make(nats, bug)):
        answers = await client.listen("ai.chat.response.*")
        dead = await client.listen("ai.dlq.>")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        assert ((await dead.next()).headers or {})["Dead-Letter-Reason"] == "KeyError: 'secret detail'"
        error = error_of(await answers.next())
        assert error.type == "internal"
        assert "secret" not in error.message


async def test_bytes_that_are_no_message_are_answered_under_their_stream_sequence(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answers = await client.listen("ai.chat.response.*")
        await client.connection.store(MESSAGE, b"\xff\xff\xff", msg_id="m1")
        answer = await answers.next()
        assert answer.subject == "ai.chat.response.COMPANIONS_CHAT-1"
        assert error_of(answer).type == "invalid_request"


async def test_a_user_id_that_contradicts_the_subject_is_refused(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answers = await client.listen("ai.chat.response.*")
        await client.send(MESSAGE, ChatRequest(request_id="r1", user_id="eve", message="hello"))
        error = error_of(await answers.next())
        assert error.type == "forbidden"
        assert "eve" in error.message


async def test_a_repeated_request_is_answered_once(nats: NatsServer) -> None:
    worked: list[str] = []

    async def count(context: Context, request: ChatRequest) -> ChatResponse:
        worked.append(context.request_id)
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, count)):
        answers = await client.listen("ai.chat.response.*")
        for _ in range(3):
            await client.send(MESSAGE, ChatRequest(request_id="same", message="hello"))
            await answers.next() if not worked else None
        await client.send(MESSAGE, ChatRequest(request_id="other", message="hello"))
        await answers.until(lambda heard: any(m.subject.endswith("other") for m in heard))
    assert worked.count("same") == 1
    assert [m.subject.rsplit(".")[-1] for m in answers.all].count("same") == 1


async def test_a_redelivered_request_with_its_own_response_subject_gets_the_recorded_answer(
    nats: NatsServer,
) -> None:
    answered = 0

    async def count(context: Context, request: ChatRequest) -> ChatResponse:
        nonlocal answered
        answered += 1
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, count)):
        mine = await client.listen("my.answers")
        request = ChatRequest(request_id="r1", message="hello", response_subject="my.answers")
        await client.send(MESSAGE, request)
        first = await mine.next()
        await client.send(MESSAGE, request)
        second = await mine.next()
    assert answered == 1
    assert first.data == second.data
    assert (first.headers or {})["Nats-Msg-Id"] == (second.headers or {})["Nats-Msg-Id"]


async def test_no_more_messages_are_fetched_than_there_are_free_slots(nats: NatsServer) -> None:
    release = asyncio.Event()
    at_work = highest = 0
    full = asyncio.Event()

    async def wait(context: Context, request: ChatRequest) -> ChatResponse:
        nonlocal at_work, highest
        at_work += 1
        highest = max(highest, at_work)
        if at_work == 3:
            full.set()
        await release.wait()
        at_work -= 1
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, wait, DURABLE_IN_FLIGHT="3")):
        answers = await client.listen("ai.chat.response.*")
        for number in range(12):
            await client.send(MESSAGE, ChatRequest(request_id=f"r{number}", message="hello"))
        async with asyncio.timeout(10):
            await full.wait()
        info = await settled(nats)
        assert info.num_ack_pending == 3
        assert info.num_pending == 9
        release.set()
        await answers.count(12)
    assert highest == 3
    assert Counter(m.subject for m in answers.all).most_common(1)[0][1] == 1


async def test_work_longer_than_the_ack_wait_is_kept_alive(nats: NatsServer) -> None:
    release = asyncio.Event()
    started: list[int] = []

    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        started.append(context.attempt)
        await release.wait()
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, slow, ACK_WAIT="1")):
        progress = await client.listen("$JS.ACK.COMPANIONS_CHAT.>")
        answers = await client.listen("ai.chat.response.*")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        await progress.count(7)  # a third of the ack wait apart: longer than the wait in all
        release.set()
        await answers.next()
    assert started == [1]


async def test_a_cancel_stops_the_work_and_says_so(nats: NatsServer) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    async with Client(nats.url) as client, running(make(nats, slow)):
        answers = await client.listen("ai.chat.response.*")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        async with asyncio.timeout(10):
            await started.wait()
        await client.connection.publish("ai.chat.cancel.r1", CancelRequest(request_id="r1", reason="bored"))
        error = error_of(await answers.next())
        assert error.type == "cancelled"
        assert "bored" in error.message
        assert stopped.is_set()
    assert (await settled(nats)).num_ack_pending == 0


async def test_a_cancel_that_overtakes_its_request_stops_it_before_it_starts(nats: NatsServer) -> None:
    async def never(context: Context, request: ChatRequest) -> ChatResponse:
        raise AssertionError("started")

    async with Client(nats.url) as client, running(make(nats, never)):
        answers = await client.listen("ai.chat.response.*")
        await client.connection.request("ai.chat.cancel.r1", CancelRequest(), CancelRequest, timeout=5)
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        assert error_of(await answers.next()).type == "cancelled"


async def test_the_deadline_counts_from_when_the_message_was_published(nats: NatsServer) -> None:
    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with Client(nats.url) as client:
        async with running(make(nats, slow)):
            answers = await client.listen("ai.chat.response.*")
            await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"), Request_Timeout_Ms="50")
            assert error_of(await answers.next()).type == "deadline_exceeded"
        await client.send(MESSAGE, ChatRequest(request_id="r2", message="hello"), Request_Timeout_Ms="1")
        async with running(make(nats, slow)):
            assert error_of(await answers.next()).type == "deadline_exceeded"


async def test_patient_waiting_in_the_stream_does_not_use_up_the_default_time(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        async with running(make(nats, echo)):
            answers = await client.listen("ai.chat.response.*")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        waited = 0.3
        await asyncio.sleep(waited)  # the wait itself is what is tested
        async with running(make(nats, echo, REQUEST_TIMEOUT=str(waited))):
            assert "Error-Type" not in ((await answers.next()).headers or {})


async def test_stopping_lets_work_finish_and_hands_the_rest_back(nats: NatsServer) -> None:
    started = asyncio.Event()
    release = asyncio.Event()

    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        started.set()
        await release.wait()
        return await echo(context, request)

    async with Client(nats.url) as client:
        answers = await client.listen("ai.chat.response.*")
        async with running(make(nats, slow)) as stop:
            await client.send(MESSAGE, ChatRequest(request_id="finished", message="hello"))
            async with asyncio.timeout(10):
                await started.wait()
            stop.set()
            release.set()
        assert (await answers.next()).subject.endswith("finished")

        release.clear()
        started.clear()
        async with running(make(nats, slow, SHUTDOWN_GRACE="0.05")):
            await client.send(MESSAGE, ChatRequest(request_id="handed-back", message="hello"))
            async with asyncio.timeout(10):
                await started.wait()
        assert len(answers.all) == 1
        async with running(make(nats, echo)):  # at once, not after the ack wait
            assert (await answers.next()).subject.endswith("handed-back")


async def test_work_handed_back_in_its_last_attempt_is_not_a_dead_letter(nats: NatsServer) -> None:
    started = asyncio.Event()

    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Client(nats.url) as client:
        answers = await client.listen("ai.chat.response.*")
        async with running(make(nats, slow, SHUTDOWN_GRACE="0", MAX_ATTEMPTS="1")):
            await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
            async with asyncio.timeout(10):
                await started.wait()
        async with running(make(nats, echo, MAX_ATTEMPTS="1")):
            assert "Error-Type" not in ((await answers.next()).headers or {})


async def test_an_endpoint_that_asks_for_patience_gets_it(nats: NatsServer) -> None:
    attempts: list[int] = []

    async def busy(context: Context, request: ChatRequest) -> ChatResponse:
        attempts.append(context.attempt)
        if len(attempts) == 1:
            raise UpstreamUnavailable("429", retry_after=0.7)
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, busy)):
        answers = await client.listen("ai.chat.response.*")
        verdicts = await client.listen("$JS.ACK.COMPANIONS_CHAT.>")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        await answers.next()
        await verdicts.until(lambda heard: any(m.data == b"+ACK" for m in heard))
    assert attempts == [1, 2]
    assert [m.data for m in verdicts.all if m.data.startswith(b"-NAK")] == [nak(0.7)]


async def test_a_lost_consumer_is_made_again(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answers = await client.listen("ai.chat.response.*")
        await client.connection.jetstream.delete_consumer("COMPANIONS_CHAT", "chat-handler-chat-user-message")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        await answers.next()


async def test_after_a_restart_of_nats_without_its_disk_work_goes_on(nats: NatsServer) -> None:
    service = make(nats, echo)
    async with Client(nats.url) as client, running(service):
        answers = await client.listen("ai.chat.response.*")
        nats.kill()
        nats.forget()
        nats.start()
        async with asyncio.timeout(20):
            while not client.connection.connected or await service.missing():
                await asyncio.sleep(0.02)
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        await answers.next()


async def test_a_message_that_kills_its_worker_each_time_becomes_a_dead_letter(nats: NatsServer) -> None:
    async def never(context: Context, request: ChatRequest) -> ChatResponse:
        raise AssertionError("started")

    async with Client(nats.url) as client:
        async with running(make(nats, echo)):
            pass
        js = client.connection.jetstream
        await client.send(MESSAGE, ChatRequest(request_id="poison", message="hello"))
        subscription = await js.pull_subscribe_bind("chat-handler-chat-user-message", "COMPANIONS_CHAT")
        for _ in range(5):  # as many workers that died with it
            (message,) = await subscription.fetch(1)
            await message.nak()
        answers = await client.listen("ai.chat.response.*")
        dead = await client.listen("ai.dlq.>")
        async with running(make(nats, never)):
            assert "6 times" in ((await dead.next()).headers or {})["Dead-Letter-Reason"]
            assert error_of(await answers.next()).request_id == "poison"


async def test_an_answer_larger_than_nats_takes_becomes_an_error_that_says_so(nats: NatsServer) -> None:
    async def shout(context: Context, request: ChatRequest) -> ChatResponse:
        return ChatResponse(request_id=context.request_id, audio=bytes(context.max_payload))

    async with Client(nats.url) as client, running(make(nats, shout)):
        answers = await client.listen("ai.chat.response.*")
        await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
        assert error_of(await answers.next()).type == "too_large"


async def test_a_request_that_fills_the_largest_payload_is_buried_without_being_lost(
    nats: NatsServer,
) -> None:
    async def refuse(context: Context, request: ChatRequest) -> ChatResponse:
        raise InvalidRequest("no")

    async with Client(nats.url) as client, running(make(nats, refuse)):
        answers = await client.listen("ai.chat.response.*")
        dead = await client.listen("ai.dlq.>")
        request = ChatRequest(request_id="big", message="x")
        request.message = "x" * (client.connection.max_payload - request.ByteSize() - 100)
        await client.send(MESSAGE, request)
        letter = await dead.next()
        assert (letter.headers or {})["Dead-Letter-Truncated"] == str(request.ByteSize())
        assert error_of(await answers.next()).type == "invalid_request"


async def test_json_requests_get_json_answers(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answers = await client.listen("ai.chat.response.*")
        await client.connection.store(
            MESSAGE,
            b'{"requestId": "r1", "message": "hello"}',
            msg_id="m1",
            headers={wire.HEADER: wire.JSON},
        )
        answer = await answers.next()
        assert (answer.headers or {})[wire.HEADER] == wire.JSON
        assert b'"response": "hello"' in answer.data


def test_the_ack_subject_is_read_in_both_of_its_forms() -> None:
    old = Delivered.parse("$JS.ACK.S.c.3.7.9.1500000000000000000.0")
    new = Delivered.parse("$JS.ACK.hub.acc.S.c.3.7.9.1500000000000000000.0.token")
    assert old == new == Delivered("S", "c", 3, 7, 9, 1_500_000_000.0, 0)


def test_a_nak_carries_its_delay_in_nanoseconds() -> None:
    assert nak(0) == b"-NAK"
    assert nak(1.5) == b'-NAK {"delay": 1500000000}'
