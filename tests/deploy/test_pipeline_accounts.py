"""deploy/base/nats lets pipeline-bridge and those who trigger do their work, and nothing else: the real service, a scripted Argo."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from handler_base.messaging.streams import STREAMS
from handler_messages import (
    CancelRequest,
    PipelineListResponse,
    PipelineRunListRequest,
    PipelineRunListResponse,
    PipelineStatus,
    PipelineTrigger,
    subjects,
)
from handler_testkit.argo import ArgoServer, paced
from handler_testkit.services import ServiceProcess, until

from .conftest import may_not_listen, may_not_publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from handler_testkit.services import Client, Heard

    from .conftest import Secured

NAME = "pipeline-bridge"
DURABLES = (f"{NAME}-pipeline-cancel", f"{NAME}-pipeline-trigger")
INGESTION = {"source-url": "https://example.com/handbook.pdf"}
TOKEN = "t0ken"


@pytest.fixture
async def argo() -> AsyncIterator[ArgoServer]:
    async with ArgoServer(
        {"document-ingestion": {"source-url": None, "collection": ""}}, namespace="ai", token=TOKEN
    ) as server:
        yield server


@pytest.fixture
def bridge(nats: Secured, argo: ArgoServer) -> Iterator[Callable[..., ServiceProcess]]:
    """Return what makes a replica of pipeline-bridge."""
    made: list[ServiceProcess] = []

    def make(**environ: str) -> ServiceProcess:
        settings = {"ARGO_HOST": argo.url, "ARGO_NAMESPACE": "ai", "ARGO_TOKEN": TOKEN, "RUN_LEASE": "1"}
        made.append(ServiceProcess("pipeline_bridge", {**nats.login(NAME), **settings, **environ}))
        return made[-1]

    yield make
    logs = [process.log().lower() for process in made]
    for process in made:
        process.close()
    assert not any("violation" in log for log in logs)


async def triggered(frontend: Client, request_id: str, **parameters: str) -> Heard:
    """Trigger a pipeline, and listen to what is told of it."""
    told = await frontend.listen(subjects.PIPELINE_STATUS.build(request_id=request_id))
    request = PipelineTrigger(request_id=request_id, pipeline="document-ingestion", parameters=parameters)
    await frontend.send(subjects.PIPELINE_TRIGGER.template, request)
    return told


async def told_as(told: Heard, status: str) -> list[PipelineStatus]:
    """Wait for a status, and return all that was told."""
    await told.until(lambda heard: any(PipelineStatus.FromString(m.data).status == status for m in heard), 20)
    return [PipelineStatus.FromString(message.data) for message in told.all]


async def submitted(argo: ArgoServer, number: int) -> str:
    """Wait until Argo has so many workflows, and return the newest one's name."""
    await argo.wait(lambda: len(argo.workflows.live) == number)
    return list(argo.workflows.live)[-1]


