"""What a collector receives, and what happens when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from handler_base import telemetry
from handler_base.errors import Cancelled, NotFound, UpstreamTimeout
from handler_testkit.nats import free_port
from handler_testkit.otlp import Collector, otlp_collector

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
QUICK = {
    "OTEL_BSP_SCHEDULE_DELAY": "20",
    "OTEL_BLRP_SCHEDULE_DELAY": "20",
    "OTEL_METRIC_EXPORT_INTERVAL": "20",
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with otlp_collector() as running:
        yield running


@pytest.fixture(autouse=True)
def off_after() -> Iterator[None]:
    yield
    telemetry.shutdown()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("handler_base")]


class Ear(logging.Handler):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.heard.set()


@contextlib.contextmanager
def heard(text: str) -> Iterator[threading.Event]:
    ear = Ear(text)
    logging.getLogger("handler_base.telemetry").addHandler(ear)
    try:
        yield ear.heard
        ear.heard.wait(9)
    finally:
        logging.getLogger("handler_base.telemetry").removeHandler(ear)


def start(collector: Collector, **environ: str) -> None:
    assert telemetry.setup("greeter", "1.2.3", {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **environ})
    assert telemetry.enabled()


def test_one_trace_runs_from_the_callers_headers_through_ours_to_the_next_process(
    collector: Collector,
) -> None:
    start(collector)
    headers = {"Nats-Msg-Id": "1", "TraceParent": f"00-{TRACE}-{PARENT}-01", "Tracestate": "vendor=1"}
    onwards: dict[str, str] = {}
    with telemetry.span("consume", kind="consumer", parent=telemetry.extract(headers)):
        with (
            telemetry.span("answer", attributes={"chat.streaming": True}),
            telemetry.span("POST", kind="client"),
        ):
            telemetry.inject(onwards)
        with telemetry.span("publish", kind="producer"):
            pass
    assert telemetry.current_ids() is None
    with telemetry.span("serve", kind="server", parent=telemetry.extract(onwards)):
        pass
    telemetry.shutdown()

    consume, answer, post = (collector.span(name) for name in ("consume", "answer", "POST"))
    assert {span.trace_id for span in collector.spans} == {TRACE}
    assert consume.parent_id == PARENT
    assert answer.parent_id == consume.span_id
    assert post.parent_id == answer.span_id
    assert collector.span("publish").parent_id == consume.span_id
    assert collector.span("serve").parent_id == post.span_id
    assert onwards == {"traceparent": f"00-{TRACE}-{post.span_id}-01", "tracestate": "vendor=1"}
    assert [s.kind for s in (consume, answer, post)] == ["consumer", "internal", "client"]
    assert answer.attributes == {"chat.streaming": True}
    assert not any(span.failed for span in collector.spans)


def test_tasks_that_run_at_the_same_time_keep_their_own_spans(collector: Collector) -> None:
    start(collector)

    async def request(number: int) -> None:
        with telemetry.span(f"outer{number}"):
            await asyncio.sleep(0)
            with telemetry.span(f"inner{number}"):
                await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(request(number))

    asyncio.run(main())
    telemetry.shutdown()
    for number in range(10):
        outer, inner = collector.span(f"outer{number}"), collector.span(f"inner{number}")
        assert (inner.trace_id, inner.parent_id) == (outer.trace_id, outer.span_id)
        assert outer.parent_id == ""


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"traceparent": ""},
        {"traceparent": "garbage"},
        {"traceparent": f"00-{'0' * 32}-{PARENT}-01"},
    ],
)
def test_headers_without_a_usable_place_in_a_trace_start_a_new_one(
    collector: Collector, headers: dict[str, str] | None
) -> None:
    start(collector)
    assert telemetry.extract(headers) is None
    with telemetry.span("consume", parent=telemetry.extract(headers)):
        pass
    telemetry.shutdown()
    assert collector.span("consume").parent_id == ""


def test_errors_are_marked_by_type_and_foreign_messages_stay_here(collector: Collector) -> None:
    start(collector)
    with pytest.raises(UpstreamTimeout), telemetry.span("ours"):
        raise UpstreamTimeout("no answer from llm within 30 s")
    with pytest.raises(ValueError, match="what a user wrote"), telemetry.span("foreign"):
        raise ValueError("what a user wrote")
    with pytest.raises(NotFound), telemetry.span("refused"):
        raise NotFound("there is no voice 'what a user wrote'")
    with telemetry.span("handled") as span:
        span.set("attempt", 2)
        span.error(UpstreamTimeout("again"))
    with pytest.raises(Cancelled), telemetry.span("cancelled"):
        raise Cancelled("by its caller")
    with pytest.raises(asyncio.CancelledError), telemetry.span("task cancelled"):
        raise asyncio.CancelledError
    telemetry.shutdown()

    ours, foreign, handled = (collector.span(name) for name in ("ours", "foreign", "handled"))
    assert (ours.failed, ours.attributes["error.type"]) == (True, "upstream_timeout")
    assert ours.status_message == "no answer from llm within 30 s"
    assert (foreign.failed, foreign.attributes["error.type"], foreign.status_message) == (
        True,
        "ValueError",
        "ValueError",
    )
    assert collector.span("refused").status_message == "not_found"
    assert (handled.failed, handled.attributes) == (True, {"attempt": 2, "error.type": "upstream_timeout"})
    for name in ("cancelled", "task cancelled"):
        assert not collector.span(name).failed
        assert collector.span(name).attributes == {"error.type": "cancelled"}


def test_metrics_arrive_with_their_attributes(collector: Collector) -> None:
    start(collector)
    for _ in range(3):
        telemetry.count("chat.requests", outcome="answered")
    telemetry.count("chat.tokens", 40)
    for seconds in (0.004, 0.2, 70.0):
        telemetry.record("chat.time_to_first_token", seconds, streaming=True)
    telemetry.gauge("chat.in_flight", lambda: 1.0)
    telemetry.gauge("chat.in_flight", lambda: 7.0)
    telemetry.shutdown()

    requests = collector.metric("chat.requests").point(outcome="answered")
    assert requests
    assert int(requests["asInt"]) == 3
    tokens = collector.metric("chat.tokens").point()
    assert tokens
    assert int(tokens["asInt"]) == 40
    first = collector.metric("chat.time_to_first_token")
    assert (first.kind, first.unit) == ("histogram", "s")
    point = first.point(streaming=True)
    assert point
    assert int(point["count"]) == 3
    # 4 ms, 200 ms and 70 s fall into different buckets.
    assert sorted(int(count) for count in point["bucketCounts"])[-4:] == [0, 1, 1, 1]
    in_flight = collector.metric("chat.in_flight")
    assert in_flight.kind == "gauge"
    assert [point["asDouble"] for point in in_flight.points] == [7.0]


def test_metrics_are_collected_while_it_runs_and_a_gauge_that_fails_spoils_nothing(
    collector: Collector,
) -> None:
    def broken() -> float:
        raise RuntimeError("no reading")

    start(collector, **QUICK)
    telemetry.gauge("broken", broken)
    telemetry.count("requests")
    collector.wait(lambda c: any(metric.name == "requests" for metric in c.metrics))


def test_deltas_instead_of_sums_on_demand(collector: Collector) -> None:
    start(collector, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta", **QUICK)
    telemetry.count("requests", 5)
    collector.wait(lambda c: any(metric.name == "requests" for metric in c.metrics))
    telemetry.count("requests", 2)
    telemetry.shutdown()
    values = [int(m.points[0]["asInt"]) for m in collector.metrics if m.name == "requests" and m.points]
    assert values == [5, 2]


def test_the_operators_names_win_over_the_codes(collector: Collector) -> None:
    start(
        collector,
        OTEL_SERVICE_NAME="greeter-blue",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.version=9",
    )
    with telemetry.span("a"):
        pass
    telemetry.shutdown()
    resource = collector.span("a").resource
    assert resource["service.name"] == "greeter-blue"
    assert resource["service.version"] == "9"
    assert resource["deployment.environment.name"] == "test"


def test_the_code_names_the_service_when_nobody_else_does(collector: Collector) -> None:
    start(collector)
    with telemetry.span("a"):
        pass
    telemetry.shutdown()
    resource = collector.span("a").resource
    assert (resource["service.name"], resource["service.version"]) == ("greeter", "1.2.3")


def test_the_sampler_and_the_headers_follow_the_variables(collector: Collector) -> None:
    start(
        collector,
        OTEL_TRACES_SAMPLER="parentbased_always_off",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20x",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    )
    with telemetry.span("not sampled"):
        headers: dict[str, str] = {}
        telemetry.inject(headers)
        assert int(headers["traceparent"][-2:], 16) & 1 == 0
    with telemetry.span("sampled", parent=telemetry.extract({"traceparent": f"00-{TRACE}-{PARENT}-01"})):
        pass
    telemetry.shutdown()
    assert [span.name for span in collector.spans] == ["sampled"]
    assert collector.headers["authorization"] == "Bearer x"
    assert collector.headers["content-encoding"] == "gzip"


def test_log_records_carry_the_span_their_fields_and_their_exception(collector: Collector) -> None:
    start(collector, OTEL_LOGS_EXPORTER="otlp")
    log = logging.getLogger("greeter.work")
    with telemetry.span("a"):
        log.warning("retrieval is down", extra={"endpoint": "milvus", "tries": 3, "limits": [1, 2]})
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("failed")
    logging.getLogger("urllib3.connectionpool").warning("about ourselves")
    telemetry.shutdown()

    warning, error = collector.logs
    span = collector.span("a")
    assert (warning.body, warning.severity, warning.logger) == (
        "retrieval is down",
        "WARNING",
        "greeter.work",
    )
    assert (warning.trace_id, warning.span_id) == (span.trace_id, span.span_id)
    assert warning.attributes == {"endpoint": "milvus", "tries": 3, "limits": "[1, 2]"}
    assert warning.resource["service.name"] == "greeter"
    assert error.attributes["exception.type"] == "ValueError"
    assert "Traceback" in error.attributes["exception.stacktrace"]
    log.warning("after the end")
    assert len(collector.logs) == 2


def test_signals_that_nobody_asked_for_are_not_recorded(collector: Collector) -> None:
    traces_only = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces"}
    assert telemetry.setup("greeter", "1", traces_only)
    telemetry.count("a")
    telemetry.record("b", 1)
    telemetry.gauge("c", lambda: 1)
    with telemetry.span("d"):
        pass
    telemetry.shutdown()
    assert collector.metrics == []
    assert collector.span("d")
    metrics_only = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{collector.url}/v1/metrics"}
    assert telemetry.setup("greeter", "1", metrics_only)
    with telemetry.span("e"):
        assert telemetry.current_ids() is None
        telemetry.count("f")
    telemetry.shutdown()
    assert collector.metric("f")
    assert [span.name for span in collector.spans] == ["d"]


def test_spans_recorded_before_the_first_delivery_are_kept(collector: Collector) -> None:
    start(collector)
    for _ in range(700):
        with telemetry.span("a"):
            pass
    telemetry.shutdown()
    assert len(collector.spans) == 700


def test_without_a_collector_the_work_goes_on_and_the_loss_is_told_with_its_cause(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "SHUTDOWN_SECONDS", 0.3)
    url = f"http://127.0.0.1:{free_port()}"
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
    assert telemetry.setup("greeter", "1", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url, **small})
    for _ in range(500):
        with telemetry.span("a"):
            pass
    telemetry.shutdown()
    (line,) = told(caplog)
    assert line.startswith("telemetry: 500 of 500 spans were lost in all: ")
    assert "refused" in line


def test_a_collector_that_stays_away_is_told_once_and_not_per_batch(caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    # Too short for a retry, so that each batch fails at once.
    quick = {**QUICK, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.05", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
    assert telemetry.setup("greeter", "1", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url, **quick})
    for _ in range(500):
        with telemetry.span("a"):
            pass
    telemetry.shutdown()
    first, last = told(caplog)
    assert first.startswith("telemetry: spans cannot be delivered: Failed to export spans batch")
    assert last.startswith("telemetry: 500 of 500 spans were lost in all: ")


def test_a_collector_that_comes_back_is_told_and_gets_the_rest(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 400
    start(collector, OTEL_METRICS_EXPORTER="none", **QUICK)
    with heard("cannot be delivered") as failing, telemetry.span("lost"):
        pass
    assert failing.is_set()
    collector.status = 200
    with telemetry.span("kept"):
        pass
    telemetry.shutdown()
    assert [span.name for span in collector.spans] == ["kept"]
    first, *rest = told(caplog)
    assert "code: 400" in first
    assert rest == [
        "telemetry: spans are delivered again, 1 were lost",
        "telemetry: 1 of 2 spans were lost in all",
    ]


def test_an_exporter_that_cannot_be_built_is_told_as_a_loss(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry.exporter.otlp.json.http import trace_exporter

    def broken() -> None:
        raise OSError("no such file: ca.pem")

    monkeypatch.setattr(trace_exporter, "OTLPSpanExporter", broken)
    start(collector)
    with telemetry.span("a"):
        pass
    telemetry.shutdown()
    assert "cannot be delivered: OSError: no such file: ca.pem" in caplog.text


def test_a_collector_that_hangs_does_not_hold_up_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(telemetry, "SHUTDOWN_SECONDS", 0.2)
    collector.answering.clear()
    start(collector, OTEL_LOGS_EXPORTER="otlp")
    with telemetry.span("a"):
        logging.getLogger("greeter").warning("hello")
    ended = threading.Event()

    def end() -> None:
        telemetry.shutdown()
        ended.set()

    threading.Thread(target=end).start()
    # The exporter itself would wait 10 seconds.
    assert ended.wait(8)
    assert "1 of 1 spans were lost in all" in caplog.text
    assert "1 of 1 log records were lost in all" in caplog.text


def test_recording_does_not_wait_for_the_collector(collector: Collector) -> None:
    collector.answering.clear()
    start(collector, OTEL_BSP_MAX_QUEUE_SIZE="16", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4", **QUICK)
    with telemetry.span("first"):
        pass
    collector.wait(lambda c: c.requests > 0)
    done = threading.Event()

    def work() -> None:
        for _ in range(2000):
            with telemetry.span("a"):
                telemetry.count("b")
        done.set()

    threading.Thread(target=work).start()
    assert done.wait(9)
    assert not collector.spans
    collector.answering.set()


def test_a_second_setup_starts_afresh_and_the_process_environment_is_restored(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "outer")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    start(collector, OTEL_SERVICE_NAME="one")
    with telemetry.span("a"):
        pass
    start(collector)
    assert collector.span("a").resource["service.name"] == "one"
    with telemetry.span("b"):
        pass
    telemetry.shutdown()
    assert collector.span("b").resource["service.name"] == "greeter"
    assert os.environ["OTEL_SERVICE_NAME"] == "outer"
    assert os.environ["OTEL_TRACES_SAMPLER"] == "always_off"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ


def test_the_console_gets_one_line_of_json_each() -> None:
    code = """
from handler_base import telemetry
assert telemetry.setup("greeter", "1")
with telemetry.span("a"):
    telemetry.count("b")
telemetry.shutdown()
"""
    environ = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={**os.environ, **environ},
        capture_output=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(line.get("name", "metrics") for line in lines) == ["a", "metrics"]
    assert done.stderr == b""


def test_a_process_with_a_hanging_collector_ends(collector: Collector) -> None:
    collector.answering.clear()
    code = """
from handler_base import telemetry
telemetry.SHUTDOWN_SECONDS = 0.1
telemetry.setup("greeter", "1")
with telemetry.span("a"):
    pass
telemetry.shutdown()
"""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    # Well below the 10 seconds that the exporter waits for an answer.
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **environ}, timeout=8)


def test_the_first_delivery_builds_the_exporter_and_not_the_start() -> None:
    code = """
import sys
from handler_base import telemetry
telemetry.setup("greeter", "1")
with telemetry.span("a"):
    telemetry.count("b")
assert "urllib3" not in sys.modules
telemetry.shutdown()
assert "urllib3" in sys.modules
"""
    with otlp_collector() as collector:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **environ}, timeout=60)
        assert collector.span("a")
        assert collector.metric("b")
