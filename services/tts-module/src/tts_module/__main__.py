"""`tts-module`: what comes in, what serves it, what it needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handler_base.http import HttpPool
from handler_base.process import run
from tts_module import __doc__ as description, __version__
from tts_module.config import TTSModuleSettings

if TYPE_CHECKING:
    from handler_base.service import Service


def assemble(service: Service, settings: TTSModuleSettings) -> None:
    """Declare the handlers of tts-module."""
    http = HttpPool(settings.http)
    service.on_stop(http.aclose)


def main() -> None:
    """Run the service."""
    sys.exit(run("tts-module", __version__, TTSModuleSettings, assemble, description=description or ""))


if __name__ == "__main__":
    main()
