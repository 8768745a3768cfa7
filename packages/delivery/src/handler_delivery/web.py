"""HTTP for tools: one request, bounded in time, and words for what went wrong."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from handler_delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 30.0
"""Seconds without a byte before a server counts as away."""

MOST = 16 * 1024 * 1024
"""Bytes of an answer that are read."""


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        status: The HTTP status.
        headers: By lower-case name.
        body: The body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body decoded from JSON.

        Raises:
            DeliveryError: If it is none.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise DeliveryError(f"expected JSON, got {self.body[:80]!r}") from error

    def words(self) -> str:
        """Return the status and the start of the body, for an error message."""
        return f"HTTP {self.status}: {self.body[:300].decode(errors='replace').strip()}"


def call(
    url: str,
    *,
    value: object = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Answer:
    """Send a request: a POST of `value` in JSON if there is one, else a GET. Any status is an answer.

    Raises:
        DeliveryError: If there is no answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise DeliveryError(f"{url!r} is no http or https address")
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))
    if body is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return _answer(response.status, response.headers, response.read(MOST))
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error.headers, error.read(MOST))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DeliveryError(f"{parts.scheme}://{parts.netloc} cannot be reached: {reason}") from error


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    return Answer(status, {name.lower(): value for name, value in headers.items()}, body)
