"""How far a request is: `TTSStatus` on `ai.voice.tts.status.{session_id}`.

The last one of a request is stored under an id made of the request's number in its stream, which is the statuses'
stream too. So a redelivered request finds it by reading on from itself, and is not spoken a second time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from handler_base.errors import Cancelled
from handler_base.messaging import cancellation
from handler_base.messaging.connection import MSG_ID
from handler_messages import TTSStatus, subjects

if TYPE_CHECKING:
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.context import Context
    from handler_messages import ErrorResponse

INTERRUPTED = cancellation.cancelled(cancellation.INTERRUPTED).message
"""What the error of an interrupted request says."""


class Statuses:
    """Publishes and finds statuses.

    Args:
        connection: Where the stream is read.
        service: What the ids of stored statuses begin with.
    """

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection = connection
        self._service = service

    async def started(self, context: Context) -> None:
        """Say that synthesis begins."""
        await context.publish(_subject(context), self._status(context, "started"))

    async def completed(self, context: Context, message: str) -> None:
        """Say that all audio is out; a redelivery finds it.

        Raises:
            MessagingError: If it could not be stored.
        """
        await self._store(context, self._status(context, "completed", message))

    async def failed(self, context: Context, error: ErrorResponse) -> None:
        """Say that the request ended without all of its audio, and why.

        Raises:
            MessagingError: If it could not be stored.
        """
        if not context.session_id:
            return  # its subject names no session: nobody can listen
        name = "error"
        if error.type == Cancelled.type:
            name = "interrupted" if error.message == INTERRUPTED else "cancelled"
        status = self._status(context, name, error.message)
        status.error.CopyFrom(error)
        if not await self.ended(context):
            await self._store(context, status)

    async def ended(self, context: Context) -> bool:
        """Whether an earlier attempt of the request came to its end and said so.

        Raises:
            MessagingError: If the stream does not answer.
        """
        if context.attempt == 1:
            return False
        wanted, subject, after = self._id(context), _subject(context), context.sequence
        while True:
            stored = await self._connection.next_stored(subjects.TTS_STATUS.stream, subject, after + 1)
            if stored is None:
                return False
            if stored.headers.get(MSG_ID) == wanted:
                return True
            after = stored.sequence

    async def _store(self, context: Context, status: TTSStatus) -> None:
        await context.store(_subject(context), status, msg_id=self._id(context))

    def _id(self, context: Context) -> str:
        return f"{self._service}.{context.sequence}.{context.request_id}"

    @staticmethod
    def _status(context: Context, name: str, message: str = "") -> TTSStatus:
        return TTSStatus(
            session_id=context.session_id,
            request_id=context.request_id,
            status=name,
            message=message,
            timestamp=time.time(),
        )


def _subject(context: Context) -> str:
    return subjects.TTS_STATUS.build(session_id=context.session_id)
