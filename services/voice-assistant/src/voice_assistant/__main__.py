"""`voice-assistant`: what comes in, what serves it, what it needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handler_base.http import HttpPool
from handler_base.process import run
from voice_assistant import __doc__ as description, __version__
from voice_assistant.config import VoiceSettings

if TYPE_CHECKING:
    from handler_base.service import Service


def assemble(service: Service, settings: VoiceSettings) -> None:
    """Declare the handlers of voice-assistant."""
    http = HttpPool(settings.http)
    service.on_stop(http.aclose)


def main() -> None:
    """Run the service."""
    sys.exit(run("voice-assistant", __version__, VoiceSettings, assemble, description=description or ""))


if __name__ == "__main__":
    main()
