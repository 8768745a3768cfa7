"""What the standard `OTEL_*` variables ask for, read without OpenTelemetry.

Specification: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

| variable | effect |
|---|---|
| `OTEL_SDK_DISABLED=true` | everything off, whatever else is set |
| `OTEL_EXPORTER_OTLP_ENDPOINT` | traces and metrics go there |
| `OTEL_EXPORTER_OTLP_{TRACES,METRICS,LOGS}_ENDPOINT` | that signal goes there |
| `OTEL_{TRACES,METRICS,LOGS}_EXPORTER` | `otlp`, `console` or `none` for that signal, or several with commas |

Logs are on standard output already, where the cluster's agent reads them, so they are exported only when asked
for by a variable of their own.
"""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import msgspec

from handler_base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Exporter = Literal["otlp", "console"]

_KNOWN: dict[str, Exporter | None] = {
    "otlp": "otlp",
    "console": "console",
    "logging": "console",
    "none": None,
}
_log = logging.getLogger(__name__)


class Signals(msgspec.Struct, frozen=True):
    """Where each signal goes; empty means nowhere.

    Attributes:
        traces: Exporters of spans.
        metrics: Exporters of metrics.
        logs: Exporters of log records.
    """

    traces: frozenset[Exporter]
    metrics: frozenset[Exporter]
    logs: frozenset[Exporter]


def wanted(environ: Mapping[str, str] | None = None) -> Signals | None:
    """Return where the signals go, or None when nothing is asked for."""
    environ = os.environ if environ is None else environ
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    everywhere = bool(environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
    signals = Signals(
        traces=_exporters("TRACES", environ, everywhere=everywhere),
        metrics=_exporters("METRICS", environ, everywhere=everywhere),
        # The console already has the logs.
        logs=_exporters("LOGS", environ, everywhere=False) - {"console"},
    )
    if not (signals.traces or signals.metrics or signals.logs):
        return None
    if "otlp" in signals.traces | signals.metrics | signals.logs:
        _tell_protocol(environ)
    return signals


def check_installed() -> None:
    """Raise ConfigError unless the packages of the extra are there."""
    try:
        found = find_spec("opentelemetry.sdk") and find_spec("opentelemetry.exporter.otlp.json.http")
    except ModuleNotFoundError:
        found = None
    if not found:
        problem = (
            "OTEL_* variables ask for telemetry, which is not installed: install handler-base[telemetry]"
        )
        raise ConfigError([f"{problem} or set OTEL_SDK_DISABLED=true"])


def _exporters(signal: str, environ: Mapping[str, str], *, everywhere: bool) -> frozenset[Exporter]:
    variable = f"OTEL_{signal}_EXPORTER"
    names = [name.strip().lower() for name in environ.get(variable, "").split(",") if name.strip()]
    if not names:
        on = everywhere or bool(environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))
        return frozenset({"otlp"}) if on else frozenset()
    for name in names:
        if name not in _KNOWN:
            _log.warning("%s=%s is ignored: expected otlp, console or none", variable, name)
    return frozenset(exporter for name in names if (exporter := _KNOWN.get(name)))


def _tell_protocol(environ: Mapping[str, str]) -> None:
    for prefix in ("", "TRACES_", "METRICS_", "LOGS_"):
        variable = f"OTEL_EXPORTER_OTLP_{prefix}PROTOCOL"
        protocol = environ.get(variable, "").strip().lower()
        if protocol in {"", "http/json"}:
            continue
        port = "; that is another port than grpc's 4317" if protocol == "grpc" else ""
        _log.warning(
            "%s=%s: we speak http/json, which a collector takes where it takes http/protobuf (4318)%s",
            variable,
            protocol,
            port,
        )
