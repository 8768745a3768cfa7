"""Settings of stt-module."""

from __future__ import annotations

from handler_base.clients.speech_to_text import STTSettings
from handler_base.http import HttpSettings
from handler_base.service import ServiceSettings


class STTModuleSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything stt-module is told."""

    stt: STTSettings = STTSettings()
    http: HttpSettings = HttpSettings()
