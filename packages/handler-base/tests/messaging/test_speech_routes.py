"""What speech needs of a service: errors told by the handler's own means, interrupts, requests that carry nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.config import load
from handler_base.errors import InvalidRequest, MessagingError, NotFound, UpstreamUnavailable
from handler_base.messaging import wire
from handler_base.service import Service, ServiceSettings
from handler_messages import (
    CancelRequest,
    ErrorResponse,
    STTInterrupt,
    TTSRequest,
    TTSVoiceListResponse,
    subjects,
)
from handler_testkit.services import Client, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.context import Context
    from handler_testkit.nats import NatsServer

REQUEST = "ai.voice.tts.request.s1"


class Failures:
    """Keeps what `failed` is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Context, ErrorResponse]] = []
        self.came = asyncio.Event()
        self.broken = 0

    async def __call__(self, context: Context, error: ErrorResponse) -> None:
        if self.broken:
            self.broken -= 1
            raise MessagingError("the status was not stored")
        self.told.append((context, error))
        self.came.set()

    async def next(self) -> tuple[Context, ErrorResponse]:
        async with asyncio.timeout(10):
            await self.came.wait()
        self.came.clear()
        return self.told[-1]


def make(
    nats: NatsServer,
    handler: Callable[[Context, TTSRequest], Awaitable[None]],
    failed: Failures | None = None,
    *,
    follows_session: bool = False,
) -> Service:
    settings = load(
        ServiceSettings,
        {"NATS_URL": nats.url, "HEALTH_PORT": "0", "RETRY_DELAY": "0.02", "MAX_ATTEMPTS": "3"},
    )
    service = Service("voice", "1.0.0", settings)
    service.handle(subjects.TTS_REQUEST, handler, failed=failed, follows_session=follows_session)  # type: ignore[arg-type]
    service.cancel_on(subjects.VOICE_CANCEL)
    service.interrupt_on(subjects.VOICE_INTERRUPT)
    return service


async def until_gone(client: Client) -> None:
    """Wait until every message has its verdict."""
    async with asyncio.timeout(10):
        while True:
            info = await client.connection.jetstream.consumer_info("AI_VOICE_TTS", "voice-voice-tts-request")
            if not (info.num_ack_pending or info.num_pending):
                return
            await asyncio.sleep(0.01)


async def test_the_error_that_ends_a_request_is_told_once_after_the_last_attempt(nats: NatsServer) -> None:
    attempts: list[int] = []

    async def failing(context: Context, request: TTSRequest) -> None:
        attempts.append(context.attempt)
        raise UpstreamUnavailable("the voice is away")

    failed = Failures()
    async with Client(nats.url) as client, running(make(nats, failing, failed)):
        dead = await client.listen("ai.dlq.voice")
        await client.send(REQUEST, TTSRequest(request_id="r1", text="a"))
        context, error = await failed.next()
        await dead.next()
        await until_gone(client)
    assert attempts == [1, 2, 3]
    assert len(failed.told) == 1
    assert (context.request_id, context.session_id, context.attempt) == ("r1", "s1", 3)
    assert (error.type, error.message, error.request_id) == (
        "upstream_unavailable",
        "the voice is away",
        "r1",
    )


async def test_success_tells_no_error_and_a_request_knows_its_place_in_the_stream(nats: NatsServer) -> None:
    done = asyncio.Event()
    places: list[tuple[int, float]] = []

    async def speak(context: Context, request: TTSRequest) -> None:
        places.append((context.sequence, context.published))
        if len(places) == 2:
            done.set()

    failed = Failures()
    async with Client(nats.url) as client, running(make(nats, speak, failed)), asyncio.timeout(10):
        await client.send(REQUEST, TTSRequest(text="a"))
        await client.send(REQUEST, TTSRequest(text="b"))
        await done.wait()
        await until_gone(client)
    assert [sequence for sequence, _ in places] == [1, 2]
    assert 0 < places[0][1] <= places[1][1]
    assert failed.told == []


async def test_an_error_that_could_not_be_told_is_told_by_the_next_attempt(nats: NatsServer) -> None:
    async def refusing(context: Context, request: TTSRequest) -> None:
        raise InvalidRequest("no")

    failed = Failures()
    failed.broken = 1
    async with Client(nats.url) as client, running(make(nats, refusing, failed)):
        await client.send(REQUEST, TTSRequest(request_id="r1"))
        context, error = await failed.next()
        await until_gone(client)
    assert (context.attempt, error.type) == (2, "invalid_request")


@pytest.mark.parametrize(
    ("data", "headers", "type_"),
    [
        (b"\xff\xff", {}, "invalid_request"),
        (b"{", {"Content-Type": "application/json"}, "invalid_request"),
        (b"", {"Content-Type": "text/html"}, "unsupported_content_type"),
        (TTSRequest(session_id="s2").SerializeToString(), {}, "forbidden"),
        (TTSRequest(request_id="a b").SerializeToString(), {}, "invalid_request"),
    ],
)
async def test_an_error_is_told_to_the_session_of_the_subject_whatever_the_payload_says(
    nats: NatsServer, data: bytes, headers: dict[str, str], type_: str
) -> None:
    async def never(context: Context, request: TTSRequest) -> None:
        raise AssertionError

    failed = Failures()
    async with Client(nats.url) as client, running(make(nats, never, failed)):
        await client.connection.store(REQUEST, data, msg_id="1", headers=headers)
        context, error = await failed.next()
    assert (context.session_id, context.request_id) == ("s1", "AI_VOICE_TTS-1")
    assert error.type == type_


