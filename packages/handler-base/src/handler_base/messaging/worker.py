"""From a raw message to a published result: decode, check, run the handler, answer.

The same steps serve request/reply and durable work; `durable` adds acknowledgement, retries and dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handler_base import telemetry
from handler_base.errors import (
    INTERNAL,
    DeadlineExceeded,
    Forbidden,
    HandlerError,
    InvalidRequest,
    Overloaded,
    cause_of,
    unquoted,
)
from handler_base.messaging import wire
from handler_base.messaging.connection import ERROR_TYPE
from handler_base.messaging.context import Context, timeout_of
from handler_messages import CancelRequest, ErrorResponse
from handler_messages.subjects import Subject, SubjectError, check_response_subject, check_token, find

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from google.protobuf.message import Message

    from handler_base.messaging.cancellation import Cancellations
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.discovery import EndpointStats
    from handler_base.messaging.settings import WorkSettings
    from handler_base.messaging.subscription import RawMessage

log = logging.getLogger(__name__)

# https://docs.nats.io/nats-concepts/service_infrastructure: errors carry these two headers.
SERVICE_ERROR = "Nats-Service-Error"
SERVICE_ERROR_CODE = "Nats-Service-Error-Code"
_CODES = {
    "invalid_request": "400",
    "forbidden": "403",
    "not_found": "404",
    "too_large": "413",
    "unsupported_content_type": "415",
    "overloaded": "429",
    "cancelled": "499",
    "upstream_rejected": "502",
    "upstream_protocol": "502",
    "upstream_unavailable": "503",
    "shutting_down": "503",
    "messaging": "503",
    "upstream_timeout": "504",
    "deadline_exceeded": "504",
}


@dataclass(slots=True)
class Route:
    """One declared handler.

    Attributes:
        subject: The row of the contract it serves.
        handler: What runs for each message.
        response: Where its result is published by default; None when it has no result.
        stats: Its counters.
        timeout: Seconds for one request without a deadline of its own; 0 for the setting's.
        follows_session: Whether its work is to follow a session; see `Context.follows_session`.
        failed: Called with the error that ends a durable request for good, where there is no `response` for it.
    """

    subject: Subject
    handler: Callable[[Context, Any], Coroutine[Any, Any, Message | None]]
    response: Subject | None
    stats: EndpointStats
    timeout: float = 0.0
    follows_session: bool = False
    failed: Callable[[Context, ErrorResponse], Coroutine[Any, Any, None]] | None = None
    message: type[Message] = field(init=False)

    def __post_init__(self) -> None:
        # A subject that carries nothing is asked with an empty payload: that is how this message looks without fields.
        self.message = self.subject.messages[0] if self.subject.messages else CancelRequest


class Worker:
    """Runs the handlers of one service."""

    def __init__(
        self, connection: Connection, cancellations: Cancellations, settings: WorkSettings, service: str
    ) -> None:
        self._connection = connection
        self._cancellations = cancellations
        self._settings = settings
        self._service = service
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Wait until no request/reply request is at work."""
        await self._idle.wait()

    @property
    def in_flight(self) -> int:
        """Request/reply requests at work."""
        return self._in_flight

    # -- request/reply -----------------------------------------------------------------------------------------

    async def serve(self, route: Route, raw: RawMessage) -> None:
        """Serve one request/reply message; never raises but for cancellation."""
        loop = asyncio.get_running_loop()
        context = Context(self._connection, subject=raw.subject, headers=raw.headers, received=loop.time())
        error: BaseException | None = None
        self._in_flight += 1
        self._idle.clear()
        try:
            with self.span(route, context) as span:
                try:
                    await self._serve(route, raw, context)
                except Exception as failed:  # noqa: BLE001 - the top of a handler
                    error = failed
                    span.error(failed)
                    self.log_bug(failed, context)
                    await self._tell(route, raw, context, failed)
                finally:
                    span.set("handler.request_id", context.request_id)
        finally:
            self.count(route, loop.time() - context.received, error)
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _serve(self, route: Route, raw: RawMessage, context: Context) -> None:
        request = self.open(route, raw, context)
        if self._in_flight > self._settings.max_in_flight:
            raise Overloaded(f"{self._settings.max_in_flight} requests are at work already; try again later")
        answer = await self.perform(route, context, request, context.received)
        if answer is not None:
            await self._answer(route, raw, context, answer)

    async def _tell(self, route: Route, raw: RawMessage, context: Context, error: Exception) -> None:
        try:
            await self._answer(route, raw, context, wire.error_response(error, context.request_id))
        except HandlerError as failed:
            log.error("an answer could not be sent: %s", unquoted(failed), extra=_about(context))

    async def _answer(self, route: Route, raw: RawMessage, context: Context, answer: Message) -> None:
        wanted = {context.response_subject, raw.reply if may_receive(raw.reply) else ""} - {""}
        if not wanted and route.response is not None:
            wanted = {self.response_subject(route, context, raw.subject)} - {""}
        payload, headers = encode_answer(answer, context.kind)
        for subject in wanted:
            await self._connection.publish_bytes(subject, payload, headers)

    # -- shared steps ------------------------------------------------------------------------------------------

    def open(self, route: Route, raw: RawMessage, context: Context, fallback_id: str = "") -> Message:
        """Decode a request and check it against its subject; fills in `context`.

        Args:
            route: Its handler.
            raw: What came.
            context: Completed as far as the checks get, so that an error can be addressed.
            fallback_id: The request id when the message brings none; a random one by default.

        Raises:
            RequestError: If it cannot be served; the message says why.
        """
        context.request_id = fallback_id or uuid.uuid4().hex
        fields = route.message.DESCRIPTOR.fields_by_name
        try:
            ids = route.subject.parse(raw.subject) if route.subject.names else {}
            context.session_id = ids.get("session_id", "")
            context.request_id = ids.get("request_id", context.request_id)
            context.kind = wire.content_type(raw.headers)
            request = _decoded(route, raw.data, context.kind)
            if given := str(getattr(request, "request_id", "")):
                context.request_id = check_token(given, "request_id")
            elif "request_id" in fields:
                request.request_id = context.request_id  # pyright: ignore[reportAttributeAccessIssue]
            for name, value in ids.items():
                if name not in fields:
                    continue
                claimed = getattr(request, name)
                if claimed and claimed != value:
                    raise Forbidden(
                        f"{name} {claimed[:64]!r} in the message contradicts {value!r} in the subject"
                    )
                setattr(request, name, value)
            context.session_id = str(getattr(request, "session_id", "")) or context.session_id
            context.user_id = str(getattr(request, "user_id", ""))
            if wanted := str(getattr(request, "response_subject", "")):
                context.response_subject = _own(check_response_subject(wanted), request)
        except SubjectError as error:
            raise InvalidRequest(str(error)) from error
        return request

    async def perform(self, route: Route, context: Context, request: Message, since: float) -> Message | None:
        """Run the handler within its deadline, cancellable by its request id.

        Args:
            route: The handler.
            context: Its context.
            request: The decoded message.
            since: When its time began to run, in the loop's time.

        Raises:
            HandlerError: As the handler, or a `Stopped` when it was stopped.
        """
        timeout = timeout_of(context.headers, route.timeout or self._settings.request_timeout)
        expired = DeadlineExceeded(f"not done within its {timeout:g} s")
        context.follows_session = route.follows_session
        self._cancellations.add(context)
        try:
            return await context.run(route.handler(context, request), since + timeout, expired)
        except BaseExceptionGroup as group:
            raise cause_of(group) from group
        finally:
            self._cancellations.discard(context)

    def span(self, route: Route, context: Context) -> telemetry.Span:
        """Return the span of one request, from its arrival to its answer: a child of its sender's."""
        return telemetry.span(
            f"{route.subject.template} process",
            kind="consumer",
            attributes={
                "messaging.system": "nats",
                "messaging.operation.type": "process",
                "messaging.destination.name": route.subject.template,
            },
            parent=telemetry.extract(context.headers),
        )

    def response_subject(self, route: Route, context: Context, subject: str) -> str:
        """Return where the result goes by default, and where a durable one is recorded.

        "" when there is no such place: the subject that the request came on holds an id that cannot be one.
        """
        assert route.response is not None
        ids = {"request_id": context.request_id}
        try:
            if set(route.response.names) - set(ids):
                ids |= route.subject.parse(subject)
            return route.response.build(**{name: ids[name] for name in route.response.names})
        except SubjectError:
            return ""

    def count(self, route: Route, seconds: float, error: BaseException | None) -> None:
        """Count one ended request in the statistics and metrics."""
        kind = "" if error is None else error.type if isinstance(error, HandlerError) else INTERNAL
        said = "" if error is None else unquoted(error)
        route.stats.ended(seconds, said if said == kind else f"{kind}: {said}")
        if telemetry.enabled():
            telemetry.record("handler.request.duration", seconds, subject=route.subject.template, error=kind)
            if kind:
                telemetry.count("handler.request.errors", subject=route.subject.template, error=kind)

    def log_bug(self, error: BaseException, context: Context) -> None:
        """Log an error outside the tree, with its stack: it is a defect of ours. Others are no news."""
        if not isinstance(error, HandlerError):
            log.error("unexpected %s", type(error).__name__, exc_info=error, extra=_about(context))


