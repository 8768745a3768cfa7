"""When what was there, in seconds after the end of speech: what a person waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from handler_base import telemetry

if TYPE_CHECKING:
    from handler_messages import VoiceResponse

MEASURED = {"transcript", "first_token", "first_clause", "first_audio"}
"""Marks that are metrics, too."""


class Timer:
    """Marks into the timings of a response.

    Args:
        response: Whose timings they are.
        speech_end: When the person stopped to speak, in the loop's time.
    """

    def __init__(self, response: VoiceResponse, speech_end: float) -> None:
        self._response = response
        self._speech_end = speech_end

    def mark(self, name: str) -> None:
        """Note that something is there now, unless it was there before."""
        if name in self._response.timings:
            return
        seconds = asyncio.get_running_loop().time() - self._speech_end
        self._response.timings[name] = seconds
        if name in MEASURED:
            telemetry.record(f"handler.{name}", seconds)
