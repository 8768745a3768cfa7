"""The life of a service: declare handlers, start in any order, run, stop cleanly.

    service = Service("greeter", "1.0.0", settings)
    service.handle(subjects.CHAT_GREETING_REQUEST, greet, response=subjects.CHAT_GREETING_RESPONSE)
    await service.run(stop)

`process.py` makes a process of it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Any

from handler_base import telemetry
from handler_base.config import Settings
from handler_base.errors import ConfigError, HandlerError, MessagingError, ShuttingDown, unquoted
from handler_base.health import HealthServer, HealthSettings
from handler_base.messaging import wire
from handler_base.messaging.backoff import Backoff
from handler_base.messaging.cancellation import Cancellations
from handler_base.messaging.connection import Connection
from handler_base.messaging.discovery import Discovery, EndpointStats
from handler_base.messaging.durable import DurableConsumer
from handler_base.messaging.settings import NatsSettings, WorkSettings
from handler_base.messaging.streams import ensure_streams
from handler_base.messaging.worker import Route, Worker, may_receive
from handler_base.telemetry import TelemetrySettings
from handler_messages import CancelRequest, STTInterrupt
from handler_messages.subjects import DEAD_LETTER, MAX_TOKEN_BYTES, Delivery, Subject, SubjectError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from google.protobuf.message import Message

    from handler_base.messaging.context import Context
    from handler_base.messaging.subscription import RawMessage, Subscription
    from handler_messages import ErrorResponse

log = logging.getLogger(__name__)

PING_TIMEOUT = 0.5
"""Longest way of a message through NATS to ourselves, in seconds; the probes have 0.8 s in all."""

DRAIN_TIMEOUT = 3.0
"""Longest wait for NATS to stop sending when the service stops, in seconds."""

HAND_BACK_TIMEOUT = 2.0
"""Longest wait for what was told to stop, in seconds; what still runs then is cut off."""

RETRY_MAX = 5.0
"""Longest wait between attempts to get something that is missing at start, in seconds."""

_AGAIN = Backoff(0.2, RETRY_MAX)


class ServiceSettings(Settings, frozen=True, kw_only=True):
    """What every service is told; services nest their own groups beside these."""

    nats: NatsSettings = NatsSettings()
    work: WorkSettings = WorkSettings()
    health: HealthSettings = HealthSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


class Service:
    """One running service.

    Attributes:
        name: Its name: queue group, durable consumers, dead letters and discovery are called after it.
        version: Semantic version.
        connection: Its connection to NATS, connected before the first `on_start` callback runs.
    """

    def __init__(self, name: str, version: str, settings: ServiceSettings, *, description: str = "") -> None:
        self.name = name
        self.version = version
        self.connection = Connection(settings.nats, name=name)
        self._settings = settings
        self._cancellations = Cancellations()
        self._worker = Worker(self.connection, self._cancellations, settings.work, name)
        self._routes: list[Route] = []
        self._listeners: list[tuple[Subject, Callable[[Any], Awaitable[None]]]] = []
        self._background: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._streams: set[str] = set()
        self._needs: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._on_start: list[Callable[[], Awaitable[None]]] = []
        self._on_stop: list[Callable[[], Awaitable[None]]] = []
        self._consumers: list[DurableConsumer] = []
        self._subscriptions: list[Subscription] = []
        self._missing: dict[str, str] = {"start": "starting"}
        self._patience: asyncio.Timeout | None = None
        self._hurried = False
        self._instance = uuid.uuid4().hex[:22]
        self._stats: list[EndpointStats] = []
        self._discovery = Discovery(
            self.connection,
            name=name,
            version=version,
            instance=self._instance,
            description=description,
            endpoints=self._stats,
        )
        self.health = HealthServer(info={"service": name, "version": version}, probe=self.missing)

    # -- declaring ---------------------------------------------------------------------------------------------

    def handle(
        self,
        subject: Subject,
        handler: Callable[[Context, Any], Coroutine[Any, Any, Message | None]],
        *,
        response: Subject | None = None,
        timeout: float = 0.0,
        follows_session: bool = False,
        failed: Callable[[Context, ErrorResponse], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Declare what serves a subject; the table of subjects says how it is consumed.

        Args:
            subject: A row of the table with delivery `REQUEST` or `DURABLE`.
            handler: Called with the context and the decoded message; returns the result.
            response: Where the result goes when the request names no place of its own.
            timeout: Seconds for one request without a deadline of its own; 0 for REQUEST_TIMEOUT.
            follows_session: Whether the work is to follow a session: an interrupt of its speech does not stop it.
            failed: Called with the error that ends a durable request for good, where there is no `response`.

        Raises:
            ValueError: If the row is not one that a service consumes.
        """
        if subject.delivery not in {Delivery.REQUEST, Delivery.DURABLE}:
            raise ValueError(f"{subject.template} is not consumed by a handler")
        durable = subject.delivery is Delivery.DURABLE
        stats = EndpointStats(
            name=subject.slug,
            subject=subject.wildcard,
            queue_group=f"{self.name}-{subject.slug}" if durable else self.name,
            metadata={"delivery": subject.delivery.value},
        )
        route = Route(subject, handler, response, stats, timeout, follows_session, failed)
        self._routes.append(route)
        self._stats.append(stats)
        if durable:
            self._streams |= {subject.stream, DEAD_LETTER.stream}
            self._consumers.append(
                DurableConsumer(
                    self.connection,
                    self._worker,
                    route,
                    self._settings.work,
                    service=self.name,
                    durable=stats.queue_group,
                )
            )
        if response is not None and response.stream:
            self._streams.add(response.stream)

    def cancel_on(self, subject: Subject) -> None:
        """Stop requests by the `CancelRequest`s that come on `subject`."""
        self._listeners.append((subject, self._cancel))

    def interrupt_on(self, subject: Subject) -> None:
        """Stop the speech of sessions by the `STTInterrupt`s that come on `subject`; see `Context.on_interrupt`."""

        async def interrupt(message: RawMessage) -> None:
            try:
                session_id = subject.parse(message.subject)["session_id"]
            except SubjectError:
                return  # no session has such an id
            heard = STTInterrupt()
            try:
                heard = wire.decode(STTInterrupt, message.data, wire.content_type(message.headers))
            except HandlerError as error:
                log.warning("unreadable interrupt: %s", unquoted(error), extra={"subject": message.subject})
            heard.session_id = session_id
            self._cancellations.interrupt(heard)

        self._listeners.append((subject, interrupt))

    def background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` beside the handlers, from the first connection until the service stops."""
        self._background.append(work)

    def publishes(self, subject: Subject) -> None:
        """Declare that handlers publish on `subject`, so that its stream is made ready."""
        if subject.stream:
            self._streams.add(subject.stream)

    def needs(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        """Declare an endpoint without which no durable work is taken at start.

        `check` raises a `HandlerError` while it is not there; it is tried again until it is.
        """
        self._needs.append((name, check))

    def on_start(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Run `callback` once connected, again after each reconnect, and again until it succeeds."""
        self._on_start.append(callback)

    def on_stop(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Run `callback` after the last work has ended."""
        self._on_stop.append(callback)

    # -- running -----------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Start, work until `stop` is set, stop cleanly.

        Raises:
            ConfigError: If the settings cannot work, for instance a port that is taken.
        """
        await self.health.start(self._settings.health.host, self._settings.health.port)
        try:
            async with asyncio.TaskGroup() as tasks:
                starting = tasks.create_task(self._start(tasks))
                await stop.wait()
                self._missing = {"stop": "stopping"}
                log.info("stopping")
                starting.cancel()
                await self._finish_work()
                # Whatever waits for a server that is away would keep the process for as long.
                raise _Finished
        except BaseExceptionGroup as group:
            _, failed = group.split(_Finished)
            if failed is not None:
                raise next((e for e in failed.exceptions if isinstance(e, ConfigError)), failed) from None
        finally:
            await self._close()

    def hurry(self) -> None:
        """End the grace time now: for a second signal, or a person who presses Ctrl-C again."""
        self._hurried = True
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def missing(self) -> Sequence[str]:
        """Name what keeps the service from its work; empty when it is ready."""
        missing = [f"{name}: {reason}" for name, reason in self._missing.items()]
        if not self.connection.connected:
            status = self.connection.status()
            return [*missing, f"NATS: {status.last_error or 'not connected'}"]
        if missing:
            return missing
        missing += [c.problem for c in self._consumers if c.problem]
        try:
            await self.connection.request_bytes(self._discovery.ping_subject, b"", timeout=PING_TIMEOUT)
        except HandlerError as error:
            missing.append(f"consumption: {error}")
        return missing

    @property
    def in_flight(self) -> int:
        """Requests at work, of both kinds."""
        return self._worker.in_flight + sum(consumer.in_flight for consumer in self._consumers)

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        self._missing = {"NATS": "connecting"}
        await self.connection.connect()
        self._missing = {"streams": "not prepared yet"} | {name: "not reached yet" for name, _ in self._needs}

        async def reconnected() -> None:
            tasks.create_task(self._prepare())

        self.connection.on_reconnect(reconnected)
        # Request/reply needs no stream: it is served while these are prepared.
        await self._discovery.start()
        for subject, callback in self._listeners:
            await self.connection.subscribe(subject.wildcard, callback)
        for route in self._routes:
            if route.subject.delivery is Delivery.REQUEST:
                await self._serve(route, tasks)
        for work in self._background:
            tasks.create_task(work())
        await asyncio.gather(self._prepare(), *(self._until(name, check) for name, check in self._needs))
        for consumer in self._consumers:
            consumer.problem = "starting to consume"
            tasks.create_task(consumer.run())
        log.info("ready", extra={"instance": self._instance, "health_port": self.health.port})

    async def _prepare(self) -> None:
        async def streams() -> None:
            await ensure_streams(self.connection.jetstream, sorted(self._streams))

        await asyncio.gather(
            self._until("streams", streams),
            *(self._until(getattr(call, "__qualname__", "start"), call) for call in self._on_start),
        )

    async def _until(self, name: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try for ever, with growing waits; says in `missing` what is waited for."""
        tries = 0
        while True:
            try:
                await attempt()
            except HandlerError as error:
                if self._missing.get(name) != error.message:
                    log.warning("waiting for %s: %s", name, error)
                self._missing[name] = error.message
                tries += 1
                await asyncio.sleep(_AGAIN.wait(tries))
            else:
                self._missing.pop(name, None)
                return

    async def _serve(self, route: Route, tasks: asyncio.TaskGroup) -> None:
        async def spawn(message: RawMessage) -> None:
            tasks.create_task(self._worker.serve(route, message))

        subscription = await self.connection.subscribe(route.subject.wildcard, spawn, queue=self.name)
        self._subscriptions.append(subscription)

    async def _cancel(self, message: RawMessage) -> None:
        kind, request = wire.PROTOBUF, CancelRequest()
        try:
            kind = wire.content_type(message.headers)
            request = wire.decode(CancelRequest, message.data, kind)
        except HandlerError as error:
            log.warning("unreadable cancel: %s", unquoted(error), extra={"subject": message.subject})
        request_id = request.request_id or message.subject.rsplit(".", 1)[-1]
        if len(request_id) > MAX_TOKEN_BYTES:
            return  # no request has such an id
        stopped = self._cancellations.cancel(request_id, request.session_id, request.reason)
        if may_receive(message.reply):
            answer = CancelRequest(request_id=request_id, reason=f"stopped {stopped}")
            await self.connection.publish(message.reply, answer, kind=kind)

    async def _finish_work(self) -> None:
        """Take no more, let what runs finish within the grace time, hand the rest back."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await asyncio.gather(
                    *(consumer.stop() for consumer in self._consumers),
                    *(subscription.drain() for subscription in self._subscriptions),
                )
        except TimeoutError:
            log.warning("NATS does not answer; what it has sent meanwhile is lost or delivered again")
        reason = ShuttingDown("the service stops; send the request again")
        self._cancellations.hand_over(reason)
        if await self._graced():
            return
        left = self._cancellations.close(reason)
        log.warning("%d requests are handed back", left, extra={"grace": self._settings.work.grace})
        try:
            async with asyncio.timeout(HAND_BACK_TIMEOUT):
                await self._idle()
        except TimeoutError:
            log.warning("%d requests are cut off", self.in_flight)

    async def _graced(self) -> bool:
        """Wait until nothing is at work; False if the grace time ended before."""
        try:
            async with asyncio.timeout(0 if self._hurried else self._settings.work.grace) as self._patience:
                await self._idle()
        except TimeoutError:
            return False
        finally:
            self._patience = None
        return True

    async def _idle(self) -> None:
        await self._worker.idle()
        for consumer in self._consumers:
            await consumer.idle()

    async def _close(self) -> None:
        for callback in self._on_stop:
            await callback()
        try:
            await self.connection.close()
        except MessagingError as error:
            log.error("%s", error)
        await self.health.stop()
        telemetry.shutdown()
        log.info("stopped")


class _Finished(Exception):
    """The work is done: end whatever else runs."""
