"""One trace from the request through the voice to the audio, the time to the first of it, and no text in the logs."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from handler_messages import TTSRequest
from handler_testkit.endpoints import answering, in_turn
from handler_testkit.otlp import otlp_collector
from handler_testkit.services import ServiceProcess
from handler_testkit.speaking import spelling

if TYPE_CHECKING:
    from conftest import Stack

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "the password is swordfish"
SUBJECT = "ai.voice.tts.request.{session_id}"


async def test_speech_is_seen_from_outside_and_its_text_is_not(stack: Stack) -> None:
    stack.voice(in_turn(answering({"error": {"message": "loading"}}, 503), spelling()))
    with otlp_collector() as collector:
        environ = stack.environ(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, LOG_FORMAT="json")
        del environ["HEALTH_PORT"]
        process = ServiceProcess("tts_module", environ)
        try:
            await asyncio.to_thread(process.start)
            session = await stack.session()
            request = TTSRequest(request_id="r1", text=SECRET, stream=True)
            await stack.client.send("ai.voice.tts.request.s1", request, traceparent=f"00-{TRACE}-{CALLER}-01")
            await session.ended("r1")
            await session.say("r2", SECRET, speaker=SECRET, format=SECRET)
            await session.ended("r2")
            process.signal(signal.SIGTERM)  # delivers what is recorded
            assert await asyncio.to_thread(process.wait) == 0
            log = process.log()
        finally:
            await asyncio.to_thread(process.close)
        spans = [span for span in collector.spans if span.trace_id == TRACE]
        processed = [span for span in spans if span.name == f"{SUBJECT} process"]
        assert [(s.parent_id, s.failed, s.attributes["handler.attempt"]) for s in processed] == [
            (CALLER, True, 1),
            (CALLER, False, 2),
        ]
        assert [s.parent_id for s in spans if s.name == "POST tts"] == [s.span_id for s in processed]
        for message in session.heard.all:
            if ".request." not in message.subject and b"r1" in message.data:
                assert (message.headers or {})["traceparent"].split("-")[1] == TRACE
        point = collector.metric("handler.first_audio").point()
        assert point is not None
        assert int(point["count"]) == 1
        point = collector.metric("handler.request.duration").point(
            subject=SUBJECT, error="upstream_unavailable"
        )
        assert point is not None
        assert int(point["count"]) == 1
        assert SECRET not in log
        assert SECRET not in repr((collector.spans, collector.metrics))
