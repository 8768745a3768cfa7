"""The engine's failures and the endpoint's refusals as the project's errors, in words a person understands.

A message says which endpoint (name, host and port; never credentials, never a query), what happened, and what to
check. The endpoint's own words are quoted, shortened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import msgspec

from handler_base.errors import (
    HandlerError,
    Overloaded,
    UpstreamError,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from handler_base.http._failures import (
    Broken,
    NoSlot,
    NotConnected,
    Silent,
    TooMuch,
    TransportFailure,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_QUOTE = 300
"""Longest quotation of an endpoint's own message, in characters."""

MAX_ERROR_BODY = 64 * 1024
"""How much of an error response is read."""


class Redirect(UpstreamProtocol):
    """The endpoint answers that what was asked for is elsewhere. Never followed here: see decision 2.

    Attributes:
        location: Where, as the endpoint says it; may be relative to the address that was asked.
    """

    def __init__(self, message: str, *, endpoint: str, status: int, location: str) -> None:
        super().__init__(message, endpoint=endpoint, status=status)
        self.location = location


class Names:
    """What to call an endpoint in errors.

    Args:
        name: Its name in our words, for instance `llm`.
        where: Host and port.
        setting: The setting that holds its address, or "".
        secret: Its API key, to be struck out of whatever it says.
    """

    __slots__ = ("_check", "name", "secret", "where")

    def __init__(self, name: str, where: str, setting: str, secret: str) -> None:
        self.name = name
        self.where = f"{name} at {where}"
        self.secret = secret
        self._check = setting or "its address"

    def failed(self, failure: TransportFailure) -> HandlerError:
        """Return the error for a failure of the engine, with the failure as its cause."""
        if isinstance(failure, NoSlot):
            error: HandlerError = Overloaded(
                f"too many requests to {self.where}: {failure.reason}; try later"
            )
        else:
            kind, text = self._told(failure)
            error = kind(f"{self.where} {text}", endpoint=self.name)
        error.__cause__ = failure
        return error

    def _told(self, failure: TransportFailure) -> tuple[type[UpstreamError], str]:
        reason, check = failure.reason, self._check
        match failure:
            case NotConnected(slow=True):
                told = UpstreamTimeout, f"{reason}; check {check} and the network"
            case NotConnected():
                told = UpstreamUnavailable, f"{reason}; check that it runs and that {check} is right"
            case Silent(started=False):
                told = (
                    UpstreamTimeout,
                    f"did not answer within {failure.seconds:g} s; it may be overloaded or still loading its model",
                )
            case Silent():
                told = UpstreamTimeout, f"stopped in the middle of its answer: {reason}"
            case Broken(started=False):
                told = (
                    UpstreamUnavailable,
                    f"broke off before it answered: {reason}; it may have crashed or restarted",
                )
            case Broken():
                told = UpstreamUnavailable, f"broke off in the middle of its answer: {reason}"
            case TooMuch():
                told = UpstreamProtocol, f"{reason}, which is our limit"
            case _:
                told = UpstreamProtocol, f"does not speak HTTP/1.1 as expected ({reason}); check {check}"
        return told

    def refused(self, status: int, headers: Mapping[str, str], body: bytes, path: str) -> UpstreamError:
        """Return the error for a response whose status is not 2xx."""
        said = self.quoted(body, headers.get("content-type", ""))
        says = f": {said}" if said else ""
        if status < 400:
            location = headers.get("location", "")
            return Redirect(
                f"{self.where} redirects to {_target(location)} ({status}), which is not followed; check {self._check}",
                endpoint=self.name,
                status=status,
                location=location,
            )
        if status in {408, 429} or (status >= 500 and status != 501):
            what = "is overloaded" if status == 429 else "failed" if status == 500 else "is not available"
            return UpstreamUnavailable(
                f"{self.where} {what} ({status}){says}",
                endpoint=self.name,
                status=status,
                retry_after=_retry_after(headers.get("retry-after", "")),
                said=said,
            )
        match status:
            case 401 | 403:
                text = f"{self.where} does not accept our credentials ({status}){says}; check its API key"
            case 404:
                at = f" at {path}" if path else ""
                text = f"{self.where} has nothing{at} (404){says}; check {self._check} and the model's name"
            case 413:
                text = f"{self.where} finds the request too large (413){says}"
            case _:
                text = f"{self.where} rejected the request ({status}){says}"
        return UpstreamRejected(text, endpoint=self.name, status=status, said=said)

    def unreadable(self, what: str) -> UpstreamProtocol:
        """Return the error for an answer that does not follow its contract."""
        return UpstreamProtocol(
            f"{self.where} answered something we cannot read: {what}; check {self._check}", endpoint=self.name
        )

    def ended(self, what: str) -> UpstreamUnavailable:
        """Return the error for an answer that ended too early."""
        return UpstreamUnavailable(f"{self.where} {what}", endpoint=self.name)

    def quoted(self, body: bytes, content_type: str = "application/json") -> str:
        """Return the endpoint's own error message, on one line and shortened, or ""."""
        try:
            text = _message(msgspec.json.decode(body))
        except msgspec.DecodeError:
            text = "" if "html" in content_type else body[: 4 * MAX_QUOTE].decode("utf-8", "replace")
        if self.secret:
            text = text.replace(self.secret, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= MAX_QUOTE else text[: MAX_QUOTE - 1].rstrip() + "…"


def _message(value: Any) -> str:
    """Find the words in the shapes that servers use: OpenAI's, FastAPI's, and plain ones."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(_message, cast("list[Any]", value)[:3])))
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        for key in ("error", "message", "detail", "msg", "error_message"):
            if text := _message(fields.get(key)):
                return text
    return ""


def _target(location: str) -> str:
    try:
        parts = urlsplit(location)
    except ValueError:
        return "another address"
    return f"{parts.scheme}://{parts.hostname}{parts.path}" if parts.hostname else parts.path or "nowhere"


def _retry_after(value: str) -> float | None:
    """Read `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    import datetime as dt
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())
