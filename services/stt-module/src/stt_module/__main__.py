"""`stt-module`: what comes in, what serves it, what it needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handler_base.clients.speech_to_text import SpeechToText
from handler_base.http import HttpPool
from handler_base.process import run
from handler_messages import subjects
from stt_module import __doc__ as description, __version__
from stt_module.config import STTModuleSettings
from stt_module.sessions import Sessions

if TYPE_CHECKING:
    from handler_base.service import Service


def assemble(service: Service, settings: STTModuleSettings) -> None:
    """Declare the handlers of stt-module."""
    http = HttpPool(settings.http)
    stt = SpeechToText(http, settings.stt)
    sessions = Sessions(service.connection, settings, stt)

    service.handle(subjects.VOICE_SESSION, sessions.run, follows_session=True, failed=sessions.failed)
    service.publishes(subjects.VOICE_STREAM)
    service.publishes(subjects.VOICE_TRANSCRIPTION)
    service.cancel_on(subjects.VOICE_CANCEL)

    service.needs("STT", stt.endpoint.reachable)
    service.on_stop(http.aclose)


def main() -> None:
    """Run the service."""
    sys.exit(run("stt-module", __version__, STTModuleSettings, assemble, description=description or ""))


if __name__ == "__main__":
    main()
