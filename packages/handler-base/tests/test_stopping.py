"""Stop cleanly, and in bounded time, whatever is away or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.config import load
from handler_base.errors import MessagingError
from handler_base.service import Service, ServiceSettings
from handler_messages import ChatRequest, ChatResponse, ErrorResponse, subjects
from handler_testkit.services import Client, ServiceProcess, running, service_process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from handler_base.messaging.context import Context
    from handler_testkit.nats import NatsServer

MESSAGE = "ai.chat.user.ada.message"
BOUND = 12.0
"""Drain, hand back and close together have 10 s; without their limits a stop took 30 s to for ever."""


def make(
    nats: NatsServer, handler: Callable[[Context, ChatRequest], Awaitable[Any]], **environ: str
) -> Service:
    settings = load(
        ServiceSettings,
        {
            "NATS_URL": nats.url,
            "HEALTH_PORT": "0",
            "SHUTDOWN_GRACE": "0.1",
            "NATS_RECONNECT_WAIT": "0.02",
            "NATS_RECONNECT_WAIT_MAX": "0.1",
            **environ,
        },
    )
    service = Service("chat-handler", "1.0.0", settings)
    service.handle(subjects.CHAT_REQUEST, handler, response=subjects.CHAT_RESPONSE)  # type: ignore[arg-type]
    service.handle(subjects.CHAT_USER_MESSAGE, handler, response=subjects.CHAT_RESPONSE)  # type: ignore[arg-type]
    return service


async def echo(context: Context, request: ChatRequest) -> ChatResponse:
    return ChatResponse(request_id=context.request_id, response=request.message)


@contextlib.asynccontextmanager
async def ending(service: Service) -> AsyncGenerator[None]:
    """Run a service; after the block it is told to stop, and has to end in time."""
    async with contextlib.AsyncExitStack() as stack:
        stop = await stack.enter_async_context(running(service))
        yield
        stop.set()
        async with asyncio.timeout(BOUND):
            await stack.aclose()


async def test_while_what_is_made_ready_after_a_reconnect_is_not_to_be_had(nats: NatsServer) -> None:
    there, asked = True, asyncio.Event()

    async def prepare() -> None:
        if not there:
            asked.set()
            raise MessagingError("JetStream is not ready yet")

    service = make(nats, echo)
    service.on_start(prepare)
    async with ending(service):
        there = False
        await asyncio.to_thread(nats.restart)
        async with asyncio.timeout(10):
            await asked.wait()


@pytest.mark.parametrize("away", ["killed", "paused"])
async def test_while_a_result_waits_for_a_server_that_is_away(nats: NatsServer, away: str) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def work(context: Context, request: ChatRequest) -> ChatResponse:
        started.set()
        await release.wait()
        return await echo(context, request)

    async with ending(make(nats, work)):
        async with Client(nats.url) as client:
            await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
            async with asyncio.timeout(10):
                await started.wait()
        if away == "killed":
            nats.kill()
        else:
            nats.pause()
        release.set()


async def test_a_message_that_is_not_at_work_yet_is_handed_back_too(nats: NatsServer) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def endless(context: Context, request: ChatRequest) -> ChatResponse:
        await asyncio.Event().wait()
        raise AssertionError

    service = make(nats, endless, SHUTDOWN_GRACE="0")
    last_stored = service.connection.last_stored

    async def slow(stream: str, subject: str) -> Any:
        asked.set()
        await release.wait()
        return await last_stored(stream, subject)

    service.connection.last_stored = slow  # type: ignore[method-assign]
    async with Client(nats.url) as client:
        answers = await client.listen("ai.chat.response.*")
        async with ending(service):
            await client.send(MESSAGE, ChatRequest(request_id="r1", message="hello"))
            async with asyncio.timeout(10):
                await asked.wait()
            asyncio.get_running_loop().call_later(0.2, release.set)
        async with running(make(nats, echo, ACK_WAIT="60")):  # at once, not after the ack wait
            assert "Error-Type" not in ((await answers.next()).headers or {})


async def test_work_that_takes_a_replica_down_midway_is_done_by_the_other_at_once(nats: NatsServer) -> None:
    environ = {"NATS_URL": nats.url, "ACK_WAIT": "60", "ECHO_DELAY": "0.05", "DURABLE_IN_FLIGHT": "4"}
    with service_process("handler_testkit.echo", environ) as first:
        with service_process("handler_testkit.echo", environ):
            async with Client(nats.url) as client:
                answers = await client.listen("ai.chat.response.*")
                for number in range(100):
                    await client.send(MESSAGE, ChatRequest(request_id=f"r{number}", message="x"))
                await answers.count(20)
                first.signal(signal.SIGTERM)
                await answers.count(100, timeout=30)
                assert await asyncio.to_thread(first.wait) == 0, first.log()
                await client.connection.flush()
        assert sorted(m.subject for m in answers.all) == sorted(f"ai.chat.response.r{n}" for n in range(100))


async def test_a_second_signal_ends_the_grace_time(nats: NatsServer) -> None:
    process = ServiceProcess(
        "handler_testkit.echo", {"NATS_URL": nats.url, "ECHO_DELAY": "600", "SHUTDOWN_GRACE": "600"}
    )
    try:
        await asyncio.to_thread(process.start)
        async with Client(nats.url) as client, asyncio.TaskGroup() as tasks:
            request = ChatRequest(request_id="r1", message="hello")
            asked = tasks.create_task(
                client.connection.request("ai.chat.request", request, ChatResponse, timeout=30)
            )
            await client.connection.flush()
            process.signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while "stopping" not in process.log():
                    await asyncio.sleep(0.01)
            process.signal(signal.SIGTERM)
            answer = await asked
            assert isinstance(answer, ErrorResponse)
            assert answer.type == "shutting_down"
            assert await asyncio.to_thread(process.wait) == 0, process.log()
    finally:
        await asyncio.to_thread(process.close)
