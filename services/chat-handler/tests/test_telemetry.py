"""One trace from the question on NATS through the endpoints to the answer, metrics, and logs that belong to it."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest

from handler_messages import ChatRequest, ChatResponse
from handler_testkit.endpoints import answering, in_turn
from handler_testkit.otlp import otlp_collector
from handler_testkit.services import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Stack

    from handler_testkit.otlp import Collector

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
SECRET = "the-password-is-swordfish"
DURABLE, PLAIN = "ai.chat.user.{user_id}.message process", "ai.chat.request process"


class Observed:
    """What a run of chat-handler was seen doing: two questions, the first one asked twice of the LLM."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.log = ""
        self.durable_answer: dict[str, str] = {}
        self.plain_answer: dict[str, str] = {}


@pytest.fixture
async def observed(stack: Stack) -> AsyncIterator[Observed]:
    stack.llm(in_turn(answering({"error": {"message": "loading"}}, 503), stack.model))
    with otlp_collector() as collector:
        seen = Observed(collector)
        environ = stack.environ(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, LOG_FORMAT="json")
        del environ["HEALTH_PORT"]
        process = ServiceProcess("chat_handler", environ)
        try:
            await asyncio.to_thread(process.start)
            answers = await stack.client.listen("ai.chat.response.r1")
            question = ChatRequest(request_id="r1", message=SECRET, enable_reranker=False)
            await stack.client.send("ai.chat.user.ada.message", question, traceparent=TRACEPARENT)
            seen.durable_answer = (await answers.next()).headers or {}
            reply = await stack.client.connection.request_bytes(
                "ai.chat.request",
                ChatRequest(message=SECRET).SerializeToString(),
                timeout=15,
                headers={"Traceparent": TRACEPARENT},
            )
            assert ChatResponse.FromString(reply.data).response
            seen.plain_answer = reply.headers or {}
            process.signal(signal.SIGTERM)  # delivers what is recorded
            assert await asyncio.to_thread(process.wait) == 0
            seen.log = process.log()
        finally:
            await asyncio.to_thread(process.close)
        yield seen


async def test_one_trace_leads_from_the_question_to_the_answer(observed: Observed, stack: Stack) -> None:
    spans = {span.span_id: span for span in observed.collector.spans}
    assert {span.trace_id for span in spans.values()} == {TRACE}
    processed = [span for span in spans.values() if span.name == DURABLE]
    assert [(s.parent_id, s.kind, s.failed) for s in processed] == [
        (CALLER, "consumer", True),
        (CALLER, "consumer", False),
    ]
    assert [span.attributes["handler.attempt"] for span in processed] == [1, 2]
    assert {span.attributes["handler.request_id"] for span in processed} == {"r1"}

    (plain,) = [span for span in spans.values() if span.name == PLAIN]
    assert plain.parent_id == CALLER
    works = {span.span_id for span in processed} | {plain.span_id}
    for name in ("POST llm", "POST embeddings"):
        calls = [span for span in spans.values() if span.name == name]
        assert len(calls) == 3
        for call in calls:
            assert call.kind == "client"
            above = call.parent_id
            while above not in works:
                above = spans[above].parent_id
    asked = [r.headers["traceparent"].split("-") for r in stack.endpoint.requests if r.method == "POST"]
    assert {trace for _, trace, _, _ in asked} == {TRACE}
    assert {spans[span].name for _, _, span, _ in asked} >= {"POST llm", "POST embeddings"}

    assert observed.durable_answer["traceparent"].split("-")[1:3] == [TRACE, processed[1].span_id]
    assert observed.plain_answer["traceparent"].split("-")[1:3] == [TRACE, plain.span_id]


async def test_the_metrics_tell_waiting_first_token_duration_tokens_and_errors(observed: Observed) -> None:
    metric = observed.collector.metric
    subject = "ai.chat.user.{user_id}.message"
    for name, attributes, count in (
        ("handler.queue.wait", {"subject": subject}, 2),
        ("handler.request.duration", {"subject": subject, "error": ""}, 1),
        ("handler.request.duration", {"subject": subject, "error": "upstream_unavailable"}, 1),
        ("handler.request.duration", {"subject": "ai.chat.request", "error": ""}, 1),
        ("handler.first_token", {}, 2),
        ("handler.llm.duration", {}, 2),
    ):
        point = metric(name).point(**attributes)
        assert point is not None, (name, metric(name).points)
        assert int(point["count"]) == count, name
    for name, attributes, value in (
        ("handler.request.errors", {"subject": subject, "error": "upstream_unavailable"}, 1),
        ("handler.tokens", {"kind": "prompt"}, 14),
        ("handler.tokens", {"kind": "completion"}, 8),
    ):
        point = metric(name).point(**attributes)
        assert point is not None, (name, metric(name).points)
        assert int(point["asInt"]) == value, name


async def test_logs_carry_the_trace_and_no_contents(observed: Observed) -> None:
    lines = [json.loads(line) for line in observed.log.splitlines()]
    (retried,) = [line for line in lines if "attempt 1 failed" in line["message"]]
    first = next(span for span in observed.collector.spans if span.name == DURABLE and span.failed)
    assert (retried["trace_id"], retried["span_id"]) == (TRACE, first.span_id)
    assert SECRET not in observed.log
    assert SECRET not in repr((observed.collector.spans, observed.collector.metrics))
