"""One trace from what was said through every endpoint to the sound, the time to the first of it, and no words in the logs."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from handler_base.audio import wav
from handler_base.messaging import wire
from handler_messages import STTTranscription, VoiceRequest, VoiceResponse
from handler_testkit.otlp import otlp_collector
from handler_testkit.services import ServiceProcess
from handler_testkit.voice import RATE, tone, transcribes

if TYPE_CHECKING:
    from conftest import Session, Stack

TRACE, OTHER, CALLER = (
    "0af7651916cd43dd8448eb211c80319c",
    "1bf7651916cd43dd8448eb211c80319d",
    "b7ad6b7169203331",
)
SECRET = "the password is swordfish"
STEPS = {"POST llm", "POST tts"}


async def test_a_question_and_an_answer_are_seen_from_outside_and_their_words_are_not(
    stack: Stack, session: Session
) -> None:
    stack.stt(transcribes(SECRET))
    with otlp_collector() as collector:
        environ = stack.environ(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, LOG_FORMAT="json")
        del environ["HEALTH_PORT"]
        process = ServiceProcess("voice_assistant", environ)
        try:
            await asyncio.to_thread(process.start)
            request = VoiceRequest(request_id="r1", audio=wav(tone(1, 100), RATE))
            reply = await stack.client.connection.request_bytes(
                "voice.request",
                wire.encode(request),
                timeout=15,
                headers={"traceparent": f"00-{TRACE}-{CALLER}-01"},
            )
            assert VoiceResponse.FromString(reply.data).transcription == SECRET
            await session.open(user_id="ada")
            said = STTTranscription(session_id=session.id, text=SECRET, is_final=True)
            await stack.client.send(
                f"ai.voice.transcription.{session.id}", said, traceparent=f"00-{OTHER}-{CALLER}-01"
            )
            await session.until_status("completed")
            await session.end()
            process.signal(signal.SIGTERM)  # delivers what is recorded
            assert await asyncio.to_thread(process.wait) == 0
            log = process.log()
        finally:
            await asyncio.to_thread(process.close)
        one = [span for span in collector.spans if span.trace_id == TRACE]
        processed = next(span for span in one if span.name == "voice.request process")
        assert processed.parent_id == CALLER
        assert {*STEPS, "POST stt"} <= {span.name for span in one if span.parent_id == processed.span_id}
        assert "POST embeddings" in {span.name for span in one}
        turn = [span for span in collector.spans if span.trace_id == OTHER]
        answer = next(span for span in turn if span.name == "voice answer")
        assert (answer.parent_id, answer.attributes["handler.interrupted"]) == (CALLER, False)
        assert {span.name for span in turn if span.parent_id == answer.span_id} >= STEPS
        for name in ("transcript", "first_token", "first_clause", "first_audio"):
            point = collector.metric(f"handler.{name}").point()
            assert point is not None
            assert int(point["count"]) == 2
        assert SECRET not in log
        assert SECRET not in repr((collector.spans, collector.metrics))
