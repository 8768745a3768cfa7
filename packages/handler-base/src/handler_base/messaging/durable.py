"""Durable work: at least once from a JetStream pull consumer, answered once.

See `docs/decisions/0003-delivery.md`. nats-py's `fetch` waits in two phases and leaves requests behind on the
server when it gives up, so the pull protocol (ADR-37 of the NATS design documents) is spoken here: one
outstanding request for as many messages as there are free slots, its heartbeats watched.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import nats.errors

from handler_base.errors import MessagingError
from handler_base.messaging.backoff import Backoff
from handler_base.messaging.context import Context
from handler_base.messaging.delivered import PREFIX, Delivered
from handler_base.messaging.delivery import PROGRESS, DeliveredMessage, DeliveryProcess, nak
from handler_base.messaging.reasons import describe
from handler_base.messaging.streams import RESPONSES_MAX_AGE, ensure_streams
from handler_messages.subjects import DEAD_LETTER

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.settings import WorkSettings
    from handler_base.messaging.subscription import RawMessage, Subscription
    from handler_base.messaging.worker import Route, Worker

log = logging.getLogger(__name__)

PULL_EXPIRES = 30.0
"""How long one pull request waits on the server, in seconds."""

PULL_HEARTBEAT = 5.0
"""How often the server says that a waiting pull request is alive, in seconds."""


_AGAIN = Backoff(0.4, 10.0)


class DurableConsumer:
    """Pulls one subject's messages and works on them, never on more than there are free slots."""

    def __init__(
        self,
        connection: Connection,
        worker: Worker,
        route: Route,
        settings: WorkSettings,
        *,
        service: str,
        durable: str,
    ) -> None:
        self._connection = connection
        self._process = DeliveryProcess(
            connection, worker, route, settings, service=service, doubted=self._look_again
        )
        self._route = route
        self._settings = settings
        self._durable = durable
        self._work: dict[str, DeliveredMessage] = {}
        self._outstanding = 0
        self._generation = 0
        self._heard = 0.0
        self._bound = False
        self._refused = ""
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: asyncio.TaskGroup | None = None
        self._subscription: Subscription | None = None
        self._inbox = ""
        self.problem = "not started"
        """Why nothing is consumed, or "" when consumption works."""
        connection.on_reconnect(self._reconnected)

    @property
    def in_flight(self) -> int:
        """Messages at work."""
        return len(self._work)

    # -- consuming ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume until `stop`; whatever fails is tried again with growing waits."""
        self._inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._arrived)
        failures = 0
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            beats = tasks.create_task(self._keep_alive())
            while not self._stopping.is_set():
                try:
                    if not self._bound:
                        await self._bind()
                    await self._pull()
                    failures = 0
                except MessagingError as error:
                    if self.problem != error.message:
                        log.warning("%s: %s", self._route.subject.template, error)
                    self.problem = error.message
                    self._bound, self._refused = False, ""
                    failures += 1
                    await self._wait(_AGAIN.wait(failures))
            await self._idle.wait()
            beats.cancel()

    async def stop(self) -> None:
        """Take no more messages; those at work go on, those on the way to us go back."""
        self._stopping.set()
        self._wake.set()
        self.problem = "stopping"
        if self._subscription is not None:
            await self._subscription.drain()

    async def idle(self) -> None:
        """Wait until nothing is at work."""
        await self._idle.wait()

    def _look_again(self) -> None:
        """Make sure of streams and consumer before more is pulled: one of them may be gone."""
        self._bound = False
        self._wake.set()

    async def _bind(self) -> None:
        from nats.js import api
        from nats.js.errors import NotFoundError

        route, settings = self._route, self._settings
        stream = route.subject.stream
        needed = {stream, DEAD_LETTER.stream, route.response.stream if route.response else ""} - {""}
        js = self._connection.jetstream
        await ensure_streams(js, sorted(needed))
        ours: dict[str, Any] = {
            "ack_wait": settings.ack_wait,
            # Attempts are counted here: at the server's limit a message would stay behind, unseen.
            "max_deliver": -1,
            "max_ack_pending": max(1000, 4 * settings.durable_in_flight),
        }
        try:
            try:
                config: Any = (await js.consumer_info(stream, self._durable)).config
            except NotFoundError:
                # What is older than the results we keep could be answered a second time.
                start = datetime.now(UTC) - timedelta(seconds=RESPONSES_MAX_AGE)
                config = api.ConsumerConfig(
                    durable_name=self._durable,
                    filter_subject=route.subject.wildcard,
                    ack_policy=api.AckPolicy.EXPLICIT,
                    deliver_policy=api.DeliverPolicy.BY_START_TIME,
                    opt_start_time=start,
                )
            if any(getattr(config, name) != value for name, value in ours.items()):
                await js.add_consumer(stream, config.evolve(**ours))
        except nats.errors.Error as error:
            raise MessagingError(
                f"consumer {self._durable} on {stream} cannot be made ready: {describe(error)}"
            ) from error
        self._bound = True
        self.problem = ""

    async def _pull(self) -> None:
        """Ask for as many messages as there are free slots when none are on order, then wait for a change."""
        free = self._settings.durable_in_flight - len(self._work)
        if self._outstanding == 0 and free > 0:
            await self._order(free)
        await self._wait(PULL_HEARTBEAT)
        if self._refused:
            raise MessagingError(f"consumer {self._durable} gives nothing: {self._refused}")
        silent = asyncio.get_running_loop().time() - self._heard
        if self._outstanding and silent > 2.5 * PULL_HEARTBEAT and not self._stopping.is_set():
            self._outstanding = 0
            raise MessagingError(f"no sign of consumer {self._durable} for {silent:.0f} s")

    async def _order(self, batch: int) -> None:
        self._generation += 1
        self._outstanding = batch
        self._heard = asyncio.get_running_loop().time()
        order = {
            "batch": batch,
            "expires": int(PULL_EXPIRES * 1e9),
            "idle_heartbeat": int(PULL_HEARTBEAT * 1e9),
        }
        try:
            await self._connection.publish_bytes(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._route.subject.stream}.{self._durable}",
                msgspec.json.encode(order),
                reply=f"{self._inbox}.{self._generation}",
            )
        except MessagingError:
            self._outstanding = 0
            raise

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _reconnected(self) -> None:
        # Streams in memory and consumers may be gone, and so is the order that the old server had.
        self._bound = False
        self._outstanding = 0
        self._wake.set()

    async def _arrived(self, raw: RawMessage) -> None:
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        if not raw.reply.startswith(PREFIX):
            if raw.subject == f"{self._inbox}.{self._generation}":
                self._status(raw)
            return
        if self._outstanding > 0:
            self._outstanding -= 1
        if self._stopping.is_set() or len(self._work) >= self._settings.durable_in_flight:
            # At once to another replica when we stop; not at once to ourselves when we are full.
            await self._connection.publish_bytes(
                raw.reply, nak(0 if self._stopping.is_set() else self._settings.retry_delay)
            )
            return
        assert self._tasks is not None
        context = Context(
            self._connection, subject=raw.subject, headers=raw.headers, durable=True, received=loop.time()
        )
        delivery = DeliveredMessage(raw, Delivered.parse(raw.reply), context)
        self._work[raw.reply] = delivery
        self._idle.clear()
        self._tasks.create_task(self._work_on(delivery))
        if self._outstanding == 0:
            self._wake.set()

    async def _work_on(self, delivery: DeliveredMessage) -> None:
        try:
            await self._process.process(delivery)
        finally:
            self._work.pop(delivery.raw.reply, None)
            if not self._work:
                self._idle.set()
            self._wake.set()

    def _status(self, raw: RawMessage) -> None:
        headers = raw.headers or {}
        code, text = headers.get("Status", ""), headers.get("Description", "")
        if code == "100":
            return
        self._outstanding = 0
        if code not in {"404", "408"}:  # these end an order without messages
            self._refused = f"{code} {text}"
        self._wake.set()

    async def _keep_alive(self) -> None:
        """Tell the server that the work in progress is alive, three times within its patience."""
        while True:
            await asyncio.sleep(self._settings.ack_wait / 3)
            for delivery in list(self._work.values()):
                if self._connection.connected:
                    await self._process.settle(delivery, PROGRESS)
