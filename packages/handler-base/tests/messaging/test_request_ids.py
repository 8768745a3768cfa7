"""Whose answer is it: a request id is answered once for its sender, and belongs to nobody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from handler_base.config import load
from handler_base.service import Service, ServiceSettings
from handler_messages import CancelRequest, ChatRequest, ChatResponse, subjects
from handler_testkit.services import Client, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.context import Context
    from handler_testkit.nats import NatsServer


def make(nats: NatsServer, handler: Callable[[Context, ChatRequest], Awaitable[Any]]) -> Service:
    settings = load(ServiceSettings, {"NATS_URL": nats.url, "HEALTH_PORT": "0"})
    service = Service("chat-handler", "1.0.0", settings)
    service.handle(subjects.CHAT_USER_MESSAGE, handler, response=subjects.CHAT_RESPONSE)  # type: ignore[arg-type]
    return service


async def echo(context: Context, request: ChatRequest) -> ChatResponse:
    return ChatResponse(request_id=context.request_id, user_id=request.user_id, response=request.message)


async def test_who_guesses_a_request_id_does_not_get_its_answer(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answers = await client.listen("ai.chat.response.r1")
        eves = await client.listen("eves.inbox")
        await client.send("ai.chat.user.ada.message", ChatRequest(request_id="r1", message="for ada"))
        await answers.next()
        await client.send(
            "ai.chat.user.eve.message",
            ChatRequest(request_id="r1", message="for eve", response_subject="eves.inbox"),
        )
        answer = ChatResponse.FromString((await eves.next()).data)
        assert (answer.user_id, answer.response) == ("eve", "for eve")


async def test_who_guesses_a_request_id_does_not_keep_its_answer_from_coming(nats: NatsServer) -> None:
    async with Client(nats.url) as client, running(make(nats, echo)):
        answers = await client.listen("ai.chat.response.r1")
        await client.send("ai.chat.user.eve.message", ChatRequest(request_id="r1", message="taken"))
        await answers.next()
        await client.send("ai.chat.user.ada.message", ChatRequest(request_id="r1", message="for ada"))
        answer = ChatResponse.FromString((await answers.next()).data)
        assert (answer.user_id, answer.response) == ("ada", "for ada")


async def test_a_message_that_was_sent_twice_runs_once_even_while_the_first_is_at_work(
    nats: NatsServer,
) -> None:
    started: list[str] = []
    both_here = asyncio.Event()

    async def wait(context: Context, request: ChatRequest) -> ChatResponse:
        started.append(context.request_id)
        if request.message == "last":
            both_here.set()
        await both_here.wait()
        return await echo(context, request)

    async with Client(nats.url) as client, running(make(nats, wait)):
        answers = await client.listen("ai.chat.response.*")
        for request_id, message in (("same", "x"), ("same", "x"), ("other", "last")):
            request = ChatRequest(request_id=request_id, message=message)
            await client.send("ai.chat.user.ada.message", request)
        await answers.count(2)
        js = client.connection.jetstream
        async with asyncio.timeout(10):
            while (
                await js.consumer_info("COMPANIONS_CHAT", "chat-handler-chat-user-message")
            ).num_ack_pending:
                await asyncio.sleep(0.01)
    assert sorted(started) == ["other", "same"]
    assert sorted(m.subject for m in answers.all) == ["ai.chat.response.other", "ai.chat.response.same"]


async def test_a_request_whose_subject_names_its_id_has_that_id(nats: NatsServer) -> None:
    worked: list[tuple[str, str]] = []
    stopped = asyncio.Event()

    async def cancel(context: Context, request: CancelRequest) -> None:
        worked.append((context.request_id, request.request_id))
        stopped.set()

    service = Service("bridge", "1.0.0", load(ServiceSettings, {"NATS_URL": nats.url, "HEALTH_PORT": "0"}))
    service.handle(subjects.PIPELINE_CANCEL, cancel)
    async with Client(nats.url) as client, running(service):
        dead = await client.listen("ai.dlq.bridge")
        await client.send("ai.pipeline.cancel.r1", CancelRequest(request_id="r2"))
        reason = ((await dead.next()).headers or {})["Dead-Letter-Reason"]
        assert reason == "request_id 'r2' in the message contradicts 'r1' in the subject"
        await client.send("ai.pipeline.cancel.r1", CancelRequest())
        await stopped.wait()
    assert worked == [("r1", "r1")]
