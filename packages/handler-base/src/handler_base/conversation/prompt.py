"""System prompt, context and history into messages, within a budget of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from handler_base.clients.llm import ChatMessage
from handler_base.config import Settings, env

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handler_base.clients.vectors import Passage
    from handler_base.conversation.history import Turn

CONTEXT_RULE = (
    "Answer from the context below when it holds the answer, and cite the passages you use by their number, "
    "like [1]. When it does not hold the answer, say so."
)
CONTEXT_HEADING = f"{CONTEXT_RULE}\n\nContext:"
BETWEEN = "\n\n"
"""What stands between the parts of the system message, and is counted with each."""

HEADER_TOKENS = 4
"""What a message costs beside its text."""


class PromptSettings(Settings, frozen=True, kw_only=True):
    """What every prompt says, and how long it may be."""

    system_prompt: Annotated[str, env("SYSTEM_PROMPT", help="first words to the model")] = (
        "You are a helpful assistant. Answer briefly and to the point."
    )
    max_tokens: Annotated[int, env("PROMPT_TOKENS", help="most tokens of a prompt, estimated", ge=64)] = 6000
    context_share: Annotated[
        float, env("PROMPT_CONTEXT_SHARE", help="largest part of the prompt for passages", ge=0, le=1)
    ] = 0.6


class Prompt(NamedTuple):
    """What is sent to the model.

    Attributes:
        messages: System message, earlier turns, question.
        used: How many of the passages fit, from the first on.
        tokens: Estimated length.
    """

    messages: list[ChatMessage]
    used: int
    tokens: int


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has: four ASCII characters make one, any other character is one.

    Deliberately on the high side; the endpoint's own count comes back in the usage of its answer.
    """
    ascii_count = sum(map(str.isascii, text)) if not text.isascii() else len(text)
    return (ascii_count + 3) // 4 + len(text) - ascii_count


def build_prompt(
    settings: PromptSettings,
    question: str,
    *,
    system_prompt: str = "",
    passages: Sequence[Passage] = (),
    turns: Sequence[Turn] = (),
    nickname: str = "",
    language: str = "",
) -> Prompt:
    """Put a prompt together. The question and the system prompt always go in; passages, then the newest turns.

    Args:
        settings: Budget and default system prompt.
        question: What the person asks now.
        system_prompt: Replaces the default one.
        passages: The context, best first.
        turns: The conversation so far, oldest first.
        nickname: What the person is called.
        language: BCP 47 tag of the language to answer in.
    """
    system = [system_prompt or settings.system_prompt]
    if nickname:
        system.append(f"You talk with {one_line(nickname)}.")
    if language:
        system.append(f"Answer in the language with the tag {one_line(language, 35)}.")
    budget = settings.max_tokens - estimate_tokens(question) - HEADER_TOKENS
    budget -= sum(map(_cost, system)) + HEADER_TOKENS
    blocks: list[str] = []
    room = min(budget, int(settings.max_tokens * settings.context_share)) - _cost(CONTEXT_HEADING)
    for number, passage in enumerate(passages, 1):
        block = f"[{number}] {one_line(passage.title, 200)} ({one_line(passage.uri, 300)})\n{passage.text.strip()}"
        cost = _cost(block)
        if cost > room:
            break
        room -= cost
        budget -= cost
        blocks.append(block)
    if blocks:
        budget -= _cost(CONTEXT_HEADING)
        system += [CONTEXT_HEADING, *blocks]
    earlier: list[ChatMessage] = []
    for turn in reversed(turns):
        answer = f"{turn.answer} [interrupted]" if turn.interrupted else turn.answer
        cost = estimate_tokens(turn.question) + estimate_tokens(answer) + 2 * HEADER_TOKENS
        if cost > budget:
            break
        budget -= cost
        earlier[:0] = [ChatMessage("user", turn.question), ChatMessage("assistant", answer)]
    messages = [ChatMessage("system", BETWEEN.join(system)), *earlier, ChatMessage("user", question)]
    return Prompt(messages, len(blocks), settings.max_tokens - budget)


def _cost(part: str) -> int:
    return estimate_tokens(part + BETWEEN)


def one_line(text: str, limit: int = 64) -> str:
    """Return text from outside as one short line, so that it cannot pose as a part of the prompt."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit]
