"""Traces and metrics; nothing is recorded yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class Span:
    """One timed step of a trace."""

    def set(self, key: str, value: str | float | bool) -> None:
        """Set an attribute."""

    def error(self, error: BaseException) -> None:
        """Mark the span as failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def enabled() -> bool:
    """Whether telemetry is on."""
    return False


def span(
    name: str,
    *,
    kind: Literal["internal", "server", "client", "producer", "consumer"] = "internal",
    attributes: Mapping[str, str | int | float | bool] | None = None,
    parent: object | None = None,
) -> Span:
    """Return a span to use in a `with` block."""
    del name, kind, attributes, parent
    return Span()


def inject(headers: dict[str, str]) -> None:
    """Write the current span into `headers`."""


def record(name: str, /, seconds: float, **attributes: str | int | bool) -> None:
    """Record a duration."""
