"""One tree of errors, each with a `type` for programs, `retryable`, and a message for the caller.

    HandlerError
    ├── ConfigError               config                   settings are missing or wrong
    ├── RequestError              what the caller sent cannot be served
    │   ├── InvalidRequest        invalid_request          bytes or fields that make no sense
    │   ├── UnsupportedContent    unsupported_content_type a content type that nobody here speaks
    │   ├── Forbidden             forbidden                not yours to ask
    │   ├── NotFound              not_found                names something that does not exist
    │   └── TooLarge              too_large                over a limit of size
    ├── Overloaded                overloaded               over a limit of load; try later       (retryable)
    ├── Stopped                   the work was told to stop
    │   ├── Cancelled             cancelled                by its caller
    │   ├── DeadlineExceeded      deadline_exceeded        by its deadline
    │   └── ShuttingDown          shutting_down            by our own end                        (retryable)
    ├── UpstreamError             an endpoint failed
    │   ├── UpstreamUnavailable   upstream_unavailable     refused, reset, 429, 5xx              (retryable)
    │   ├── UpstreamTimeout       upstream_timeout         did not answer in time                (retryable)
    │   ├── UpstreamRejected      upstream_rejected        4xx: it will not take this request
    │   └── UpstreamProtocol      upstream_protocol        answered something we cannot read
    ├── MessagingError            messaging                NATS did not do what we asked         (retryable)
    └── (anything else)           internal

Foreign errors (of the HTTP engine, nats-py, SQLite) are mapped to this tree in the room that meets them.
Messages reach the caller: they say what is wrong and what to do, never a secret or a stack trace.
"""

from __future__ import annotations

from typing import ClassVar

INTERNAL = "internal"
"""The type reported for an error outside the tree."""


class HandlerError(Exception):
    """Base of the tree.

    Attributes:
        type: Stable name for programs; goes into `ErrorResponse.type`.
        retryable: Whether the same request may succeed later.
        message: One or two sentences for a person.
    """

    type: ClassVar[str] = INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def unquoted(error: BaseException) -> str:
    """Return what may be said of `error` in logs and statistics, which hold nothing that people wrote.

    A refusal may quote the request, and the text of an error outside the tree may hold anything.
    """
    if isinstance(error, RequestError):
        return error.type
    return str(error) if isinstance(error, HandlerError) else type(error).__name__


def cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that a task group stands for: the first of our tree, else the first; the rest followed from it."""
    found: BaseException | None = None
    for error in group.exceptions:
        leaf = cause_of(error) if isinstance(error, BaseExceptionGroup) else error  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(leaf, HandlerError):
            return leaf
        found = found or leaf
    return found or group


class ConfigError(HandlerError):
    """Settings are missing or wrong.

    Attributes:
        problems: One sentence per problem; all of them, not just the first.
    """

    type = "config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class RequestError(HandlerError):
    """What the caller sent cannot be served; sending it again will not help."""


class InvalidRequest(RequestError):
    """Bytes or fields that make no sense."""

    type = "invalid_request"


class UnsupportedContent(RequestError):
    """A content type that nobody here speaks."""

    type = "unsupported_content_type"


class Forbidden(RequestError):
    """The caller may not ask this."""

    type = "forbidden"


class NotFound(RequestError):
    """The request names something that does not exist."""

    type = "not_found"


class TooLarge(RequestError):
    """Over a limit of size."""

    type = "too_large"


class Overloaded(HandlerError):
    """Over a limit of load; the same request may succeed later."""

    type = "overloaded"
    retryable = True


class Stopped(HandlerError):
    """The work was told to stop before its end."""


class Cancelled(Stopped):
    """Stopped by the caller."""

    type = "cancelled"


class DeadlineExceeded(Stopped):
    """Stopped because its deadline passed."""

    type = "deadline_exceeded"


class ShuttingDown(Stopped):
    """Stopped because this process ends; another replica may do it."""

    type = "shutting_down"
    retryable = True


class UpstreamError(HandlerError):
    """An endpoint failed.

    Attributes:
        endpoint: Its name in our words, for instance `llm`.
        status: HTTP status, or 0 when there was no response.
        retry_after: Seconds the endpoint asked us to wait, or None.
        said: The endpoint's own words, on one line and shortened; "" where there were none.
    """

    type = "upstream"

    def __init__(
        self,
        message: str,
        *,
        endpoint: str = "",
        status: int = 0,
        retry_after: float | None = None,
        said: str = "",
    ) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.status = status
        self.retry_after = retry_after
        self.said = said


class UpstreamUnavailable(UpstreamError):
    """Refused, reset, or answered 429 or 5xx."""

    type = "upstream_unavailable"
    retryable = True


class UpstreamTimeout(UpstreamError):
    """Did not answer in time."""

    type = "upstream_timeout"
    retryable = True


class UpstreamRejected(UpstreamError):
    """Answered 4xx: it will not take this request."""

    type = "upstream_rejected"


class UpstreamProtocol(UpstreamError):
    """Answered something that does not follow its contract."""

    type = "upstream_protocol"


class MessagingError(HandlerError):
    """NATS did not do what we asked."""

    type = "messaging"
    retryable = True
