"""`handlers voices`: who can speak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from handler_base.errors import MessagingError
from handler_base.messaging import wire
from handler_messages import ErrorResponse, TTSVoiceListResponse, TTSVoiceRefreshResponse, subjects
from handlers_cli.exchange import asking
from handlers_cli.terminal import EXIT_FAILED, Terminal, printable
from handlers_cli.text import aligned

if TYPE_CHECKING:
    import asyncio

    from google.protobuf.message import Message

    from handler_base.messaging.connection import Connection
    from handlers_cli.exchange import Exchange

SERVICE = "tts-module"


@dataclass(frozen=True, slots=True)
class Voices:
    """What to ask.

    Attributes:
        nats_url: The server, "" for the settings' one.
        refresh: Have the service look for new voices first.
        as_json: One JSON object in place of text.
        timeout: Seconds for the answer.
    """

    nats_url: str = ""
    refresh: bool = False
    as_json: bool = False
    timeout: float = 30.0


async def list_voices(connection: Connection, timeout: float = 2.0) -> TTSVoiceListResponse:
    """Return the voices of the service that runs.

    Raises:
        HandlerError: If there is none, or it cannot tell.
    """
    subject = subjects.TTS_VOICES_LIST.template
    answer = await connection.request(subject, TTSVoiceListResponse(), TTSVoiceListResponse, timeout=timeout)
    if isinstance(answer, ErrorResponse):
        raise MessagingError(answer.message)
    return answer


async def voices(options: Voices, terminal: Terminal, interrupt: asyncio.Event) -> int:
    """List the voices, return the exit code."""

    async def ask(exchange: Exchange) -> int:
        if options.refresh:
            refreshed = await exchange.request(
                subjects.TTS_VOICES_REFRESH.template, b"", TTSVoiceRefreshResponse, options.timeout
            )
            if not _told(refreshed, options, terminal):
                return EXIT_FAILED
        listed = await exchange.request(
            subjects.TTS_VOICES_LIST.template, b"", TTSVoiceListResponse, options.timeout
        )
        return 0 if _told(listed, options, terminal) else EXIT_FAILED

    return await asking(
        options.nats_url, "handlers-voices", terminal, ask, service=SERVICE, interrupt=interrupt
    )


def _told(answer: Message, options: Voices, terminal: Terminal) -> bool:
    """Show an answer; return whether it is what was asked for."""
    if options.as_json and not isinstance(answer, TTSVoiceRefreshResponse):
        terminal.line(wire.encode(answer, wire.JSON).decode())
    if isinstance(answer, ErrorResponse):
        terminal.error(printable(answer.message), answer.type)
        return False
    if isinstance(answer, TTSVoiceRefreshResponse):
        changes = [f"new: {', '.join(answer.added)}"] if answer.added else []
        changes += [f"gone: {', '.join(answer.removed)}"] if answer.removed else []
        terminal.note(printable(f"{answer.count} voices; {'; '.join(changes) or 'nothing has changed'}"))
    elif isinstance(answer, TTSVoiceListResponse) and not options.as_json:
        _table(answer, terminal)
    return True


def _table(listed: TTSVoiceListResponse, terminal: Terminal) -> None:
    if not listed.voices:
        terminal.line("no voices")
        return
    rows = [
        (
            printable(voice.name),
            printable(voice.language) or "any language",
            "custom" if voice.custom else "built in",
            "default" if voice.name == listed.default_voice else "",
            printable(voice.description),
        )
        for voice in listed.voices
    ]
    for name, *rest in aligned(rows):
        terminal.line("  ".join((terminal.bold(name), *rest)).rstrip())
