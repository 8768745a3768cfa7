"""Sessions: one start of each is followed here, until it ends or is handed on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from handler_base.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from handler_base.conversation.grounding import Grounding
    from handler_base.messaging.connection import Connection
    from handler_base.messaging.context import Context
    from handler_messages import STTStreamMessage
    from voice_assistant.config import VoiceSettings
    from voice_assistant.responder import Responder


class Sessions:
    """Serves `ai.voice.session.{session_id}`: follows a session until it ends."""

    def __init__(
        self, settings: VoiceSettings, connection: Connection, *, responder: Responder, grounding: Grounding
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._responder = responder
        self._grounding = grounding
        self._followed: dict[str, asyncio.Event] = {}

    async def follow(self, context: Context, start: STTStreamMessage) -> None:
        """Answer what is said in a session.

        Raises:
            InvalidRequest: If the message starts no session.
            ShuttingDown: When the service stops: another replica goes on.
        """
        if start.type not in {"", "start"}:
            raise InvalidRequest(f"a session begins with the type start, not {start.type[:20]!r}")
        settings = self._settings.conversation
        wanted = start.enable_assistant if start.HasField("enable_assistant") else settings.enabled
        if not wanted:
            return
        # Imported with the first session: start-up is a budget.
        from voice_assistant.following import follow

        async with self._alone(context.session_id):
            await follow(
                context,
                start,
                self._connection,
                responder=self._responder,
                grounding=self._grounding,
                settings=settings,
            )

    @contextlib.asynccontextmanager
    async def _alone(self, session_id: str) -> AsyncGenerator[None]:
        """Let a second start of a session wait for the end of the first, so that it is not answered twice."""
        while (other := self._followed.get(session_id)) is not None:
            await other.wait()
        ended = self._followed[session_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._followed[session_id]
            ended.set()
