"""How a spoken answer is shown: its words, what it stands on, how long each step took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers_cli.show import list_sources
from handlers_cli.terminal import printable

if TYPE_CHECKING:
    from handler_messages import VoiceResponse
    from handlers_cli.terminal import Terminal

HEARD = "Heard:  "
ANSWER = "Answer: "

_MOMENTS = ("speech_end", "transcript", "first_token", "first_clause", "first_audio", "total")
"""Moments of a turn in their order, as the service names them."""


def show_words(terminal: Terminal, response: VoiceResponse) -> None:
    """Show the answer, its sources and its warnings."""
    cut = " (interrupted)" if response.finish_reason == "interrupted" else ""
    terminal.line(f"{ANSWER}{terminal.bold(printable(response.response.strip()))}{cut}")
    for warning in response.warnings:
        terminal.warning(printable(warning))
    list_sources(terminal, response.sources)


def show_timings(terminal: Terminal, response: VoiceResponse, here: list[str]) -> None:
    """Show when each step of the turn was reached, and what is known here: of the audio, and where it went."""
    timings = {name: f"{seconds:.2f} s" for name, seconds in response.timings.items() if seconds >= 0.005}
    parts = [f"{name.replace('_', ' ')} {timings.pop(name)}" for name in _MOMENTS if name in timings]
    if timings:
        steps = ", ".join(f"{printable(name)} {seconds}" for name, seconds in timings.items())
        parts.append(f"steps: {steps}")
    if response.model:
        parts.append(printable(response.model))
    terminal.line()
    for line in filter(None, (parts, here)):
        terminal.line(terminal.dim(" · ".join(line)))
