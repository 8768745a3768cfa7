"""NATS' service discovery: answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`.

Source: ADR-32 of the NATS architecture and design documents. nats-py's own `nats.micro` runs one callback at
a time per endpoint and would measure only the hand-over, so we answer from our own counters.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from handler_base.messaging.worker import may_receive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from handler_base.messaging.connection import Connection
    from handler_base.messaging.subscription import RawMessage


class EndpointStats(msgspec.Struct):
    """Counters of one declared handler; times in nanoseconds.

    Attributes:
        name: Its name.
        subject: What it listens on.
        queue_group: The queue group, or the durable consumer's name.
        metadata: Further facts as text.
        num_requests: Requests that ended.
        num_errors: Those that ended in an error.
        last_error: The last error in words.
        processing_time: Sum over all requests.
        average_processing_time: `processing_time / num_requests`.
    """

    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str] = {}
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0
    average_processing_time: int = 0

    def ended(self, seconds: float, error: str = "") -> None:
        """Count one request."""
        self.num_requests += 1
        self.processing_time += int(seconds * 1e9)
        self.average_processing_time = self.processing_time // self.num_requests
        if error:
            self.num_errors += 1
            self.last_error = error


class Discovery:
    """Makes a service visible to the `nats` command line and to any client."""

    def __init__(
        self,
        connection: Connection,
        *,
        name: str,
        version: str,
        instance: str,
        description: str,
        endpoints: list[EndpointStats],
    ) -> None:
        self._connection = connection
        self._identity: dict[str, Any] = {
            "name": name,
            "id": instance,
            "version": version,
            "metadata": {"runtime": "python"},
        }
        self._description = description
        self._endpoints = endpoints
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.ping_subject = f"$SRV.PING.{name}.{instance}"
        """Only this process answers here: a request to it proves that it consumes."""

    async def start(self) -> None:
        """Subscribe to every verb, for all services, this service and this instance."""
        verbs: Mapping[str, Callable[[], dict[str, Any]]] = {
            "PING": self._ping,
            "INFO": self._info,
            "STATS": self._stats,
        }
        name, instance = self._identity["name"], self._identity["id"]
        for verb, answer in verbs.items():
            reply = self._reply_with(answer)
            for suffix in ("", f".{name}", f".{name}.{instance}"):
                await self._connection.subscribe(f"$SRV.{verb}{suffix}", reply)

    def _reply_with(self, answer: Callable[[], dict[str, Any]]) -> Callable[[RawMessage], Any]:
        async def reply(message: RawMessage) -> None:
            if may_receive(message.reply):
                await self._connection.publish_bytes(message.reply, msgspec.json.encode(answer()))

        return reply

    def _ping(self) -> dict[str, Any]:
        return {"type": "io.nats.micro.v1.ping_response", **self._identity}

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {"name": e.name, "subject": e.subject, "queue_group": e.queue_group, "metadata": e.metadata}
            for e in self._endpoints
        ]
        return {
            "type": "io.nats.micro.v1.info_response",
            **self._identity,
            "description": self._description,
            "endpoints": endpoints,
        }

    def _stats(self) -> dict[str, Any]:
        return {
            "type": "io.nats.micro.v1.stats_response",
            **self._identity,
            "started": self._started,
            "endpoints": [
                {field: value for field, value in msgspec.structs.asdict(e).items() if field != "metadata"}
                for e in self._endpoints
            ],
        }
