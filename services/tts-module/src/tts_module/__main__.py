"""`tts-module`: what comes in, what serves it, what it needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handler_base.clients.text_to_speech import TextToSpeech
from handler_base.conversation.synthesis import Synthesis
from handler_base.http import HttpPool
from handler_base.process import run
from handler_messages import subjects
from tts_module import __doc__ as description, __version__
from tts_module.config import TTSModuleSettings
from tts_module.speak import Speaker
from tts_module.status import Statuses
from tts_module.turns import Turns
from tts_module.voices import Voices

if TYPE_CHECKING:
    from handler_base.service import Service


def assemble(service: Service, settings: TTSModuleSettings) -> None:
    """Declare the handlers of tts-module."""
    http = HttpPool(settings.http)
    tts = TextToSpeech(http, settings.tts)
    voices = Voices(tts, settings.voices, settings.speak.max_sample_bytes)
    speaker = Speaker(
        settings,
        synthesis=Synthesis(tts, settings.synthesis),
        voices=voices,
        turns=Turns(settings.speak.sessions),
        statuses=Statuses(service.connection, service.name),
    )

    service.handle(subjects.TTS_REQUEST, speaker.speak, failed=speaker.failed)
    service.handle(subjects.TTS_VOICES_LIST, voices.list)
    service.handle(subjects.TTS_VOICES_REFRESH, voices.look_again)
    service.publishes(subjects.TTS_AUDIO)
    service.publishes(subjects.TTS_STATUS)
    service.cancel_on(subjects.VOICE_CANCEL)
    service.cancel_on(subjects.CHAT_CANCEL)
    service.interrupt_on(subjects.VOICE_INTERRUPT)

    service.needs("TTS", tts.endpoint.reachable)
    service.on_start(voices.prepare)
    service.background(voices.watch)
    service.on_stop(http.aclose)


def main() -> None:
    """Run the service."""
    sys.exit(run("tts-module", __version__, TTSModuleSettings, assemble, description=description or ""))


if __name__ == "__main__":
    main()
