"""What is told of a run: `PipelineStatus` on `ai.pipeline.status.{request_id}`, each once and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_base import telemetry
from handler_base.messaging import wire
from handler_base.messaging.connection import MSG_ID
from handler_messages import ErrorResponse, PipelineStatus, subjects

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection, StoredMessage
    from pipeline_bridge.runs import Run

_SUBJECT = subjects.PIPELINE_STATUS


class Statuses:
    """Publishes and finds statuses.

    Args:
        connection: Where the stream is.
        service: What their ids in the stream begin with.
    """

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection = connection
        self._service = service

    async def tell(self, run: Run) -> None:
        """Publish the status that a run has on record, unless it was published before.

        Raises:
            MessagingError: If it could not be stored.
        """
        status = PipelineStatus(
            request_id=run.request_id,
            status=run.status,
            pipeline=run.pipeline,
            engine=run.engine,
            run_id=run.run_id,
            message=run.message,
            timestamp=run.updated,
            sequence=run.sequence,
            error=ErrorResponse(error=True, type=run.error, message=run.message, request_id=run.request_id)
            if run.error
            else None,
        )
        await self._publish(status, run.kind, run.trace)

    async def refuse(self, error: ErrorResponse, kind: str, timestamp: float) -> None:
        """Tell the sender of a trigger that it starts nothing, and why.

        Raises:
            MessagingError: If it could not be stored.
        """
        status = PipelineStatus(
            request_id=error.request_id,
            status="error",
            message=error.message,
            timestamp=timestamp,
            sequence=await self.told(error.request_id) + 1,
            error=error,
        )
        headers: dict[str, str] = {}
        telemetry.inject(headers)
        await self._publish(status, kind, headers)

    async def told(self, request_id: str) -> int:
        """Return the number of the last status of a request; 0 if there is none.

        Raises:
            MessagingError: If the stream does not answer.
        """
        stored = await self._connection.last_stored(_SUBJECT.stream, _SUBJECT.build(request_id=request_id))
        return 0 if stored is None else _number(stored)

    async def _publish(self, status: PipelineStatus, kind: str, trace: dict[str, str]) -> None:
        headers = dict(trace) if kind == wire.PROTOBUF else {**trace, wire.HEADER: kind}

        def there(stored: StoredMessage) -> bool:
            # A replica that was frozen in the middle of this may find that another has told more since.
            return _number(stored) >= status.sequence

        await self._connection.record(
            _SUBJECT.stream,
            _SUBJECT.build(request_id=status.request_id),
            wire.encode(status, kind),
            msg_id=f"{self._service}.{status.request_id}.{status.sequence}",
            headers=headers,
            there=there,
        )


def _number(stored: StoredMessage) -> int:
    """Return which status of its request this is; 0 for what nobody here has told."""
    number = stored.headers.get(MSG_ID, "").rpartition(".")[2]
    return int(number) if number.isdecimal() else 0
