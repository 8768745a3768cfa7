"""When telemetry is on, what that costs when it is off, and what is said about it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from handler_base import telemetry
from handler_base.telemetry import _signals

OTLP = frozenset({"otlp"})
CONSOLE = frozenset({"console"})
NOWHERE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("environ", "traces", "metrics", "logs"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, OTLP, OTLP, NOWHERE),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, OTLP, NOWHERE, NOWHERE),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, NOWHERE, OTLP, NOWHERE),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:4318/v1/logs"}, NOWHERE, NOWHERE, OTLP),
        ({"OTEL_TRACES_EXPORTER": "console"}, CONSOLE, NOWHERE, NOWHERE),
        ({"OTEL_TRACES_EXPORTER": " OTLP , console"}, OTLP | CONSOLE, NOWHERE, NOWHERE),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, NOWHERE, NOWHERE, OTLP),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"},
            OTLP,
            NOWHERE,
            NOWHERE,
        ),
    ],
)
def test_each_standard_variable_switches_its_signals_on(
    environ: dict[str, str], traces: frozenset[str], metrics: frozenset[str], logs: frozenset[str]
) -> None:
    signals = _signals.wanted(environ)
    assert signals is not None
    assert (signals.traces, signals.metrics, signals.logs) == (traces, metrics, logs)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "chat"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "console"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": " True"},
    ],
)
def test_without_them_or_when_disabled_it_stays_off(environ: dict[str, str]) -> None:
    assert telemetry.setup("greeter", "1", environ) is False
    assert not telemetry.enabled()


def test_an_exporter_that_we_do_not_have_is_told_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert _signals.wanted({"OTEL_TRACES_EXPORTER": "zipkin"}) is None
    assert "OTEL_TRACES_EXPORTER=zipkin is ignored" in caplog.text


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_protocol_that_we_do_not_speak_is_told_with_what_we_speak(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
    assert _signals.wanted({**endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    (message,) = caplog.messages
    assert message.startswith(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: we speak http/json")
    assert ("4317" in message) == (protocol == "grpc")
    caplog.clear()
    assert _signals.wanted({**endpoint, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"})
    assert not caplog.messages


@pytest.mark.parametrize(
    "missing", ["opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.json"]
)
def test_asked_for_but_not_installed_names_the_extra(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
from handler_base import telemetry
from handler_base.errors import ConfigError
try:
    telemetry.setup("greeter", "1")
except ConfigError as error:
    assert "handler-base[telemetry]" in str(error), error
    assert not telemetry.enabled()
else:
    raise SystemExit("no ConfigError")
"""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **environ}, timeout=60)


def test_while_off_every_call_is_harmless_and_spans_are_one_shared_object() -> None:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert telemetry.extract(headers) is None
    with telemetry.span("a", kind="server", attributes={"x": 1}) as span:
        span.set("y", 2)
        span.error(ValueError("no"))
        outgoing: dict[str, str] = {}
        telemetry.inject(outgoing)
        assert outgoing == {}
        assert telemetry.current_ids() is None
    telemetry.count("c", outcome="ok")
    telemetry.record("r", 0.1, outcome="ok")
    telemetry.gauge("g", lambda: 1.0)
    telemetry.shutdown()
    assert telemetry.span("a") is telemetry.span("b")


def test_an_exception_passes_through_a_span_while_off() -> None:
    with pytest.raises(KeyError), telemetry.span("a"):
        raise KeyError("x")


def test_while_off_nothing_of_opentelemetry_is_imported() -> None:
    code = """
import sys
from handler_base import telemetry
from handler_base.telemetry import logs
logs.configure("info", "json", "greeter")
assert telemetry.setup("greeter", "1", {}) is False
with telemetry.span("a"):
    telemetry.count("b")
found = [name for name in sys.modules if name.startswith(("opentelemetry", "urllib3", "asyncio"))]
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ), timeout=60)
