"""Log records to the collector, for `OTEL_LOGS_EXPORTER=otlp`; imported only then."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from handler_base.telemetry.logs import extras

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord

    from handler_base.telemetry._export import Exporter, Outlet

_OWN = ("handler_base.telemetry", "opentelemetry", "urllib3")
_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
)


class LazyLogExporter(LogRecordExporter):
    """The SDK's view of an outlet for log records."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Deliver a batch."""
        done = self._outlet.send(batch, len(batch))
        return LogRecordExportResult.SUCCESS if done else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Nothing is kept back here."""
        return True

    def shutdown(self) -> None:
        """Nothing: the outlet is closed when all signals had their time."""


class ExportHandler(logging.Handler):
    """Hands log records to the SDK. What the way to the collector itself logs is left out: it would feed itself."""

    def __init__(self, provider: LoggerProvider, outlet: Outlet) -> None:
        super().__init__()
        self._provider = provider
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over one record with its extra fields, its exception and the current span."""
        if record.name.startswith(_OWN):
            return
        attributes = {
            key: value if isinstance(value, str | int | float | bool) else str(value)
            for key, value in extras(record).items()
        }
        if record.exc_info and record.exc_info[1] is not None:
            attributes["exception.type"] = type(record.exc_info[1]).__qualname__
            attributes["exception.message"] = str(record.exc_info[1])
            attributes["exception.stacktrace"] = "".join(traceback.format_exception(record.exc_info[1]))
        self._outlet.recorded += 1
        self._provider.get_logger(record.name).emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                severity_text=record.levelname,
                severity_number=next(
                    (number for level, number in _SEVERITIES if record.levelno >= level), SeverityNumber.DEBUG
                ),
                body=record.getMessage(),
                attributes=attributes,
            )
        )


def otlp_logs() -> Exporter:
    """Build the exporter of log records from `OTEL_EXPORTER_OTLP_*`."""
    from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter()
