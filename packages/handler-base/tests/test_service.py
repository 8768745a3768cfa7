"""The life of a service: start in any order, be ready when it consumes, stop cleanly."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from handler_base.config import load
from handler_base.errors import ConfigError, MessagingError
from handler_base.messaging.connection import Connection
from handler_base.messaging.settings import NatsSettings
from handler_base.service import Service, ServiceSettings
from handler_messages import ChatRequest, ChatResponse, ErrorResponse, subjects
from handler_testkit.nats import NatsServer, free_port
from handler_testkit.services import Client, ServiceProcess, running, service_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_base.messaging.context import Context

ECHO = "handler_testkit.echo"


def make(url: str, **environ: str) -> Service:
    settings = load(ServiceSettings, {"NATS_URL": url, "HEALTH_PORT": "0", **environ})
    return Service("echo", "1.0.0", settings)


async def echo(context: Context, request: ChatRequest) -> ChatResponse:
    return ChatResponse(request_id=context.request_id, response=request.message)


async def eventually_ready(service: Service) -> None:
    async with asyncio.timeout(20):
        while await service.missing():
            await asyncio.sleep(0.01)


@pytest.fixture
def stopped_nats() -> Iterator[NatsServer]:
    server = NatsServer()
    yield server
    server.close()


async def test_without_nats_a_service_waits_and_says_what_it_misses(stopped_nats: NatsServer) -> None:
    service = make(stopped_nats.url, NATS_RECONNECT_WAIT="0.05")
    service.handle(subjects.CHAT_REQUEST, echo, response=subjects.CHAT_RESPONSE)
    async with running(service, ready=False):
        async with asyncio.timeout(10):
            while not any("refused" in line.lower() for line in await service.missing()):
                await asyncio.sleep(0.01)
        await asyncio.to_thread(stopped_nats.start)
        await eventually_ready(service)
        async with Client(stopped_nats.url) as client:
            answer = await client.connection.request(
                "ai.chat.request", ChatRequest(message="hello"), ChatResponse, timeout=10
            )
            assert isinstance(answer, ChatResponse)


async def test_a_service_can_be_stopped_while_it_waits_for_nats(stopped_nats: NatsServer) -> None:
    async with running(make(stopped_nats.url), ready=False) as stop:
        stop.set()


async def test_durable_work_is_not_taken_before_what_it_needs_was_reached(nats: NatsServer) -> None:
    there = False
    asked = asyncio.Event()

    async def needed() -> None:
        asked.set()
        if not there:
            raise MessagingError("the model is loading")

    service = make(nats.url)
    service.handle(subjects.CHAT_USER_MESSAGE, echo, response=subjects.CHAT_RESPONSE)
    service.needs("LLM", needed)
    async with Client(nats.url) as client, running(service, ready=False):
        async with asyncio.timeout(10):
            await asked.wait()
            while "LLM: the model is loading" not in await service.missing():
                await asyncio.sleep(0.01)
        answers = await client.listen("ai.chat.response.*")
        await client.send("ai.chat.user.ada.message", ChatRequest(request_id="r1", message="hello"))
        await client.connection.flush()
        assert answers.all == []
        there = True
        await answers.next()
        assert await service.missing() == []


async def test_what_fails_at_start_is_tried_again_and_runs_again_after_a_reconnect(nats: NatsServer) -> None:
    calls = asyncio.Semaphore(0)
    failures = iter([True, True])

    async def prepare() -> None:
        calls.release()
        if next(failures, False):
            raise MessagingError("JetStream is not ready yet")

    service = make(nats.url)
    service.handle(subjects.CHAT_REQUEST, echo, response=subjects.CHAT_RESPONSE)
    service.on_start(prepare)
    async with running(service):
        for _ in range(3):
            await calls.acquire()
        await asyncio.to_thread(nats.restart)
        async with asyncio.timeout(20):
            await calls.acquire()
        await eventually_ready(service)


async def test_without_jetstream_a_durable_service_says_so(nats: NatsServer) -> None:
    plain = NatsServer(jetstream=False)
    plain.start()
    try:
        service = make(plain.url)
        service.handle(subjects.CHAT_USER_MESSAGE, echo, response=subjects.CHAT_RESPONSE)
        async with running(service, ready=False), asyncio.timeout(20):
            while not any("JetStream" in line for line in await service.missing()):
                await asyncio.sleep(0.02)
    finally:
        plain.close()


async def test_a_paused_server_makes_the_service_not_ready(nats: NatsServer) -> None:
    service = make(nats.url)
    service.handle(subjects.CHAT_REQUEST, echo, response=subjects.CHAT_RESPONSE)
    async with running(service):
        nats.pause()
        missing = await service.missing()
        nats.resume()
        assert any("consumption" in line for line in missing)
        await eventually_ready(service)


async def test_running_requests_finish_and_late_ones_are_told(nats: NatsServer) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def slow(context: Context, request: ChatRequest) -> ChatResponse:
        started.set()
        if request.message == "short":
            await release.wait()
        else:
            await asyncio.Event().wait()
        return await echo(context, request)

    async with Client(nats.url) as client:
        for message, kind in (("short", ChatResponse), ("endless", ErrorResponse)):
            started.clear()
            service = make(nats.url, SHUTDOWN_GRACE="0.2")
            service.handle(subjects.CHAT_REQUEST, slow, response=subjects.CHAT_RESPONSE)
            async with running(service) as stop, asyncio.TaskGroup() as tasks:
                asked = tasks.create_task(
                    client.connection.request(
                        "ai.chat.request", ChatRequest(message=message), ChatResponse, timeout=10
                    )
                )
                async with asyncio.timeout(10):
                    await started.wait()
                stop.set()
                release.set()
            answer = asked.result()
            assert isinstance(answer, kind)
            if isinstance(answer, ErrorResponse):
                assert (answer.type, answer.retryable) == ("shutting_down", True)


async def test_a_taken_health_port_is_a_clear_error(nats: NatsServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(ConfigError, match=port):
            async with running(make(nats.url, HEALTH_PORT=port, HEALTH_HOST="127.0.0.1")):
                pass


async def test_settings_that_no_server_can_satisfy_end_the_start(nats: NatsServer) -> None:
    with pytest.raises(ConfigError, match="NATS_URL"):
        async with running(make("http://127.0.0.1:1"), ready=True):
            pass


def test_a_subject_that_is_only_published_cannot_be_handled() -> None:
    with pytest.raises(ValueError, match="not consumed"):
        make("nats://127.0.0.1:1").handle(subjects.CHAT_RESPONSE, echo)


def run_echo(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", ECHO, *arguments]
    env = {**os.environ, **environ}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_every_setting_with_its_default() -> None:
    done = run_echo("--help")
    assert done.returncode == 0
    for text in (
        "NATS_URL",
        "nats://127.0.0.1:4222",
        "MAX_IN_FLIGHT",
        "HEALTH_PORT",
        "ECHO_DELAY",
        "LOG_LEVEL",
    ):
        assert text in done.stdout


def test_version_and_unknown_arguments() -> None:
    assert run_echo("--version").stdout == "echo 1.2.3\n"
    wrong = run_echo("--frobnicate")
    assert wrong.returncode == 2
    assert "--frobnicate" in wrong.stderr


def test_every_wrong_setting_is_reported_at_once() -> None:
    done = run_echo(HEALTH_PORT="many", ACK_WAIT="0", ECHO_DELAY="-1", NATS_PASSWORD="hunter2")
    assert done.returncode == 2
    for name in ("HEALTH_PORT", "ACK_WAIT", "ECHO_DELAY"):
        assert name in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_is_ready_serves_and_exits_0_on_a_signal(nats: NatsServer, number: signal.Signals) -> None:
    with service_process(ECHO, {"NATS_URL": nats.url}) as process:
        assert process.probe("/healthz")["service"] == "echo"
        process.signal(number)
        assert process.wait() == 0, process.log()


def test_a_process_exits_0_on_a_signal_without_nats() -> None:
    process = ServiceProcess(ECHO, {"NATS_URL": f"nats://127.0.0.1:{free_port()}"})
    try:
        process.start(ready=False)
        deadline = time.monotonic() + 20
        while not process.probe("/healthz"):
            assert time.monotonic() < deadline, process.log()
        assert process.probe("/readyz")["ready"] is False
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.log()
    finally:
        process.close()


async def test_two_processes_one_killed_midway_lose_and_double_nothing(nats: NatsServer) -> None:
    environ = {"NATS_URL": nats.url, "ACK_WAIT": "1", "ECHO_DELAY": "0.02", "DURABLE_IN_FLIGHT": "4"}
    with service_process(ECHO, environ) as first, service_process(ECHO, environ):
        async with Client(nats.url) as client:
            answers = await client.listen("ai.chat.response.*")
            for number in range(200):
                await client.send(
                    "ai.chat.user.ada.message", ChatRequest(request_id=f"r{number}", message="x")
                )
            await answers.count(60, timeout=30)
            first.kill()
            await answers.count(200, timeout=30)
            await client.connection.flush()
            assert sorted(m.subject for m in answers.all) == sorted(
                f"ai.chat.response.r{n}" for n in range(200)
            )


async def test_closing_without_a_server_reports_what_is_lost(stopped_nats: NatsServer) -> None:
    stopped_nats.start()
    connection = Connection(load(NatsSettings, {"NATS_URL": stopped_nats.url}), name="test")
    await connection.connect()
    stopped_nats.kill()
    async with asyncio.timeout(10):
        while connection.connected:
            await asyncio.sleep(0.01)
    await connection.publish_bytes("a", b"x")
    with pytest.raises(MessagingError, match="lost"):
        await connection.close()


async def test_work_in_the_background_begins_with_the_connection_and_ends_with_the_service(
    nats: NatsServer,
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()
    seen: list[bool] = []

    async def watch() -> None:
        seen.append(service.connection.connected)
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def short() -> None:
        seen.append(service.connection.connected)

    service = make(nats.url)
    service.handle(subjects.CHAT_REQUEST, echo, response=subjects.CHAT_RESPONSE)
    service.background(watch)
    service.background(short)
    async with running(service), asyncio.timeout(10):
        await began.wait()
        assert not ended.is_set()
        assert await service.missing() == []
    assert ended.is_set()
    assert seen == [True, True]


async def test_a_bug_in_the_background_ends_the_service_rather_than_going_unseen(nats: NatsServer) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    service = make(nats.url)
    service.background(broken)
    with pytest.raises(BaseExceptionGroup) as caught:
        await service.run(asyncio.Event())
    assert caught.group_contains(ZeroDivisionError)
