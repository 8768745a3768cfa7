"""Which voices there are: those of the endpoint, and custom ones from a folder that is looked at again and again."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from handler_base.errors import HandlerError, NotFound
from handler_messages import TTSVoiceInfo, TTSVoiceListResponse, TTSVoiceRefreshResponse
from tts_module import folders

if TYPE_CHECKING:
    from handler_base.clients.text_to_speech import TextToSpeech
    from handler_base.messaging.context import Context
    from tts_module.config import VoicesSettings

log = logging.getLogger(__name__)

LIST_TIMEOUT = 5.0
"""Longest wait for the endpoint's list of voices, in seconds."""

RETRY_MAX = 30.0
"""Longest wait before the endpoint is asked for its list again after it gave none, in seconds."""

NAMES_SHOWN = 30
"""How many voices are named to who asks for one that there is not."""

OPENAI_DEFAULT = "alloy"
"""The voice that OpenAI's contract is asked for when nobody names one."""


class Voice(NamedTuple):
    """A voice to speak with.

    Attributes:
        name: What requests ask for.
        speaker: What the endpoint is asked for.
        language: BCP 47 tag, or "".
        description: For people.
        custom: Whether it comes from a folder.
        sample: The audio to clone, or None.
    """

    name: str
    speaker: str
    language: str = ""
    description: str = ""
    custom: bool = False
    sample: Path | None = None


class Voices:
    """Knows the voices.

    Args:
        tts: The endpoint.
        settings: Where voices come from.
        max_sample: Largest sample to clone, in bytes.
    """

    def __init__(self, tts: TextToSpeech, settings: VoicesSettings, max_sample: int) -> None:
        self._tts = tts
        self._settings = settings
        self._max_sample = max_sample
        self._built_in: list[Voice] = [Voice(name, name) for name in settings.built_in]
        self._asked = bool(settings.built_in)
        self._listed = bool(settings.built_in)
        self._custom: list[Voice] = []
        self._all: list[Voice] = []
        self._by_name: dict[str, Voice] = {}
        self._problems: dict[str, str] = {}
        self._unlisted = ""
        self._scanned = False
        self._refreshing = asyncio.Lock()
        self._index()

    # -- speaking ----------------------------------------------------------------------------------------------

    def find(self, name: str) -> Voice:
        """Return the voice that a request asks for, whatever its case; without a name the default one.

        Where it is not known which voices the endpoint has, any name is passed on to it.

        Raises:
            NotFound: If there is no such voice.
        """
        wanted = name.strip() or self.default
        found = self._by_name.get(wanted.casefold())
        if found is not None:
            return found
        if self._listed and name.strip():
            names = sorted(voice.name for voice in self._all)
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            raise NotFound(
                f"there is no voice {wanted[:64]!r}; known are {', '.join(names[:NAMES_SHOWN])}{more}"
            )
        return Voice(wanted, wanted)

    async def sample(self, voice: Voice) -> bytes:
        """Return the audio to clone `voice` from; empty when there is none, or the endpoint does not clone.

        Raises:
            NotFound: If it is gone.
        """
        if voice.sample is None or not self._tts.settings.cloning:
            return b""
        try:
            return await asyncio.to_thread(folders.read_sample, voice.sample, self._max_sample)
        except folders.BrokenVoice as error:
            raise NotFound(f"the voice {voice.name!r} cannot be used: {error}") from error

    @property
    def default(self) -> str:
        """The voice of requests that name none; "" for the endpoint's own."""
        if self._tts.settings.speaker or self._tts.settings.api != "openai":
            return self._tts.settings.speaker
        if not self._listed or OPENAI_DEFAULT in self._by_name:
            return OPENAI_DEFAULT
        return self._all[0].name

    # -- requests ----------------------------------------------------------------------------------------------

    async def list(self, context: Context, request: object) -> TTSVoiceListResponse:
        """Serve `ai.voice.tts.voices.list`."""
        del context, request
        if not (self._scanned and self._asked):
            await self.refresh()
        return TTSVoiceListResponse(
            voices=[
                TTSVoiceInfo(
                    name=voice.name,
                    language=voice.language,
                    custom=voice.custom,
                    description=voice.description,
                )
                for voice in self._all
            ],
            default_voice=self.default,
        )

    async def look_again(self, context: Context, request: object) -> TTSVoiceRefreshResponse:
        """Serve `ai.voice.tts.voices.refresh`."""
        del context, request
        before, after = await self.refresh()
        return TTSVoiceRefreshResponse(
            count=len(after), added=sorted(after - before), removed=sorted(before - after)
        )

    # -- looking -----------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Know the custom voices before anything is spoken."""
        async with self._refreshing:
            if not self._scanned:
                await self._scan()
                self._index()

    async def watch(self) -> None:
        """Look again every VOICES_RESCAN seconds, and until the endpoint has answered once."""
        failures = 0
        while True:
            await self.refresh()
            failures = 0 if self._asked else failures + 1
            pause = self._settings.rescan or float("inf")
            if not self._asked:
                pause = min(pause, RETRY_MAX, 0.5 * 2 ** min(failures, 10))
            if pause == float("inf"):
                return
            await asyncio.sleep(pause * random.uniform(0.8, 1))

    async def refresh(self) -> tuple[set[str], set[str]]:
        """Look at the folder and ask the endpoint; returns the names before and after."""
        async with self._refreshing:
            before = {voice.name for voice in self._all}
            await self._scan()
            await self._ask()
            self._index()
            after = {voice.name for voice in self._all}
        if before != after:
            log.info(
                "voices changed", extra={"added": sorted(after - before), "removed": sorted(before - after)}
            )
        return before, after

    async def _scan(self) -> None:
        if self._settings.folder:
            found = await asyncio.to_thread(folders.scan, Path(self._settings.folder), self._max_sample)
            for folder, problem in found.problems.items():
                if self._problems.get(folder) != problem:  # once, not at each look
                    log.warning("no voice: %s: %s", Path(self._settings.folder, folder), problem)
            self._problems = found.problems
            if "" not in found.problems:  # a folder that is away for a moment takes no voice with it
                self._custom = [
                    Voice(
                        voice.name,
                        voice.speaker,
                        voice.language,
                        voice.description,
                        custom=True,
                        sample=voice.sample,
                    )
                    for voice in found.voices
                ]
        self._scanned = True

    async def _ask(self) -> None:
        if self._settings.built_in:
            return
        try:
            async with asyncio.timeout(LIST_TIMEOUT):
                listed = await self._tts.voices()
        except (HandlerError, TimeoutError) as error:
            problem = str(error) or f"no list of voices within {LIST_TIMEOUT:g} s"
            if self._unlisted != problem:
                log.warning("the voices of the endpoint are not known: %s", problem)
            self._unlisted = problem
            return
        self._unlisted = ""
        self._asked, self._listed = True, bool(listed)
        self._built_in = [
            Voice(voice.id, voice.id, voice.language, voice.name if voice.name != voice.id else "")
            for voice in listed or ()
        ]

    def _index(self) -> None:
        """A custom voice takes the place of a built-in one with its name."""
        self._by_name = {voice.name.casefold(): voice for voice in (*self._built_in, *self._custom)}
        self._all = list(self._by_name.values())
        for voice in self._built_in:
            if voice.description:  # what the endpoint calls it for people
                self._by_name.setdefault(voice.description.casefold(), voice)
