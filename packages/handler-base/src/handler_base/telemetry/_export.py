"""Exporters that are built at their first batch, in the thread that exports, and never fail their caller.

A collector that is down or slow costs a bounded queue: what does not fit is dropped by the SDK's batch
processors, what the collector does not take is given up after the exporter's own retries. Both are counted; one
line is logged when delivery starts to fail and one when it works again.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    MetricExporter,
    MetricExportResult,
)
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import Enum

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

_log = logging.getLogger(__name__)


class Exporter(Protocol):
    """What the SDK's exporters of all signals have in common."""

    def export(self, batch: Any, /) -> Enum:
        """Deliver a batch and say whether that worked."""
        ...

    def shutdown(self) -> None:
        """Let go of the connection and stop waiting for a retry."""
        ...


Build = Callable[[], Exporter]

_building = threading.Lock()
"""Building imports the exporters' package. Two threads in different modules of it wait for each other's import
lock; Python then breaks the tie by failing one of them, and its batch would be lost."""


class Outlet:
    """The way of one signal to its collector.

    Attributes:
        recorded: Items handed to the SDK; counted by whoever records.
        delivered: Items the collector took.
    """

    def __init__(self, what: str, build: Build) -> None:
        self.recorded = 0
        self.delivered = 0
        self._what = what
        self._build = build
        self._exporter: Exporter | None = None
        self._given_up = 0
        self._failing = False
        self._reason = ""
        self._closed = threading.Event()

    def send(self, batch: Any, size: int) -> bool:
        """Deliver a batch of `size` items. It blocks as long as the exporter does: up to its timeout, 10 s."""
        if self._closed.is_set():
            return False
        self._reason = ""
        _sending.outlet = self
        try:
            if self._exporter is None:
                with _building:
                    self._exporter = self._build()
            done = self._exporter.export(batch).name == "SUCCESS"
        except (OSError, ValueError, ImportError) as error:
            done = False
            self.explain(f"{type(error).__name__}: {error}")
        if done:
            self.delivered += size
            if self._failing:
                _log.warning("telemetry: %s are delivered again, %d were lost", self._what, self._given_up)
            self._failing, self._given_up = False, 0
            return True
        self._given_up += size
        if not self._failing and not self._closed.is_set():
            _log.warning("telemetry: %s cannot be delivered: %s", self._what, self._reason)
            self._failing = True
        return False

    def explain(self, reason: str) -> None:
        """Keep why a batch is not delivered; the first reason of a batch is its cause."""
        self._reason = self._reason or reason

    def close(self) -> None:
        """End it, whatever it is doing, and report what was lost in its life."""
        self._closed.set()
        if self._exporter is not None:
            self._exporter.shutdown()
        if lost := self.recorded - self.delivered:
            why = f": {self._reason}" if self._reason else ""
            _log.warning("telemetry: %d of %d %s were lost in all%s", lost, self.recorded, self._what, why)


class LazySpanExporter(SpanExporter):
    """The SDK's view of an outlet for spans."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Deliver a batch."""
        done = self._outlet.send(spans, len(spans))
        return SpanExportResult.SUCCESS if done else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing: the outlet is closed when all signals had their time."""


class LazyMetricExporter(MetricExporter):
    """The SDK's view of an outlet for metrics. They are cumulative, so a lost export loses nothing for good."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__(preferred_temporality=_temporality())
        self._outlet = outlet

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> MetricExportResult:
        """Deliver what was collected."""
        done = self._outlet.send(metrics_data, 0)
        return MetricExportResult.SUCCESS if done else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
        """Nothing is kept back here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing: the outlet is closed when all signals had their time."""


def otlp_spans() -> Exporter:
    """Build the exporter of spans from `OTEL_EXPORTER_OTLP_*`."""
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def otlp_metrics() -> Exporter:
    """Build the exporter of metrics from `OTEL_EXPORTER_OTLP_*`."""
    from opentelemetry.exporter.otlp.json.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()


def console_spans() -> SpanExporter:
    """Print each span as one line of JSON, so that standard output stays JSON lines."""
    return ConsoleSpanExporter(out=sys.stdout, formatter=lambda span: span.to_json(indent=None) + "\n")


def console_metrics() -> MetricExporter:
    """Print each collection as one line of JSON."""
    return ConsoleMetricExporter(out=sys.stdout, formatter=lambda data: data.to_json(indent=None) + "\n")


def listen() -> None:
    """Keep what the SDK's exporters log as the reason of a failure, instead of a line per attempt and batch."""
    exporters = logging.getLogger("opentelemetry.exporter")
    if _listener not in exporters.handlers:
        exporters.addHandler(_listener)
    exporters.propagate = False
    # Its "Queue full" comes per batch; we count instead.
    logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.ERROR)
    # A span that ends in another task than it began in is told as an error with a trace; it does no harm.
    logging.getLogger("opentelemetry.context").setLevel(logging.CRITICAL)


class _Sending(threading.local):
    outlet: Outlet | None = None


class _Listener(logging.Handler):
    """Takes what an exporter says, in the thread it exports in, to the outlet that sends there."""

    def emit(self, record: logging.LogRecord) -> None:
        if _sending.outlet is not None:
            _sending.outlet.explain(record.getMessage())


_sending = _Sending()
_listener = _Listener(logging.WARNING)


def _temporality() -> dict[type, AggregationTemporality]:
    preference = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower()
    delta: dict[str, tuple[type, ...]] = {
        "delta": (Counter, Histogram, ObservableCounter),
        "lowmemory": (Counter, Histogram),
    }
    return dict.fromkeys(delta.get(preference, ()), AggregationTemporality.DELTA)
