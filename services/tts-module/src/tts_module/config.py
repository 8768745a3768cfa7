"""Settings of tts-module."""

from __future__ import annotations

from handler_base.clients.text_to_speech import TTSSettings
from handler_base.http import HttpSettings
from handler_base.service import ServiceSettings


class TTSModuleSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything tts-module is told."""

    tts: TTSSettings = TTSSettings()
    http: HttpSettings = HttpSettings()
