"""An OpenTelemetry collector for tests: takes OTLP over HTTP (JSON or protobuf) and gives back what arrived.

Specification: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from google.protobuf.message import Message

_REQUESTS: dict[str, type[Message]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}
_IDS = ("traceId", "spanId", "parentSpanId")
_SPAN_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True)
class ExportedSpan:
    """A span as it arrived; ids in hexadecimal, `parent_id` empty for the first of a trace."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    attributes: dict[str, Any]
    failed: bool
    status_message: str
    resource: dict[str, Any]


@dataclass(frozen=True)
class ExportedMetric:
    """A metric as it arrived: its kind (`sum`, `gauge`, `histogram`) and data points as OTLP's JSON has them."""

    name: str
    kind: str
    unit: str
    points: list[dict[str, Any]]
    resource: dict[str, Any]

    def point(self, **attributes: object) -> dict[str, Any] | None:
        """Return the data point with exactly these attributes, or None."""
        return next((p for p in self.points if _attributes(p.get("attributes", [])) == attributes), None)


@dataclass(frozen=True)
class ExportedLog:
    """A log record as it arrived; ids are empty when there was no span."""

    body: str
    severity: str
    logger: str
    trace_id: str
    span_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """What arrived, and how the collector behaves.

    Attributes:
        url: The value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
        status: What it answers; anything but 200 keeps nothing.
        requests: How many requests came, whatever the answer.
        headers: Headers of the last request, names in lower case.
        answering: While cleared, requests are read and held without an answer.
    """

    url: str = ""
    status: int = 200
    requests: int = 0
    spans: list[ExportedSpan] = field(default_factory=list[ExportedSpan])
    metrics: list[ExportedMetric] = field(default_factory=list[ExportedMetric])
    logs: list[ExportedLog] = field(default_factory=list[ExportedLog])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    answering: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, condition: Callable[[Collector], bool], timeout: float = 10.0) -> None:
        """Block until `condition(self)` holds; in a coroutine, call it by `asyncio.to_thread`.

        Raises:
            AssertionError: If it does not hold in time; tells what has arrived.
        """
        end = time.monotonic() + timeout
        with self.changed:
            while not condition(self):
                if not self.changed.wait(end - time.monotonic()) and time.monotonic() >= end:
                    names = [span.name for span in self.spans], [m.name for m in self.metrics]
                    raise AssertionError(
                        f"waited {timeout} s in vain; spans and metrics so far: {names}, {len(self.logs)} logs"
                    )

    def span(self, name: str) -> ExportedSpan:
        """Return the only span of that name.

        Raises:
            AssertionError: If there is none or more than one.
        """
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, (
            f"{len(found)} spans named {name!r} among {[span.name for span in self.spans]}"
        )
        return found[0]

    def metric(self, name: str) -> ExportedMetric:
        """Return the latest report of a metric.

        Raises:
            AssertionError: If there is none.
        """
        found = [metric for metric in self.metrics if metric.name == name]
        assert found, f"no metric {name!r} among {sorted({metric.name for metric in self.metrics})}"
        return found[-1]

    def take(self, path: str, data: dict[str, Any]) -> None:
        """Keep one decoded request."""
        with self.changed:
            if path == "/v1/traces":
                self.spans += [_span(*item) for item in _items(data, "resourceSpans", "scopeSpans", "spans")]
            elif path == "/v1/metrics":
                self.metrics += [
                    _metric(*item) for item in _items(data, "resourceMetrics", "scopeMetrics", "metrics")
                ]
            else:
                self.logs += [_log(*item) for item in _items(data, "resourceLogs", "scopeLogs", "logRecords")]
            self.changed.notify_all()


@contextlib.contextmanager
def otlp_collector(port: int = 0) -> Generator[Collector]:
    """Run a collector on 127.0.0.1 for the length of a `with` block."""
    collector = Collector()
    collector.answering.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with collector.changed:
                collector.requests += 1
                collector.headers = {name.lower(): value for name, value in self.headers.items()}
                collector.changed.notify_all()
            collector.answering.wait()
            status = collector.status if self.path in _REQUESTS else 404
            if status == 200:
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(self.path, _decode(self.path, self.headers.get("Content-Type", ""), body))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield collector
        finally:
            collector.answering.set()
            server.shutdown()
            thread.join()


def _decode(path: str, content_type: str, body: bytes) -> dict[str, Any]:
    """Return a request as OTLP's JSON; what does not follow the schema is refused."""
    message = _REQUESTS[path]()
    if content_type == "application/x-protobuf":
        message.ParseFromString(body)
        return _hexadecimal(json_format.MessageToDict(message))
    data = json.loads(body)
    # OTLP's JSON is protobuf's, except for hexadecimal ids: those pass as base64 by chance, of another length.
    json_format.ParseDict(data, message)
    return data


def _hexadecimal(data: Any) -> Any:
    if isinstance(data, list):
        return [_hexadecimal(item) for item in cast("list[Any]", data)]
    if isinstance(data, dict):
        return {
            key: base64.b64decode(value).hex() if key in _IDS else _hexadecimal(value)
            for key, value in cast("dict[str, Any]", data).items()
        }
    return data


def _items(
    data: dict[str, Any], outer: str, inner: str, leaf: str
) -> list[tuple[dict[str, Any], str, dict[str, Any]]]:
    return [
        (
            item,
            scope.get("scope", {}).get("name", ""),
            _attributes(group.get("resource", {}).get("attributes", [])),
        )
        for group in data.get(outer, [])
        for scope in group.get(inner, [])
        for item in scope.get(leaf, [])
    ]


def _span(item: dict[str, Any], _scope: str, resource: dict[str, Any]) -> ExportedSpan:
    kind: int | str = item.get("kind", 0)
    status: dict[str, Any] = item.get("status", {})
    return ExportedSpan(
        name=item["name"],
        trace_id=item["traceId"],
        span_id=item["spanId"],
        parent_id=item.get("parentSpanId", ""),
        kind=_SPAN_KINDS[kind] if isinstance(kind, int) else kind.removeprefix("SPAN_KIND_").lower(),
        attributes=_attributes(item.get("attributes", [])),
        failed=status.get("code") in {2, "STATUS_CODE_ERROR"},
        status_message=status.get("message", ""),
        resource=resource,
    )


def _metric(item: dict[str, Any], _scope: str, resource: dict[str, Any]) -> ExportedMetric:
    kind = next(kind for kind in ("sum", "gauge", "histogram", "exponentialHistogram") if kind in item)
    return ExportedMetric(
        name=item["name"],
        kind=kind,
        unit=item.get("unit", ""),
        points=item[kind].get("dataPoints", []),
        resource=resource,
    )


def _log(item: dict[str, Any], scope: str, resource: dict[str, Any]) -> ExportedLog:
    return ExportedLog(
        body=item.get("body", {}).get("stringValue", ""),
        severity=item.get("severityText", ""),
        logger=scope,
        trace_id=item.get("traceId", ""),
        span_id=item.get("spanId", ""),
        attributes=_attributes(item.get("attributes", [])),
        resource=resource,
    )


def _attributes(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["key"]: _value(item.get("value", {})) for item in items}


def _value(value: dict[str, Any]) -> Any:
    kind, content = next(iter(value.items()), ("", None))
    return int(content) if kind == "intValue" and content is not None else content