async def test_a_subject_without_a_usable_session_is_told_to_nobody_in_particular(nats: NatsServer) -> None:
    async def never(context: Context, request: TTSRequest) -> None:
        raise AssertionError

    failed = Failures()
    async with Client(nats.url) as client, running(make(nats, never, failed)):
        await client.connection.store("ai.voice.tts.request." + "x" * 200, b"", msg_id="1")
        context, error = await failed.next()
    assert (context.session_id, error.type) == ("", "invalid_request")


async def test_without_a_place_for_errors_a_dead_letter_is_all(nats: NatsServer) -> None:
    async def refusing(context: Context, request: TTSRequest) -> None:
        raise InvalidRequest("no")

    async with Client(nats.url) as client, running(make(nats, refusing)):
        dead = await client.listen("ai.dlq.voice")
        await client.send(REQUEST, TTSRequest(request_id="r1"))
        assert ((await dead.next()).headers or {})["Dead-Letter-Type"] == "invalid_request"
        await until_gone(client)


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"", {}),
        (STTInterrupt(session_id="another", type="barge_in").SerializeToString(), {}),
        (b"{}", {"Content-Type": "application/json"}),
        (b"", {"Content-Type": "application/json"}),
        (b"\xff", {"Content-Type": "nonsense/x"}),
    ],
)
async def test_an_interrupt_stops_whoever_speaks_for_the_session_of_its_subject(
    nats: NatsServer, data: bytes, headers: dict[str, str]
) -> None:
    speaking = asyncio.Event()

    async def speak(context: Context, request: TTSRequest) -> None:
        speaking.set()
        await asyncio.Event().wait()

    failed = Failures()
    async with Client(nats.url) as client, running(make(nats, speak, failed)):
        await client.send(REQUEST, TTSRequest(request_id="r1"))
        async with asyncio.timeout(10):
            await speaking.wait()
        await client.connection.publish_bytes("ai.voice.interrupt." + "x" * 200, data, headers)
        await client.connection.publish_bytes("ai.voice.interrupt.s1", data, headers)
        _, error = await failed.next()
    assert (error.type, error.message) == ("cancelled", "cancelled: somebody began to speak")


async def test_an_interrupt_is_news_to_work_that_follows_the_session_and_a_cancel_its_end(
    nats: NatsServer,
) -> None:
    heard: asyncio.Queue[STTInterrupt] = asyncio.Queue()
    speaking = asyncio.Event()

    async def follow(context: Context, request: TTSRequest) -> None:
        context.on_interrupt = heard.put_nowait
        speaking.set()
        await asyncio.Event().wait()

    failed = Failures()
    async with Client(nats.url) as client, running(make(nats, follow, failed, follows_session=True)):
        await client.send(REQUEST, TTSRequest(request_id="r1"))
        async with asyncio.timeout(10):
            await speaking.wait()
            await client.connection.publish(
                "ai.voice.interrupt.s1", STTInterrupt(type="barge_in", start_ms=5)
            )
            interrupt = await heard.get()
        assert (interrupt.session_id, interrupt.type, interrupt.start_ms) == ("s1", "barge_in", 5)
        assert failed.told == []
        await client.connection.publish("ai.voice.cancel.r1", CancelRequest())
        _, error = await failed.next()
    assert error.type == "cancelled"


@pytest.mark.parametrize("kind", [wire.PROTOBUF, wire.JSON, wire.MSGPACK])
async def test_a_subject_that_carries_nothing_is_asked_with_nothing_in_any_format(
    nats: NatsServer, kind: str
) -> None:
    settings = load(ServiceSettings, {"NATS_URL": nats.url, "HEALTH_PORT": "0"})
    service = Service("voice", "1.0.0", settings)

    async def voices(context: Context, request: Any) -> TTSVoiceListResponse:
        return TTSVoiceListResponse(default_voice=context.request_id and "amy")

    service.handle(subjects.TTS_VOICES_LIST, voices)
    async with Client(nats.url) as client, running(service):
        ask = client.connection.request_bytes
        reply = await ask("ai.voice.tts.voices.list", b"", timeout=5, headers={"Content-Type": kind})
        assert wire.content_type(reply.headers) == kind
        assert wire.decode(TTSVoiceListResponse, reply.data, kind).default_voice == "amy"
        reply = await ask("ai.voice.tts.voices.list", b"\xc1", timeout=5, headers={"Content-Type": kind})
        assert (reply.headers or {})["Error-Type"] == "invalid_request"


async def test_an_error_of_such_a_subject_comes_on_the_inbox(nats: NatsServer) -> None:
    settings = load(ServiceSettings, {"NATS_URL": nats.url, "HEALTH_PORT": "0"})
    service = Service("voice", "1.0.0", settings)

    async def voices(context: Context, request: Any) -> TTSVoiceListResponse:
        raise NotFound("there are none")

    service.handle(subjects.TTS_VOICES_LIST, voices)
    async with Client(nats.url) as client, running(service):
        reply = await client.connection.request_bytes("ai.voice.tts.voices.list", b"", timeout=5)
        assert ErrorResponse.FromString(reply.data).message == "there are none"