def encode_answer(answer: Message, kind: str) -> tuple[bytes, dict[str, str] | None]:
    """Return payload and headers of a result.

    Args:
        answer: The result, or the `ErrorResponse` in its place.
        kind: The content type of the request.
    """
    headers: dict[str, str] = {}
    if kind != wire.PROTOBUF:
        headers[wire.HEADER] = kind
    if isinstance(answer, ErrorResponse):
        headers[ERROR_TYPE] = answer.type
        headers[SERVICE_ERROR] = answer.message[:200]
        headers[SERVICE_ERROR_CODE] = _CODES.get(answer.type, "500")
    if telemetry.enabled():
        telemetry.inject(headers)
    return wire.encode(answer, kind), headers or None


def _about(context: Context) -> dict[str, str]:
    return {"request_id": context.request_id, "subject": context.subject}


def _decoded(route: Route, data: bytes, kind: str) -> Message:
    """Read a request; where the subject carries nothing, nothing is right in every content type."""
    if not data and not route.subject.messages:
        return route.message()
    return wire.decode(route.message, data, kind)


def _own(subject: str, request: Message) -> str:
    """Return a checked response subject; one of the contract's must be this request's, not somebody else's."""
    row = find(subject)
    for name, value in row.parse(subject).items() if row is not None else ():
        if value != getattr(request, name, ""):
            raise Forbidden(f"response subject {subject!r} belongs to another {name}")
    return subject


def may_receive(reply: str) -> bool:
    """Whether a reply inbox may be answered; a hostile one could name a subject that a service consumes."""
    if not reply:
        return False
    try:
        check_response_subject(reply)
    except SubjectError as error:
        log.warning("no answer is sent: %s", error)
        return False
    return True
