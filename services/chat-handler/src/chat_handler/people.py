"""Who is here: logins are remembered, greetings are made by the model."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import msgspec

from handler_base.clients.llm import ChatMessage
from handler_base.conversation.prompt import one_line
from handler_base.errors import MessagingError
from handler_base.messaging.keyvalue import Conflict, key_of
from handler_messages import GreetingRequest, GreetingResponse, LoginEvent

if TYPE_CHECKING:
    from chat_handler.config import ChatSettings
    from handler_base.clients.llm import LLM
    from handler_base.messaging.context import Context
    from handler_base.messaging.keyvalue import KeyValue, Value

GREETING_TOKENS = 80
"""Longest greeting, in tokens."""

CONFLICT_TRIES = 8
"""How often a profile is written that somebody else changes at the same time."""

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+|(?<=[。！？])")  # noqa: RUF001


class Profile(msgspec.Struct, frozen=True):
    """What a login tells about a person.

    Attributes:
        username: Login name.
        nickname: What the person wants to be called.
        premium: Whether the person has premium.
        seen: Unix time of the last login in seconds.
    """

    username: str
    nickname: str
    premium: bool
    seen: int


class People:
    """Serves logins and greetings."""

    def __init__(self, profiles: KeyValue, settings: ChatSettings, llm: LLM) -> None:
        self._profiles = profiles
        self._settings = settings
        self._llm = llm

    async def login(self, context: Context, event: LoginEvent) -> None:
        """Remember a person, so that a greeting knows the nickname; an older login changes nothing.

        Raises:
            MessagingError: If it could not be written.
        """
        del context
        key = key_of("user", event.user_id)
        seen = event.timestamp or int(time.time())
        profile = msgspec.msgpack.encode(Profile(event.username, event.nickname, event.premium, seen))
        for _ in range(CONFLICT_TRIES):
            value = await self._profiles.get(key)
            known = _decode(value)
            if known is not None and known.seen > seen:
                return
            try:
                await self._profiles.put(key, profile, value.revision if value is not None else 0)
            except Conflict:
                continue  # another login of the same person at the same time
            return
        raise MessagingError("the profile changes too fast to be written")

    async def greet(self, context: Context, request: GreetingRequest) -> GreetingResponse:
        """Greet a person by nickname in one or two sentences.

        Raises:
            UpstreamError: If the model cannot be had.
            MessagingError: If the profile was needed and could not be read.
        """
        name = one_line(request.nickname)
        if not name:
            profile = _decode(await self._profiles.get(key_of("user", request.user_id)))
            name = one_line((profile.nickname or profile.username) if profile else "")
        name = name or one_line(request.username) or one_line(request.user_id)
        premium = self._settings.answer.premium_model if request.premium else ""
        completion = await self._llm.complete(
            [
                ChatMessage(
                    "system",
                    f"Greet the person named {name}. Write one or two short, warm sentences that use the name, "
                    "and nothing else.",
                ),
                ChatMessage("user", "Hello!"),
            ],
            model=premium,
            max_tokens=GREETING_TOKENS,
        )
        return GreetingResponse(
            request_id=context.request_id,
            user_id=request.user_id,
            greeting=greeting_of(completion.text, name),
        )


def _decode(value: Value | None) -> Profile | None:
    if value is None:
        return None
    try:
        return msgspec.msgpack.decode(value.data, type=Profile)
    except msgspec.DecodeError:
        return None


def greeting_of(text: str, name: str) -> str:
    """Return at most two sentences of `text` that address the person, whatever the model made of the task."""
    sentences = [part for part in _SENTENCE_END.split(" ".join(text.strip().strip('"').split())) if part]
    if name.casefold() not in " ".join(sentences[:2]).casefold():
        sentences = [f"Hello {name}!", *sentences[:1]]
    return " ".join(sentences[:2])
