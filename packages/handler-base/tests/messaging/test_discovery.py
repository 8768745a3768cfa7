"""Service discovery as ADR-32 describes it, asked by a plain client."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.errors import NotFound
from handler_base.messaging.discovery import Discovery, EndpointStats
from handler_testkit.services import Client

if TYPE_CHECKING:
    from handler_testkit.nats import NatsServer

# ADR-32 of the NATS architecture and design documents: field → type, all required and no others.
IDENTITY = {"type": str, "name": str, "id": str, "version": str, "metadata": dict}
PING = IDENTITY
INFO = {**IDENTITY, "description": str, "endpoints": list}
INFO_ENDPOINT = {"name": str, "subject": str, "queue_group": str, "metadata": dict}
STATS = {**IDENTITY, "started": str, "endpoints": list}
STATS_ENDPOINT = {
    "name": str,
    "subject": str,
    "queue_group": str,
    "num_requests": int,
    "num_errors": int,
    "last_error": str,
    "processing_time": int,
    "average_processing_time": int,
}
SHAPES = {
    "PING": ("io.nats.micro.v1.ping_response", PING, {}),
    "INFO": ("io.nats.micro.v1.info_response", INFO, INFO_ENDPOINT),
    "STATS": ("io.nats.micro.v1.stats_response", STATS, STATS_ENDPOINT),
}
NAME = re.compile(r"[a-zA-Z0-9_-]+")
# https://semver.org, without build metadata
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")


def check(verb: str, answer: dict[str, Any]) -> None:
    """Compare an answer with the shape that ADR-32 gives it."""
    kind, shape, endpoint = SHAPES[verb]
    assert {name: type(value) for name, value in answer.items()} == shape
    assert answer["type"] == kind
    assert NAME.fullmatch(answer["name"])
    assert VERSION.fullmatch(answer["version"])
    assert all(isinstance(v, str) for v in answer["metadata"].values())
    for row in answer.get("endpoints", []):
        assert {name: type(value) for name, value in row.items()} == endpoint
        assert NAME.fullmatch(row["name"])
        assert all(isinstance(v, str) for v in row.get("metadata", {}).values())
    if verb == "STATS":
        started = datetime.fromisoformat(answer["started"])
        assert started.tzinfo is not None
        assert answer["started"].endswith("Z")


async def start(client: Client, instance: str, endpoints: list[EndpointStats]) -> Discovery:
    discovery = Discovery(
        client.connection,
        name="chat-handler",
        version="1.2.3",
        instance=instance,
        description="answers questions",
        endpoints=endpoints,
    )
    await discovery.start()
    await client.connection.flush()
    return discovery


async def ask(client: Client, subject: str) -> dict[str, Any]:
    return json.loads((await client.connection.request_bytes(subject, b"", timeout=5)).data)


def endpoint() -> EndpointStats:
    return EndpointStats("chat-request", "ai.chat.request", "chat-handler", {"delivery": "request"})


@pytest.mark.parametrize("verb", SHAPES)
@pytest.mark.parametrize("suffix", ["", ".chat-handler", ".chat-handler.one"])
async def test_every_verb_is_answered_in_the_shape_of_the_standard(
    nats: NatsServer, verb: str, suffix: str
) -> None:
    async with Client(nats.url) as service, Client(nats.url) as client:
        await start(service, "one", [endpoint()])
        answer = await ask(client, f"$SRV.{verb}{suffix}")
        check(verb, answer)
        assert (answer["name"], answer["id"], answer["version"]) == ("chat-handler", "one", "1.2.3")
        if verb == "INFO":
            assert answer["description"] == "answers questions"
            assert answer["endpoints"] == [
                {
                    "name": "chat-request",
                    "subject": "ai.chat.request",
                    "queue_group": "chat-handler",
                    "metadata": {"delivery": "request"},
                }
            ]


async def test_every_instance_answers_for_the_service_and_one_for_itself(nats: NatsServer) -> None:
    async with Client(nats.url) as one, Client(nats.url) as two, Client(nats.url) as client:
        await start(one, "one", [])
        await start(two, "two", [])
        for subject in ("$SRV.PING", "$SRV.PING.chat-handler"):
            inbox = client.connection.new_inbox()
            heard = await client.listen(inbox)
            await client.connection.publish_bytes(subject, b"", reply=inbox)
            assert {json.loads(m.data)["id"] for m in await heard.count(2)} == {"one", "two"}
        assert (await ask(client, "$SRV.PING.chat-handler.two"))["id"] == "two"
        with pytest.raises(NotFound):
            await ask(client, "$SRV.PING.chat-handler.three")
        with pytest.raises(NotFound):
            await ask(client, "$SRV.PING.other")


async def test_counters_grow_with_what_ends(nats: NatsServer) -> None:
    async with Client(nats.url) as service, Client(nats.url) as client:
        stats = endpoint()
        await start(service, "one", [stats])
        stats.ended(0.5)
        stats.ended(0.25, "upstream_timeout: the model did not answer")
        row = (await ask(client, "$SRV.STATS"))["endpoints"][0]
        assert (row["num_requests"], row["num_errors"]) == (2, 1)
        assert row["last_error"] == "upstream_timeout: the model did not answer"
        assert (row["processing_time"], row["average_processing_time"]) == (750_000_000, 375_000_000)
        stats.ended(0.0)
        row = (await ask(client, "$SRV.STATS"))["endpoints"][0]
        assert (row["num_requests"], row["num_errors"], row["average_processing_time"]) == (3, 1, 250_000_000)


async def test_a_question_without_an_inbox_is_let_pass(nats: NatsServer) -> None:
    async with Client(nats.url) as service, Client(nats.url) as client:
        await start(service, "one", [])
        await client.connection.publish_bytes("$SRV.PING", b"")
        check("PING", await ask(client, "$SRV.PING"))


async def test_the_ping_subject_reaches_this_instance_only(nats: NatsServer) -> None:
    async with Client(nats.url) as one, Client(nats.url) as two:
        discovery = await start(one, "one", [])
        await start(two, "two", [])
        answers = [await ask(two, discovery.ping_subject) for _ in range(5)]
        assert {answer["id"] for answer in answers} == {"one"}


async def test_discovery_is_back_after_a_restart(nats: NatsServer) -> None:
    async with Client(nats.url) as service:
        again = asyncio.Event()

        async def reconnected() -> None:
            again.set()

        service.connection.on_reconnect(reconnected)
        discovery = await start(service, "one", [])
        await asyncio.to_thread(nats.restart)
        await asyncio.wait_for(again.wait(), 10)
        check("PING", await ask(service, discovery.ping_subject))
