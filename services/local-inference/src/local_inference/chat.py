"""`POST /v1/chat/completions` by quotation: the prompt in, OpenAI's objects out, streamed or not.

A token of the stand-in is a word with the white space before it; usage, `max_tokens` and the context limit count in
these.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from local_inference.passages import read_prompt
from local_inference.streaming import Stream
from local_inference.wire import LLM_MODEL, ApiError, ChatRequest, check_model, json_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.responses import Response

    from local_inference.engine import Engine

_TOKEN = re.compile(r"\s*\S+|\s+$")


async def complete(
    request: ChatRequest, engine: Engine, *, context_tokens: int, tokens_per_second: float
) -> Response:
    """Answer a chat request.

    Args:
        request: What the client sent.
        engine: Finds the quotations.
        context_tokens: Longest prompt.
        tokens_per_second: Pace of a stream, 0 for as fast as it can.

    Raises:
        ApiError: If the request cannot be served.
    """
    check_model(request.model, LLM_MODEL)
    _check(request)
    messages = [(message.role, message.text()) for message in request.messages]
    prompt_tokens = sum(len(_TOKEN.findall(text)) for _, text in messages)
    if prompt_tokens > context_tokens:
        raise ApiError(
            400,
            f"the messages take {prompt_tokens} tokens, more than the {context_tokens} of this model's context",
            code="context_length_exceeded",
            param="messages",
        )
    text = _stopped(await engine.quote(read_prompt(messages)), request.stop)
    tokens = _TOKEN.findall(text)
    limit = request.max_completion_tokens or request.max_tokens or len(tokens)
    finish = "length" if len(tokens) > limit else "stop"
    tokens = tokens[:limit]
    reply = _Reply(tokens, finish, prompt_tokens)
    if request.stream:
        with_usage = bool(request.stream_options and request.stream_options.include_usage)
        return Stream(
            reply.events(with_usage=with_usage, pause=1 / tokens_per_second if tokens_per_second else 0)
        )
    return json_response(reply.whole())


def _check(request: ChatRequest) -> None:
    if not request.messages:
        raise ApiError(400, "messages must hold at least one message", param="messages")
    if request.n not in {None, 1}:
        raise ApiError(400, "n must be 1: this model has one answer", param="n")
    for name in ("max_tokens", "max_completion_tokens"):
        limit = getattr(request, name)
        if limit is not None and limit < 1:
            raise ApiError(400, f"{name} must be at least 1", param=name)


def _stopped(text: str, stop: str | list[str] | None) -> str:
    ends = [text.find(word) for word in ([stop] if isinstance(stop, str) else stop or []) if word]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


class _Reply:
    """One answer in both of its forms."""

    def __init__(self, tokens: list[str], finish: str, prompt_tokens: int) -> None:
        self._tokens = tokens
        self._finish = finish
        self._usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(tokens),
            "total_tokens": prompt_tokens + len(tokens),
        }
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": LLM_MODEL}

    def whole(self) -> dict[str, Any]:
        """Return the `chat.completion` object."""
        message = {"role": "assistant", "content": "".join(self._tokens)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage}

    async def events(self, *, with_usage: bool, pause: float) -> AsyncIterator[bytes]:
        """Yield the `chat.completion.chunk` events, then `[DONE]`."""
        usage = {"usage": None} if with_usage else {}
        yield self._event([_choice({"role": "assistant", "content": ""})], **usage)
        for token in self._tokens:
            yield self._event([_choice({"content": token})], **usage)
            await asyncio.sleep(pause)
        yield self._event([_choice({}, self._finish)], **usage)
        if with_usage:
            yield self._event([], usage=self._usage)
        yield b"data: [DONE]\n\n"

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices, **more}
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _choice(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
