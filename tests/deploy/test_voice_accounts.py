"""The users of the voice services may do what these need, and nothing else: the deployed server and its permissions.

The services run as processes, and beside them what they are made of (`Service`, `Replay`, `KeyValue`, …) does every
kind of work that the contract gives them, so that no permission is missing when they grow.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from handler_base.config import load
from handler_base.conversation.history import HistorySettings
from handler_base.errors import InvalidRequest
from handler_base.messaging.keyvalue import KeyValue
from handler_base.messaging.replay import Replay
from handler_base.messaging.streams import STREAMS
from handler_base.service import Service, ServiceSettings
from handler_messages import (
    CancelRequest,
    STTInterrupt,
    STTStreamMessage,
    STTTranscription,
    TTSAudioChunk,
    TTSFullResponse,
    TTSRequest,
    TTSStatus,
    TTSVoiceListResponse,
    TTSVoiceRefreshResponse,
    VoiceRequest,
    VoiceResponse,
    subjects,
)
from handler_testkit.endpoints import HttpEndpoint
from handler_testkit.models import inference as models, silence, vowel
from handler_testkit.services import ServiceProcess, running

from .conftest import VOICE, may_not_listen, may_not_publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from handler_base.messaging.context import Context
    from handler_base.messaging.subscription import RawMessage
    from handler_testkit.services import Client, Heard

    from .conftest import Secured

RATE = 16_000
ROUTES = ("llm", "embeddings", "reranker", "whisper", "tts")
USES = {
    "stt-module": {"AI_VOICE_SESSIONS", "AI_VOICE_STREAM"},
    "tts-module": {"AI_VOICE_TTS"},
    "voice-assistant": {
        "AI_VOICE_REQUESTS", "AI_VOICE_SESSIONS", "AI_VOICE_STREAM", "AI_VOICE_TTS", "AI_RESPONSES",
    },
}  # fmt: skip

DURABLES = {
    "stt-module": {"stt-module-voice-session": "AI_VOICE_SESSIONS"},
    "tts-module": {"tts-module-voice-tts-request": "AI_VOICE_TTS"},
    "voice-assistant": {
        "voice-assistant-voice-user-request": "AI_VOICE_REQUESTS",
        "voice-assistant-voice-session": "AI_VOICE_SESSIONS",
    },
}


def service(nats: Secured, user: str, **environ: str) -> Service:
    """Return a service of this name, logged in as the user of the same name."""
    settings = load(ServiceSettings, {**nats.login(user), "HEALTH_PORT": "0", "MAX_ATTEMPTS": "1", **environ})
    return Service(user, "1.0.0", settings)


def stt_module(nats: Secured, **environ: str) -> Service:
    """Return what stt-module does on the bus: a session is read, written down, and may be interrupted."""
    made = service(nats, "stt-module", **environ)

    async def listen(context: Context, start: STTStreamMessage) -> None:
        if not start.sample_rate:
            raise InvalidRequest("no sample rate")
        session = context.session_id
        said = subjects.VOICE_TRANSCRIPTION.build(session_id=session)
        async with Replay(made.connection, subjects.VOICE_TRANSCRIPTION.stream, said) as finals:
            before = len(await finals.history())
        heard = 0
        audio = subjects.VOICE_STREAM.build(session_id=session)
        async with Replay(made.connection, subjects.VOICE_STREAM.stream, audio) as chunks:
            async for replayed in chunks:
                chunk = STTStreamMessage.FromString(replayed.raw.data)
                heard += len(chunk.audio)
                if chunk.type == "end":
                    break
        interrupt = STTInterrupt(session_id=session, type="barge_in")
        await context.publish(subjects.VOICE_INTERRUPT.build(session_id=session), interrupt)
        text = STTTranscription(session_id=session, text=f"{heard} bytes after {before}", is_final=True)
        await made.connection.store(said, text.SerializeToString(), msg_id=f"{session}.{before}")

    made.handle(subjects.VOICE_SESSION, listen, follows_session=True)
    made.publishes(subjects.VOICE_STREAM)
    made.publishes(subjects.VOICE_TRANSCRIPTION)
    made.cancel_on(subjects.VOICE_CANCEL)
    return made


def tts_module(nats: Secured, **environ: str) -> Service:
    """Return what tts-module does on the bus."""
    made = service(nats, "tts-module", **environ)

    async def speak(context: Context, request: TTSRequest) -> None:
        if not request.text:
            raise InvalidRequest("no text")
        status = subjects.TTS_STATUS.build(session_id=context.session_id)
        assert await made.connection.last_stored(subjects.TTS_STATUS.stream, status) is None
        audio = TTSFullResponse(session_id=context.session_id, audio=b"\0\0")
        await context.publish(subjects.TTS_AUDIO.build(session_id=context.session_id), audio, named=True)
        done = TTSStatus(session_id=context.session_id, status="completed")
        await made.connection.store(status, done.SerializeToString(), msg_id=context.request_id)

    async def voices(context: Context, _: object) -> TTSVoiceListResponse:
        return TTSVoiceListResponse(default_voice="alloy")

    async def look_again(context: Context, _: object) -> TTSVoiceRefreshResponse:
        return TTSVoiceRefreshResponse(count=1)

    made.handle(subjects.TTS_REQUEST, speak)
    made.handle(subjects.TTS_VOICES_LIST, voices)
    made.handle(subjects.TTS_VOICES_REFRESH, look_again)
    made.publishes(subjects.TTS_AUDIO)
    made.publishes(subjects.TTS_STATUS)
    for subject in (subjects.VOICE_CANCEL, subjects.CHAT_CANCEL):
        made.cancel_on(subject)
    made.interrupt_on(subjects.VOICE_INTERRUPT)
    return made


def voice_assistant(nats: Secured, **environ: str) -> Service:
    """Return what voice-assistant does on the bus: requests of both kinds, and the answers of a conversation."""
    made = service(nats, "voice-assistant", **environ)
    sessions = KeyValue(made.connection, load(HistorySettings, {}).as_bucket)

    async def answer(context: Context, request: VoiceRequest) -> VoiceResponse:
        if not request.audio:
            raise InvalidRequest("no audio")
        before = await sessions.get("voice.s")
        await sessions.put("voice.s", b"turn", before.revision if before else 0)
        chunk = TTSAudioChunk(request_id=context.request_id, audio=b"\0\0")
        await context.publish(
            subjects.VOICE_RESPONSE_STREAM.build(request_id=context.request_id), chunk, named=True
        )
        return VoiceResponse(request_id=context.request_id, response="Hello.", user_id=context.user_id)

    async def converse(context: Context, start: STTStreamMessage) -> None:
        session = context.session_id
        state = STTStreamMessage(session_id=session, type="state", state="responding")
        await context.publish(subjects.VOICE_STREAM.build(session_id=session), state)
        said = subjects.VOICE_TRANSCRIPTION.build(session_id=session)
        async with Replay(made.connection, subjects.VOICE_TRANSCRIPTION.stream, said) as finals:
            text = STTTranscription.FromString((await finals.next(10)).raw.data).text
        audio = TTSAudioChunk(session_id=session, audio=text.encode())
        await context.publish(subjects.TTS_AUDIO.build(session_id=session), audio, named=True)
        status = subjects.TTS_STATUS.build(session_id=session)
        assert await made.connection.last_stored(subjects.TTS_STATUS.stream, status) is None
        done = TTSStatus(session_id=session, status="completed")
        await made.connection.store(status, done.SerializeToString(), msg_id=session)

    made.handle(subjects.VOICE_REQUEST, answer, response=subjects.VOICE_PLAIN_RESPONSE)
    made.handle(subjects.VOICE_USER_REQUEST, answer, response=subjects.VOICE_RESPONSE)
    made.handle(subjects.VOICE_SESSION, converse, follows_session=True)
    for subject in (subjects.VOICE_TRANSCRIPTION, subjects.TTS_AUDIO, subjects.TTS_STATUS):
        made.publishes(subject)
    for subject in (subjects.VOICE_CANCEL, subjects.CHAT_CANCEL):
        made.cancel_on(subject)
    made.interrupt_on(subjects.VOICE_INTERRUPT)
    made.on_start(sessions.prepare)
    return made


MADE: dict[str, Callable[..., Service]] = {
    "stt-module": stt_module,
    "tts-module": tts_module,
    "voice-assistant": voice_assistant,
}


async def dead_letters(nats: Secured) -> list[str]:
    """Return what is buried, by the subjects it came on."""
    async with nats.client("operator") as operator:
        js = operator.connection.jetstream
        number = (await js.stream_info("AI_DLQ")).state.messages
        letters = [await js.get_msg("AI_DLQ", seq=seq) for seq in range(1, number + 1)]
        return [letter.headers["Dead-Letter-Subject"] for letter in letters]


@pytest.mark.parametrize("name", VOICE)
async def test_the_service_is_ready_as_its_user_and_no_permission_is_missing(
    nats: Secured, name: str
) -> None:
    async with HttpEndpoint(models()) as endpoint:
        urls = {f"{route.upper()}_URL": f"{endpoint.url}/{route}" for route in ROUTES}
        environ = {**nats.login(name), **urls, "ENABLE_RAG": "false"}
        process = ServiceProcess(name.replace("-", "_"), environ)
        try:
            await asyncio.to_thread(process.start)
            async with nats.client("frontend") as frontend:
                pong = await frontend.connection.request_bytes(f"$SRV.PING.{name}", b"", timeout=5)
                assert json.loads(pong.data)["name"] == name
            assert "violation" not in process.log().lower()
        finally:
            process.close()
    assert "violation" not in nats.log().lower()


@pytest.mark.parametrize("name", VOICE)
async def test_a_service_finds_its_consumers_again_and_changes_them_and_extends_its_streams(
    nats: Secured, name: str
) -> None:
    async with nats.client("operator") as operator:
        js = operator.connection.jetstream
        # Streams that lack the subjects, as an operator or an older version may have made them.
        for stream in STREAMS:
            await js.add_stream(name=stream, subjects=[f"old.{stream}"])
        for patience in ("15", "20"):
            async with running(MADE[name](nats, ACK_WAIT=patience)):
                waits = {
                    found.name: found.config.ack_wait
                    for stream in set(DURABLES[name].values())
                    for found in await js.consumers_info(stream)
                    if found.name in DURABLES[name]
                }
                assert waits == dict.fromkeys(DURABLES[name], float(patience))
        extended = {
            stream
            for stream, declared in STREAMS.items()
            if set(declared.subjects) <= set((await js.stream_info(stream)).config.subjects)
        }
        assert extended == USES[name] | {"AI_DLQ"}
    assert "violation" not in nats.log().lower()


async def test_stt_module_reads_a_long_session_and_what_was_written_of_it(nats: Secured) -> None:
    async with running(stt_module(nats)), nats.client("frontend") as frontend:
        said = await frontend.listen("ai.voice.transcription.s1")
        interrupts = await frontend.listen("ai.voice.interrupt.*")
        # More than an ordered consumer takes without flow control.
        for number in range(100):
            chunk = STTStreamMessage(type="chunk", sequence=number, audio=bytes(64 * 1024))
            await frontend.send("ai.voice.stream.s1", chunk)
        await frontend.send("ai.voice.stream.s1", STTStreamMessage(type="end", sequence=100))
        start = STTStreamMessage(session_id="s1", type="start", sample_rate=16000)
        for number in range(2):
            await frontend.send("ai.voice.session.s1", start)
            final = STTTranscription.FromString((await said.next(30)).data)
            assert final.text == f"{100 * 64 * 1024} bytes after {number}"
        assert STTInterrupt.FromString((await interrupts.next()).data).session_id == "s1"
        stopped = await frontend.connection.request(
            "ai.voice.cancel.r9", CancelRequest(session_id="s9"), CancelRequest, timeout=5
        )
        assert isinstance(stopped, CancelRequest)
        await frontend.send("ai.voice.session.s2", STTStreamMessage(session_id="s2", type="start"))
        await buried(nats, "ai.voice.session.s2")
    async with nats.client("operator") as operator:
        js = operator.connection.jetstream
        assert [c.name for c in await js.consumers_info("AI_VOICE_STREAM")] == []
    assert "violation" not in nats.log().lower()


@pytest.mark.parametrize("user", VOICE)
async def test_a_service_may_settle_and_go_on_as_often_as_it_must(nats: Secured, user: str) -> None:
    # One answer to a message may always be sent; heartbeats are more, and a stalled replay names its place in a header.
    ours = [f"$JS.ACK.{stream}.{durable}.1.1.1.1.1" for durable, stream in DURABLES[user].items()]
    if user != "tts-module":
        ours.append("$JS.FC.AI_VOICE_STREAM.consumer.x")
    async with nats.client(user) as one:
        for subject in ours:
            await one.connection.publish_bytes(subject, b"")
        await one.connection.flush()
        assert one.connection.status().last_error == ""


async def buried(nats: Secured, subject: str) -> None:
    async with asyncio.timeout(10):
        while await dead_letters(nats) != [subject]:
            await asyncio.sleep(0.05)


async def test_tts_module_speaks_lists_voices_and_buries_what_it_cannot_say(nats: Secured) -> None:
    async with running(tts_module(nats)), nats.client("frontend") as frontend:
        audio = await frontend.listen("ai.voice.tts.audio.*")
        statuses = await frontend.listen("ai.voice.tts.status.*")
        await frontend.send("ai.voice.tts.request.s1", TTSRequest(request_id="r1", text="Hello."))
        assert TTSFullResponse.FromString((await audio.next()).data).audio == b"\0\0"
        assert TTSStatus.FromString((await statuses.next()).data).status == "completed"
        for subject, kind in (
            ("ai.voice.tts.voices.list", TTSVoiceListResponse),
            ("ai.voice.tts.voices.refresh", TTSVoiceRefreshResponse),
        ):
            answer = await frontend.connection.request_bytes(subject, b"", timeout=5)
            assert kind.FromString(answer.data).ListFields()
        await frontend.connection.publish("ai.voice.interrupt.s1", STTInterrupt(session_id="s1"))
        await frontend.send("ai.voice.tts.request.s2", TTSRequest(request_id="r2"))
        await buried(nats, "ai.voice.tts.request.s2")
        again = await frontend.connection.request_bytes(
            "$JS.API.DIRECT.GET.AI_VOICE_TTS.ai.voice.tts.status.s1", b"", timeout=5
        )
        assert TTSStatus.FromString(again.data).status == "completed"
        assert frontend.connection.status().last_error == ""
    async with running(tts_module(nats)), nats.client("client") as client:
        answer = await client.connection.request_bytes("ai.voice.tts.voices.list", b"", timeout=5)
        assert TTSVoiceListResponse.FromString(answer.data).default_voice == "alloy"
    assert "violation" not in nats.log().lower()


async def test_voice_assistant_answers_requests_of_both_kinds_and_keeps_the_conversation(
    nats: Secured,
) -> None:
    minute = bytes(60 * 48_000 * 2)
    async with running(voice_assistant(nats)):
        for user in ("frontend", "client"):
            async with nats.client(user) as asker:
                # A minute as it was recorded fits into one message.
                asked = VoiceRequest(request_id=f"{user}1", audio=minute)
                answer = await asker.connection.request("voice.request", asked, VoiceResponse, timeout=20)
                assert isinstance(answer, VoiceResponse)
                assert answer.response == "Hello."
                assert asker.connection.status().last_error == ""
        async with nats.client("frontend") as frontend:
            pieces = await frontend.listen("ai.voice.response.stream.*")
            answers = await frontend.listen("ai.voice.response.*")
            await frontend.send("ai.voice.user.ada.request", VoiceRequest(request_id="d1", audio=b"\0\0"))
            assert VoiceResponse.FromString((await answers.next()).data).user_id == "ada"
            assert TTSAudioChunk.FromString((await pieces.next()).data).audio == b"\0\0"

            # answered in the inbox that the message names
            inbox = frontend.connection.new_inbox()
            heard = await frontend.listen(inbox)
            there = VoiceRequest(request_id="d2", audio=b"\0\0", response_subject=inbox)
            await frontend.send("ai.voice.user.ada.request", there)
            assert VoiceResponse.FromString((await heard.next()).data).request_id == "d2"

            await frontend.send("ai.voice.user.ada.request", VoiceRequest(request_id="d3"))
            await buried(nats, "ai.voice.user.ada.request")
            assert frontend.connection.status().last_error == ""
    async with nats.client("operator") as operator:
        held = await operator.connection.jetstream.stream_info("KV_chat-sessions")
        assert held.state.messages == 1
    assert "violation" not in nats.log().lower()


async def test_a_conversation_goes_from_speech_to_speech(nats: Secured) -> None:
    async with (
        running(stt_module(nats)),
        running(voice_assistant(nats)),
        nats.client("frontend") as frontend,
    ):
        audio = await frontend.listen("ai.voice.tts.audio.s1")
        states = await frontend.listen("ai.voice.stream.s1")
        start = STTStreamMessage(session_id="s1", type="start", sample_rate=16000)
        await frontend.send("ai.voice.session.s1", start)
        await _states(states)
        await frontend.send("ai.voice.stream.s1", STTStreamMessage(type="end", audio=b"\0\0"))
        assert TTSAudioChunk.FromString((await audio.next()).data).audio == b"2 bytes after 0"
    assert "violation" not in nats.log().lower()


async def test_the_services_themselves_do_all_their_work_and_no_permission_is_missing(nats: Secured) -> None:
    async with HttpEndpoint(models()) as endpoint:
        urls = {f"{route.upper()}_URL": f"{endpoint.url}/{route}" for route in ROUTES}
        processes = [
            ServiceProcess(name.replace("-", "_"), {**nats.login(name), **urls, "ENABLE_RAG": "false"})
            for name in VOICE
        ]
        try:
            await asyncio.gather(*(asyncio.to_thread(process.start) for process in processes))
            async with nats.client("frontend") as frontend:
                await _everything(frontend)
                assert frontend.connection.status().last_error == ""
            for process in processes:
                assert "violation" not in process.log().lower()
        finally:
            for process in processes:
                process.close()
    assert "violation" not in nats.log().lower()


async def _everything(frontend: Client) -> None:
    """Ask each service for each of its kinds of work."""
    # a text
    statuses = await frontend.listen("ai.voice.tts.status.text")
    await frontend.send("ai.voice.tts.request.text", TTSRequest(request_id="t1", text="Hello.", stream=True))
    await statuses.until(lambda said: _last(said) == "completed")
    voices = await frontend.connection.request_bytes("ai.voice.tts.voices.refresh", b"", timeout=5)
    TTSVoiceRefreshResponse.FromString(voices.data)

    # a message, by both ways
    asked = VoiceRequest(request_id="v1", audio=silence(1.0), format="wav", session_id="v")
    answer = await frontend.connection.request("voice.request", asked, VoiceResponse, timeout=20)
    assert isinstance(answer, VoiceResponse)
    assert answer.response
    answers = await frontend.listen("ai.voice.response.v2")
    asked.request_id, asked.stream = "v2", True
    await frontend.send("ai.voice.user.ada.request", asked)
    assert VoiceResponse.FromString((await answers.next(20)).data).response

    # a conversation, interrupted while it speaks
    audio = await frontend.listen("ai.voice.tts.audio.talk")
    finals = await frontend.listen("ai.voice.transcription.talk")
    start = STTStreamMessage(session_id="talk", type="start", sample_rate=RATE, user_id="ada")
    await frontend.send("ai.voice.session.talk", start)
    sound = vowel(1.0, RATE) + bytes(2 * RATE * 2)
    for number, at in enumerate(range(0, len(sound), RATE // 5)):
        chunk = STTStreamMessage(
            type="chunk", sequence=number, audio=sound[at : at + RATE // 5], sample_rate=RATE
        )
        await frontend.send("ai.voice.stream.talk", chunk)
    await finals.until(lambda said: any(STTTranscription.FromString(m.data).is_final for m in said), 20)
    await audio.next(20)
    await frontend.connection.publish("ai.voice.interrupt.talk", STTInterrupt(session_id="talk"))
    end = STTStreamMessage(type="end", sequence=len(sound) // (RATE // 5) + 1)
    await frontend.send("ai.voice.stream.talk", end)
    await finals.until(lambda said: STTTranscription.FromString(said[-1].data).session_end, 20)


def _last(said: list[RawMessage]) -> str:
    return TTSStatus.FromString(said[-1].data).status if said else ""


async def _states(heard: Heard) -> None:
    await heard.until(lambda all_: any(STTStreamMessage.FromString(m.data).type == "state" for m in all_))


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("stt-module", "ai.voice.session.s1"),
        ("stt-module", "ai.voice.tts.audio.s1"),
        ("stt-module", "ai.dlq.tts-module"),
        ("stt-module", "$JS.API.STREAM.DELETE.AI_VOICE_SESSIONS"),
        ("stt-module", "$JS.API.CONSUMER.DELETE.AI_VOICE_SESSIONS.voice-assistant-voice-session"),
        ("stt-module", "$JS.API.CONSUMER.MSG.NEXT.AI_VOICE_SESSIONS.voice-assistant-voice-session"),
        ("stt-module", "$JS.API.CONSUMER.CREATE.AI_VOICE_SESSIONS.spy.ai.voice.session.*"),
        ("stt-module", "$JS.API.CONSUMER.CREATE.AI_VOICE_TTS.spy.ai.voice.tts.audio.s1"),
        ("stt-module", "$KV.chat-sessions.x"),
        ("tts-module", "ai.voice.tts.request.s1"),
        ("tts-module", "ai.voice.transcription.s1"),
        ("tts-module", "ai.voice.interrupt.s1"),
        ("tts-module", "$JS.API.CONSUMER.CREATE.AI_VOICE_STREAM.spy.ai.voice.stream.s1"),
        ("tts-module", "$JS.API.STREAM.MSG.GET.AI_RESPONSES"),
        ("voice-assistant", "voice.request"),
        ("voice-assistant", "ai.voice.user.ada.request"),
        ("voice-assistant", "ai.voice.session.s1"),
        ("voice-assistant", "ai.voice.transcription.s1"),
        ("voice-assistant", "ai.chat.response.r1"),
        ("voice-assistant", "ai.dlq.chat-handler"),
        ("voice-assistant", "$JS.API.CONSUMER.CREATE.AI_VOICE_STREAM.spy.ai.voice.stream.s1"),
        ("voice-assistant", "$JS.API.CONSUMER.MSG.NEXT.AI_VOICE_SESSIONS.stt-module-voice-session"),
        ("voice-assistant", "_INBOX_client.x"),
        ("frontend", "ai.voice.transcription.s1"),
        ("frontend", "ai.voice.tts.audio.s1"),
        ("frontend", "ai.voice.response.r1"),
        ("frontend", "voice.response.r1"),
        ("client", "ai.voice.user.ada.request"),
        ("client", "ai.voice.session.s1"),
        ("client", "ai.voice.stream.s1"),
        ("client", "ai.voice.interrupt.s1"),
        ("client", "ai.voice.tts.voices.refresh"),
    ],
)
async def test_may_not_publish_on(nats: Secured, user: str, subject: str) -> None:
    async with nats.client(user) as one:
        await may_not_publish(one, subject)


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("stt-module", "ai.voice.stream.*"),
        ("stt-module", "ai.voice.tts.audio.*"),
        ("stt-module", "_INBOX_frontend.>"),
        ("tts-module", "ai.voice.tts.request.*"),
        ("tts-module", "ai.voice.tts.voices.list"),
        ("tts-module", "ai.voice.stream.*"),
        ("voice-assistant", "voice.request"),
        ("voice-assistant", "ai.voice.stream.*"),
        ("voice-assistant", "ai.voice.transcription.*"),
        ("voice-assistant", "ai.chat.request"),
        ("voice-assistant", ">"),
        ("frontend", "voice.request"),
        ("frontend", "ai.voice.session.*"),
        ("frontend", "ai.voice.user.*.request"),
        ("client", "ai.voice.transcription.*"),
        ("client", "ai.voice.tts.audio.*"),
        ("client", "ai.voice.response.*"),
        ("client", "voice.response.*"),
    ],
)
async def test_may_not_listen_to(nats: Secured, user: str, subject: str) -> None:
    async with nats.client(user) as one:
        await may_not_listen(one, subject)
