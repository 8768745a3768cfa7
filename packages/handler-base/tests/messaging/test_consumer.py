"""The pull consumer when somebody else changes what it stands on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from handler_base.config import load
from handler_base.errors import InvalidRequest, MessagingError
from handler_base.service import Service, ServiceSettings
from handler_messages import ChatRequest, ChatResponse, subjects
from handler_testkit.services import Client, running

if TYPE_CHECKING:
    from handler_base.messaging.context import Context
    from handler_testkit.nats import NatsServer

MESSAGE = "ai.chat.user.ada.message"
STREAM, CONSUMER = "COMPANIONS_CHAT", "chat-handler-chat-user-message"


async def answer(context: Context, request: ChatRequest) -> ChatResponse:
    if request.message == "bad":
        raise InvalidRequest("no")
    return ChatResponse(request_id=context.request_id, response=request.message)


def make(nats: NatsServer, **environ: str) -> Service:
    settings = load(
        ServiceSettings,
        {
            "NATS_URL": nats.url,
            "HEALTH_PORT": "0",
            "RETRY_DELAY": "0.05",
            "RETRY_DELAY_MAX": "0.1",
            **environ,
        },
    )
    service = Service("chat-handler", "1.0.0", settings)
    service.handle(subjects.CHAT_USER_MESSAGE, answer, response=subjects.CHAT_RESPONSE)
    return service


async def config_of(client: Client) -> Any:
    return (await client.connection.jetstream.consumer_info(STREAM, CONSUMER)).config


async def send(client: Client, request_id: str, message: str) -> None:
    """Send a message; its stream may be on the way back."""
    async with asyncio.timeout(10):
        while True:
            try:
                await client.send(MESSAGE, ChatRequest(request_id=request_id, message=message))
            except MessagingError:
                continue
            return


@pytest.mark.parametrize("how", ["deleted", "purged"])
@pytest.mark.parametrize("stream", ["AI_RESPONSES", "AI_DLQ", STREAM])
async def test_work_goes_on_after_somebody_has_removed_what_a_stream_held(
    nats: NatsServer, how: str, stream: str
) -> None:
    async with Client(nats.url) as client, running(make(nats)):
        js = client.connection.jetstream
        answers = await client.listen("ai.chat.response.*")
        await send(client, "before", "good")
        await answers.next()
        await (js.delete_stream(stream) if how == "deleted" else js.purge_stream(stream))
        await send(client, "refused", "bad")
        assert ((await answers.next()).headers or {})["Error-Type"] == "invalid_request"
        await send(client, "after", "good")
        assert (await answers.next()).subject.endswith("after")
        assert (await js.get_last_msg("AI_DLQ", "ai.dlq.chat-handler")).headers["Dead-Letter-Reason"] == "no"


async def test_other_settings_take_effect_on_a_consumer_that_exists(nats: NatsServer) -> None:
    async with Client(nats.url) as client:
        async with running(make(nats)):
            await client.send(MESSAGE, ChatRequest(request_id="r1", message="good"))
        async with running(make(nats, ACK_WAIT="60", DURABLE_IN_FLIGHT="500")):
            config = await config_of(client)
        assert (config.ack_wait, config.max_ack_pending) == (60, 2000)
        assert config.filter_subject == "ai.chat.user.*.message"


async def test_a_consumer_that_refuses_our_orders_is_named_by_the_probe(nats: NatsServer) -> None:
    service = make(nats, DURABLE_IN_FLIGHT="4")
    async with Client(nats.url) as client, running(service):
        changed = {"stream_name": STREAM, "config": {**(await config_of(client)).as_dict(), "max_batch": 1}}
        api = f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.{CONSUMER}"
        reply = await client.connection.request_bytes(api, json.dumps(changed).encode(), timeout=5)
        assert "error" not in msgspec.json.decode(reply.data)
        async with asyncio.timeout(10):
            while not any("Exceeded MaxRequestBatch" in line for line in await service.missing()):
                # What was ordered before is still delivered; the next order asks for more than one.
                await client.send(MESSAGE, ChatRequest(message="good"))
