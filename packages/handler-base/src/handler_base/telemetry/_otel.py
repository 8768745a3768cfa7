"""OpenTelemetry behind the facade: providers of our own, instruments on demand, a bounded end."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Self, cast

from opentelemetry import context as otel_context, trace
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from handler_base.errors import Cancelled, HandlerError, unquoted
from handler_base.telemetry import Span, Value, _export

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import Token
    from types import TracebackType

    from opentelemetry import metrics
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.sdk._logs import LoggerProvider

    from handler_base.telemetry import Kind
    from handler_base.telemetry._signals import Signals

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Upper bounds of the histograms in seconds: from a NATS hop to a long answer of a slow model."""

_SCOPE = "handler_base"
_W3C = TraceContextTextMapPropagator()
_W3C_HEADERS = frozenset({"traceparent", "tracestate"})
_KINDS: dict[Kind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


class Backend:
    """What is behind the facade while it is on. Nothing global is set, so it can end and start anew."""

    def __init__(
        self, service: str, version: str, signals: Signals, environ: Mapping[str, str] | None
    ) -> None:
        self._replaced = _overlay(environ)
        _export.listen()
        # What the operator sets wins over what the code says.
        ours = {"service.name": service, "service.version": version}
        resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
        self._outlets: list[_export.Outlet] = []
        self._spans: _export.Outlet | None = None
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        if "otlp" in signals.traces:
            self._spans = self._outlet("spans", _export.otlp_spans)
            self._traces.add_span_processor(BatchSpanProcessor(_export.LazySpanExporter(self._spans)))
        if "console" in signals.traces:
            self._traces.add_span_processor(BatchSpanProcessor(_export.console_spans()))
        self._tracer = self._traces.get_tracer(_SCOPE, version)
        self._tracing = bool(signals.traces)

        readers: list[PeriodicExportingMetricReader] = []
        if "otlp" in signals.metrics:
            outlet = self._outlet("metrics", _export.otlp_metrics)
            readers.append(PeriodicExportingMetricReader(_export.LazyMetricExporter(outlet)))
        if "console" in signals.metrics:
            readers.append(PeriodicExportingMetricReader(_export.console_metrics()))
        self._metrics = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        self._meter = self._metrics.get_meter(_SCOPE, version)
        self._measuring = bool(readers)
        self._counters: dict[str, metrics.Counter] = {}
        self._histograms: dict[str, metrics.Histogram] = {}
        self._gauges: dict[str, Callable[[], float]] = {}

        self._logs: LoggerProvider | None = None
        self._handler: logging.Handler | None = None
        if signals.logs:
            self._export_logs(resource)

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value] | None, parent: object | None
    ) -> Span:
        """Return a span that starts at its `with`."""
        if not self._tracing:
            return Span()
        return LiveSpan(
            self._tracer,
            self._spans,
            name=name,
            kind=_KINDS[kind],
            attributes=attributes,
            parent=cast("Context | None", parent),
        )

    def extract(self, headers: Mapping[str, str]) -> Context | None:
        """Return a context that holds the caller's span, or None."""
        carrier = {key: value for name, value in headers.items() if (key := name.lower()) in _W3C_HEADERS}
        if "traceparent" not in carrier:
            return None
        context = _W3C.extract(carrier)
        return context if trace.get_current_span(context).get_span_context().is_valid else None

    def inject(self, headers: dict[str, str]) -> None:
        """Write the current span into `headers`."""
        _W3C.inject(headers)

    def count(self, name: str, value: int, attributes: Mapping[str, Value]) -> None:
        """Add to a counter, created at its first use."""
        if not self._measuring:
            return
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = self._meter.create_counter(name)
        counter.add(value, attributes)

    def record(self, name: str, seconds: float, attributes: Mapping[str, Value]) -> None:
        """Record a duration in a histogram, created at its first use."""
        if not self._measuring:
            return
        histogram = self._histograms.get(name)
        if histogram is None:
            histogram = self._histograms[name] = self._meter.create_histogram(
                name, unit="s", explicit_bucket_boundaries_advisory=BUCKETS
            )
        histogram.record(seconds, attributes)

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Report `read()` at each collection."""
        if not self._measuring:
            return
        known = name in self._gauges
        self._gauges[name] = read
        if known:
            return

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(self._gauges[name]())]

        self._meter.create_observable_gauge(name, callbacks=[observe])

    def current_ids(self) -> tuple[str, str] | None:
        """Return trace and span id of the current span."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)

    def shutdown(self, seconds: float) -> None:
        """Deliver what waits, for at most `seconds`; what then still waits is lost and counted."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        providers = [self._traces, self._metrics, *([self._logs] if self._logs else [])]
        # One thread each: a signal whose collector hangs does not use up the time of the others. Daemons,
        # because a request that hangs cannot be interrupted and must not keep the process.
        threads = [threading.Thread(target=provider.shutdown, daemon=True) for provider in providers]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        for outlet in self._outlets:
            outlet.close()
        for name, value in self._replaced.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _outlet(self, what: str, build: _export.Build) -> _export.Outlet:
        outlet = _export.Outlet(what, build)
        self._outlets.append(outlet)
        return outlet

    def _export_logs(self, resource: Resource) -> None:
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        from handler_base.telemetry._export_logs import ExportHandler, LazyLogExporter, otlp_logs

        outlet = self._outlet("log records", otlp_logs)
        self._logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._logs.add_log_record_processor(BatchLogRecordProcessor(LazyLogExporter(outlet)))
        self._handler = ExportHandler(self._logs, outlet)
        logging.getLogger().addHandler(self._handler)


class LiveSpan(Span):
    """A span that is recorded."""

    __slots__ = ("_attributes", "_kind", "_name", "_outlet", "_parent", "_span", "_token", "_tracer")

    _span: trace.Span
    _token: Token[Context]

    def __init__(
        self,
        tracer: trace.Tracer,
        outlet: _export.Outlet | None,
        *,
        name: str,
        kind: trace.SpanKind,
        attributes: Mapping[str, Value] | None,
        parent: Context | None,
    ) -> None:
        self._tracer = tracer
        self._outlet = outlet
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._parent = parent
        self._span = trace.INVALID_SPAN

    def __enter__(self) -> Self:
        self._span = self._tracer.start_span(
            self._name, context=self._parent, kind=self._kind, attributes=self._attributes
        )
        self._token = otel_context.attach(trace.set_span_in_context(self._span, self._parent))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        otel_context.detach(self._token)
        if error is not None:
            self.error(error)
        if self._outlet is not None and self._span.get_span_context().trace_flags.sampled:
            self._outlet.recorded += 1
        self._span.end()

    def set(self, key: str, value: Value) -> None:
        """Set an attribute."""
        self._span.set_attribute(key, value)

    def error(self, error: BaseException) -> None:
        """Mark the span as failed.

        Only messages of our own tree are kept, and of it none of a refusal: the others may quote what a user wrote.
        """
        if isinstance(error, asyncio.CancelledError):
            self._span.set_attribute("error.type", Cancelled.type)
            return
        ours = isinstance(error, HandlerError)
        name = error.type if ours else type(error).__qualname__
        self._span.set_attribute("error.type", name)
        # A cancel is what the caller wanted.
        if not isinstance(error, Cancelled):
            self._span.set_status(trace.StatusCode.ERROR, unquoted(error) if ours else name)


def _overlay(environ: Mapping[str, str] | None) -> dict[str, str | None]:
    """Put the `OTEL_*` variables of `environ` in force; return what they replaced."""
    if environ is None or environ is os.environ:
        return {}
    names = {name for name in (*environ, *os.environ) if name.startswith("OTEL_")}
    replaced = {name: os.environ.get(name) for name in names}
    for name in names:
        if name in environ:
            os.environ[name] = environ[name]
        else:
            del os.environ[name]
    return replaced