async def test_pipeline_bridge_does_all_its_work_as_its_user_and_no_permission_is_missing(
    nats: Secured, argo: ArgoServer, bridge: Callable[..., ServiceProcess]
) -> None:
    await asyncio.to_thread(bridge().start)
    async with nats.client("frontend") as frontend:
        connection = frontend.connection

        # from a trigger to its end
        told = await triggered(frontend, "r1", **INGESTION)
        name = await submitted(argo, 1)
        argo.move(name, "Running")
        await told_as(told, "running")
        argo.move(name, "Succeeded")
        every = await told_as(told, "succeeded")
        assert [one.sequence for one in every] == list(range(1, len(every) + 1))
        assert {one.run_id for one in every if one.status == "running"} == {name}

        # cancelled
        told = await triggered(frontend, "r2", **INGESTION)
        argo.move(await submitted(argo, 2), "Running")
        await told_as(told, "running")
        await frontend.send("ai.pipeline.cancel.r2", CancelRequest(reason="enough"))
        assert (await told_as(told, "failed"))[-1].error.type == "cancelled"
        assert argo.calls["stop"] == 1

        # what cannot be run is told and buried
        told = await triggered(frontend, "r3")
        assert "source-url is missing" in (await told_as(told, "error"))[-1].message

        # lists
        listed = await connection.request_bytes(subjects.PIPELINE_LIST.template, b"", timeout=5)
        assert len(PipelineListResponse.FromString(listed.data).pipelines) == 5
        answer = await connection.request(
            subjects.PIPELINE_RUNS_LIST.template, PipelineRunListRequest(), PipelineRunListResponse, timeout=5
        )
        assert isinstance(answer, PipelineRunListResponse)
        assert [run.request_id for run in answer.runs] == ["r2", "r1"]

        # what was missed is read again: the last status, and all from the first on
        subject = subjects.PIPELINE_STATUS.build(request_id="r1")
        last = await connection.request_bytes(f"$JS.API.DIRECT.GET.AI_PIPELINE.{subject}", b"", timeout=5)
        assert PipelineStatus.FromString(last.data).status == "succeeded"
        first = await connection.next_stored("AI_PIPELINE", subject, 1)
        assert first is not None
        assert PipelineStatus.FromString(first.data).status == "submitted"

        pong = await connection.request_bytes(f"$SRV.PING.{NAME}", b"", timeout=5)
        assert json.loads(pong.data)["name"] == NAME
        assert connection.status().last_error == ""
    async with nats.client("operator") as operator:
        letter = await operator.connection.last_stored("AI_DLQ", f"ai.dlq.{NAME}")
        assert letter is not None
        assert letter.headers["Dead-Letter-Subject"] == "ai.pipeline.trigger"
    assert "violation" not in nats.log().lower()


async def test_the_command_line_triggers_follows_and_cancels_as_frontend(
    nats: Secured, argo: ArgoServer, bridge: Callable[..., ServiceProcess]
) -> None:
    argo.on_submit = paced(argo, lambda: 0.05, [("Running", {}), ("Succeeded", {})])
    await asyncio.to_thread(bridge().start)
    environ = {**os.environ, **nats.login("frontend")}

    async def handlers(*words: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "handlers_cli", *words], env=environ,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in {0, 130}, done.stdout + done.stderr
        return done.stdout

    assert "succeeded" in await handlers("trigger", "document-ingestion", "source-url=x", "--id=r1")
    assert "document-ingestion" in await handlers("trigger")
    assert "r1" in await handlers("runs", "--all")
    assert "succeeded" in await handlers("runs", "r1")
    argo.on_submit = None
    assert await handlers("trigger", "document-ingestion", "source-url=x", "--id=r2", "--detach") == "r2\n"
    await submitted(argo, 2)
    assert "failed" in await handlers("runs", "r2", "--cancel")
    assert "violation" not in nats.log().lower()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["handed back", "killed"])
async def test_a_replica_takes_over_what_another_one_followed(
    nats: Secured, argo: ArgoServer, bridge: Callable[..., ServiceProcess], number: signal.Signals
) -> None:
    first, second = bridge(), bridge()
    await asyncio.to_thread(first.start)
    async with nats.client("frontend") as frontend:
        told = await triggered(frontend, "r1", **INGESTION)
        name = await submitted(argo, 1)
        argo.move(name, "Running")
        await told_as(told, "running")
        await asyncio.to_thread(second.start)
        first.signal(number)
        await asyncio.to_thread(first.wait)
        await until(lambda: "taken over" in second.log())
        argo.move(name, "Succeeded")
        assert [one.status for one in await told_as(told, "succeeded")].count("succeeded") == 1
    assert argo.workflows.created[name] == 1
    assert "violation" not in nats.log().lower()


