"""Settings of voice-assistant."""

from __future__ import annotations

from handler_base.http import HttpSettings
from handler_base.service import ServiceSettings


class VoiceSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything voice-assistant is told."""

    http: HttpSettings = HttpSettings()
