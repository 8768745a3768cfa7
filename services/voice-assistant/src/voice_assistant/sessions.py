"""Sessions: one start of each is followed here, until it ends or is handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_base.errors import InvalidRequest
from handler_base.messaging.alone import Alone

if TYPE_CHECKING:
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
        self._alone = Alone()

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

        # A second start of a session is not answered besides the first.
        async with self._alone.under(context.session_id):
            await follow(
                context,
                start,
                self._connection,
                responder=self._responder,
                grounding=self._grounding,
                settings=settings,
            )