async def test_pipeline_bridge_extends_its_streams_and_finds_its_consumers_again_and_changes_them(
    nats: Secured, bridge: Callable[..., ServiceProcess]
) -> None:
    async with nats.client("operator") as operator:
        js = operator.connection.jetstream
        for stream in STREAMS:
            await js.add_stream(name=stream, subjects=[f"old.{stream}"])
        for patience in ("15", "20"):
            process = bridge(ACK_WAIT=patience)
            await asyncio.to_thread(process.start)
            consumers = await js.consumers_info("AI_PIPELINE")
            assert sorted(one.name for one in consumers) == list(DURABLES)
            assert {one.config.ack_wait for one in consumers} == {float(patience)}
            await asyncio.to_thread(process.close)
        extended = {
            stream
            for stream, declared in STREAMS.items()
            if set(declared.subjects) <= set((await js.stream_info(stream)).config.subjects)
        }
    assert extended == {"AI_PIPELINE", "AI_DLQ"}
    assert "violation" not in nats.log().lower()


async def test_pipeline_bridge_may_settle_as_often_as_it_must(nats: Secured) -> None:
    async with nats.client(NAME) as service:
        for durable in DURABLES:
            await service.connection.publish_bytes(f"$JS.ACK.AI_PIPELINE.{durable}.1.1.1.1.1", b"")
        await service.connection.flush()
        assert service.connection.status().last_error == ""


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        (NAME, "ai.pipeline.trigger"),
        (NAME, "ai.pipeline.cancel.r1"),
        (NAME, "ai.pipeline.list"),
        (NAME, "ai.dlq.chat-handler"),
        (NAME, "$KV.chat-sessions.x"),
        (NAME, "$JS.API.STREAM.DELETE.AI_PIPELINE"),
        (NAME, "$JS.API.STREAM.PURGE.AI_PIPELINE"),
        (NAME, "$JS.API.STREAM.DELETE.KV_pipeline-runs"),
        (NAME, "$JS.API.STREAM.MSG.DELETE.KV_pipeline-runs"),
        (NAME, "$JS.API.STREAM.MSG.GET.AI_RESPONSES"),
        (NAME, "$JS.API.CONSUMER.DELETE.AI_PIPELINE.pipeline-bridge-pipeline-trigger"),
        (NAME, "$JS.API.CONSUMER.CREATE.AI_PIPELINE.spy.ai.pipeline.trigger"),
        (NAME, "$JS.API.CONSUMER.CREATE.AI_PIPELINE.pipeline-bridge-pipeline-trigger.ai.pipeline.status.*"),
        (NAME, "_INBOX_frontend.x"),
        ("frontend", "ai.pipeline.status.r1"),
        ("frontend", "$KV.pipeline-runs.x"),
        ("frontend", "$JS.API.STREAM.MSG.GET.KV_pipeline-runs"),
        ("frontend", "$JS.API.CONSUMER.CREATE.AI_PIPELINE.pipeline-bridge-pipeline-trigger.ai.pipeline.status.*"),
        ("frontend", "$JS.API.CONSUMER.DELETE.AI_PIPELINE.pipeline-bridge-pipeline-trigger"),
        ("client", "ai.pipeline.trigger"),
        ("client", "ai.pipeline.cancel.r1"),
        ("client", "ai.pipeline.runs.list"),
        ("chat-handler", "ai.pipeline.trigger"),
        ("voice-assistant", "$KV.pipeline-runs.x"),
    ],
)  # fmt: skip
async def test_may_not_publish_on(nats: Secured, user: str, subject: str) -> None:
    async with nats.client(user) as one:
        await may_not_publish(one, subject)


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        (NAME, "ai.pipeline.list"),
        (NAME, "ai.pipeline.trigger"),
        (NAME, "ai.pipeline.status.*"),
        (NAME, "$KV.>"),
        (NAME, "_INBOX_frontend.>"),
        ("frontend", "ai.pipeline.trigger"),
        ("frontend", "ai.pipeline.list"),
        ("frontend", "$KV.pipeline-runs.>"),
        ("client", "ai.pipeline.status.*"),
    ],
)
async def test_may_not_listen_to(nats: Secured, user: str, subject: str) -> None:
    async with nats.client(user) as one:
        await may_not_listen(one, subject)
