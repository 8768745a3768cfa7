"""Calls as others see them: one client span each, the trace carried on, durations by outcome, nothing secret."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from handler_base import telemetry
from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from handler_testkit.endpoints import HttpEndpoint, answering, in_turn, sse, stalling
from handler_testkit.otlp import Collector, otlp_collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_base.http import HttpPool


@pytest.fixture
def collector() -> Iterator[Collector]:
    with otlp_collector() as collector:
        telemetry.setup("test", "1", {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        yield collector
        telemetry.shutdown()


async def test_a_call_is_a_client_span_whose_place_the_endpoint_learns(
    pool: HttpPool, collector: Collector
) -> None:
    async with HttpEndpoint(answering({"question": "secret"})) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        with telemetry.span("chat.answer"):
            await endpoint.request("POST", "/v1/x", content=b"secret", params={"key": "secret"})
        async with endpoint.stream("POST", "/v1/y", content=b"secret") as response:
            async for _ in response:
                pass
        first, second = server.requests
        await asyncio.to_thread(telemetry.shutdown)
    parent = collector.span("chat.answer")
    calls = [span for span in collector.spans if span.name == "POST llm"]
    assert [(span.kind, span.failed) for span in calls] == [("client", False)] * 2
    assert calls[0].parent_id == parent.span_id
    for span, request in zip(calls, (first, second), strict=True):
        assert request.headers["traceparent"].split("-")[1:3] == [span.trace_id, span.span_id]
        assert span.attributes == {
            "http.request.method": "POST",
            "server.address": "127.0.0.1",
            "server.port": server.port,
            "peer.service": "llm",
            "http.response.status_code": 200,
        }
    assert "secret" not in repr(collector.spans)
    point = collector.metric("http.client.request.duration").point(endpoint="llm", outcome="ok")
    assert point is not None
    assert int(point["count"]) == 2


async def test_failures_and_cancels_are_told_apart(pool: HttpPool, collector: Collector) -> None:
    script = in_turn(
        answering({}, 400), answering({}, 400), stalling, sse("a", asyncio.Event().wait()), stalling
    )
    async with HttpEndpoint(script) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        with pytest.raises(UpstreamRejected):
            await endpoint.request("POST", "/")
        with pytest.raises(UpstreamRejected):
            await endpoint.stream("POST", "/").__aenter__()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await endpoint.request("POST", "/")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), endpoint.stream("POST", "/") as response:
                async for _ in response:
                    pass
        await server.wait(lambda: server.disconnects == 2)
        with pytest.raises(UpstreamUnavailable):
            await pool.endpoint("tts", "http://127.0.0.1:1", timeout=5).request("GET", "/")
        await asyncio.to_thread(telemetry.shutdown)
    metric = collector.metric("http.client.request.duration")
    counts = {
        (endpoint, outcome): int(point["count"])
        for endpoint in ("llm", "tts")
        for outcome in ("ok", "upstream_rejected", "upstream_unavailable", "cancelled")
        if (point := metric.point(endpoint=endpoint, outcome=outcome))
    }
    assert counts == {
        ("llm", "upstream_rejected"): 2,
        ("llm", "cancelled"): 2,
        ("tts", "upstream_unavailable"): 1,
    }
    assert sum(span.failed for span in collector.spans) >= 3
