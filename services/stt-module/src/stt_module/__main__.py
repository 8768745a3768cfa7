"""`stt-module`: what comes in, what serves it, what it needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handler_base.http import HttpPool
from handler_base.process import run
from stt_module import __doc__ as description, __version__
from stt_module.config import STTModuleSettings

if TYPE_CHECKING:
    from handler_base.service import Service


def assemble(service: Service, settings: STTModuleSettings) -> None:
    """Declare the handlers of stt-module."""
    http = HttpPool(settings.http)
    service.on_stop(http.aclose)


def main() -> None:
    """Run the service."""
    sys.exit(run("stt-module", __version__, STTModuleSettings, assemble, description=description or ""))


if __name__ == "__main__":
    main()
