"""The LLM: OpenAI's `/v1/chat/completions`, streamed as server-sent events or whole.

    async with llm.stream([ChatMessage("user", "Hello")]) as completion:
        async for piece in completion:
            print(piece, end="")
    print(completion.finish_reason, completion.completion_tokens)

Contract: https://platform.openai.com/docs/api-reference/chat. vLLM, Ray Serve LLM, llama.cpp and others speak it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec

from handler_base.clients._contract import ModelName, base_of
from handler_base.config import Secret, Settings, env
from handler_base.errors import ConfigError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from handler_base.http import Endpoint, Event, HttpPool, StreamedResponse

PATH = "/v1/chat/completions"

INTERRUPTED = "interrupted"
"""`Completion.finish_reason` of an answer that broke off; its `warning` says why."""

MAX_TEXT = 4 * 1024 * 1024
"""Longest answer in characters; a longer one is cut and marked as interrupted."""


class LLMSettings(Settings, frozen=True, kw_only=True):
    """Where the LLM is and what to ask of it. Durations are in seconds."""

    url: Annotated[
        str, env("LLM_URL", "VLLM_URL", help="base URL of the LLM; /v1/chat/completions is appended")
    ] = "http://127.0.0.1:8000/llm"
    model: Annotated[
        str, env("LLM_MODEL", help="model to ask for; when empty, the first one that the endpoint lists")
    ] = ""
    api_key: Annotated[Secret, env("LLM_API_KEY", help="bearer token for the LLM")] = Secret()
    temperature: Annotated[float, env("LLM_TEMPERATURE", help="sampling temperature", ge=0, le=2)] = 0.7
    max_tokens: Annotated[
        int, env("LLM_MAX_TOKENS", help="longest answer in tokens; 0 leaves it to the endpoint", ge=0)
    ] = 2048
    timeout: Annotated[
        float, env("LLM_TIMEOUT", help="seconds to the first token of a streamed answer", ge=0.001)
    ] = 60.0
    idle_timeout: Annotated[float, env("LLM_IDLE_TIMEOUT", help="seconds between two tokens", ge=0.001)] = (
        30.0
    )
    whole_timeout: Annotated[
        float, env("LLM_WHOLE_TIMEOUT", help="seconds to a whole answer that is not streamed", ge=0.001)
    ] = 300.0
    extra_body: Annotated[
        str,
        env(
            "LLM_EXTRA_BODY",
            help="JSON object added to every request, for what is the endpoint's own: stop, …",
        ),
    ] = ""
    stream_usage: Annotated[
        bool, env("LLM_STREAM_USAGE", help="ask for token counts in streams (stream_options.include_usage)")
    ] = True


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of a conversation.

    Attributes:
        role: `system`, `user` or `assistant`.
        content: Its text.
    """

    role: str
    content: str


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


_NOTHING = msgspec.Raw()


class _Answer(msgspec.Struct):
    """A chunk of a stream, or a whole answer: they differ in `delta` and `message` only."""

    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = _NOTHING
    object: str | None = None

    def failed(self) -> bool:
        """Whether it is an error object: OpenAI's, or vLLM's older one."""
        return self.object == "error" or (self.error is not _NOTHING and bytes(self.error) != b"null")


class _Failure(msgspec.Struct):
    code: int | str | None = None
    error: _Failure | None = None


class Completion:
    """One answer. A streamed one is an async iterable of pieces of text inside its `async with` block.

    Attributes:
        finish_reason: Why it ended: `stop`, `length`, another word of the endpoint, or `interrupted` when the
            stream broke off after some text. Empty while it runs.
        warning: One sentence about what went wrong, or "".
        model: The model that answered, in the endpoint's words.
        prompt_tokens: Tokens of the question, 0 when the endpoint does not tell.
        completion_tokens: Tokens of the answer, 0 when the endpoint does not tell.
        time_to_first_token: Seconds from the request to the first piece of text; None before it.
    """

    __slots__ = (
        "_body", "_ended", "_length", "_llm", "_pieces", "_ready", "_response", "_started", "completion_tokens",
        "finish_reason", "model", "prompt_tokens", "time_to_first_token", "warning",
    )  # fmt: skip

    def __init__(self, llm: LLM, body: dict[str, Any]) -> None:
        self._llm = llm
        self._body = body
        self._response: StreamedResponse | None = None
        self._pieces: list[str] = []
        self._ready: deque[str] = deque()
        self._ended = False
        self._length = 0
        self._started = 0.0
        self.finish_reason = ""
        self.warning = ""
        self.model = ""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.time_to_first_token: float | None = None

    @property
    def text(self) -> str:
        """The answer as far as it has come."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    async def __aenter__(self) -> Self:
        """Send the question and wait until the endpoint starts to answer.

        Raises:
            UpstreamError: If it does not.
            Overloaded: If no connection becomes free in time.
        """
        llm = self._llm
        self._started = time.perf_counter()
        if not self._body["model"]:
            self._body["model"] = await llm.model.get()
        response = llm.endpoint.stream(
            "POST",
            PATH,
            content=msgspec.json.encode(self._body),
            headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
            repeat="unstarted",
            idle_timeout=llm.settings.timeout,
        )
        self._response = await response.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        """Return the next piece of text.

        Raises:
            UpstreamError: If the stream breaks before there is any text. Later breaks end the iteration and
                show in `finish_reason` and `warning`.
        """
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            await self._advance()
        return self._ready.popleft()

    async def _advance(self) -> None:
        """Take the next piece of the stream."""
        response = self._response
        if response is None:
            raise RuntimeError("a completion is iterated over inside its `async with` block")
        try:
            events = await response.read_events()
            if events is None:
                self._ended = True
                self._check_end()
                return
            for event in events:
                if event.data == b"[DONE]":
                    self._ended = True
                    self.finish_reason = self.finish_reason or "stop"
                    response.finish()
                    return
                if piece := self._take(event):
                    self._add(response, piece)
        except UpstreamError as error:
            self._ended = True
            if not self._pieces:
                raise
            self.finish_reason = INTERRUPTED
            self.warning = f"the answer is incomplete: {error.message}"

    def _add(self, response: StreamedResponse, piece: str) -> None:
        if not self._pieces:
            self.time_to_first_token = time.perf_counter() - self._started
            response.idle_timeout = self._llm.settings.idle_timeout
        self._pieces.append(piece)
        self._ready.append(piece)
        self._length += len(piece)
        if self._length > MAX_TEXT:
            raise self._llm.endpoint.ended(f"answered more than {MAX_TEXT} characters")

    def _take(self, event: Event) -> str | None:
        """Take a chunk and return the text in it."""
        chunk = self._llm.decoded(event.data)
        if chunk.failed() or event.event == "error":
            raise self._llm.failed(event.data)
        if chunk.model and not self.model:
            self.model = chunk.model
        if chunk.usage is not None:
            self._count(chunk.usage)
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        return choice.delta.content if choice.delta is not None else None

    def _check_end(self) -> None:
        """Judge a stream that ended without `[DONE]`: fine after a finish reason, else it was cut."""
        if not self.finish_reason:
            raise self._llm.endpoint.ended("ended its answer without saying that it was complete")

    def _count(self, usage: _Usage) -> None:
        self.prompt_tokens = usage.prompt_tokens or 0
        self.completion_tokens = usage.completion_tokens or 0

    def take_whole(self, content: bytes, started: float) -> None:
        """Fill in an answer that was not streamed."""
        llm = self._llm
        answer = llm.decoded(content)
        if answer.failed():
            raise llm.failed(content)
        if not answer.choices:
            raise llm.endpoint.unreadable("an answer without choices")
        choice = answer.choices[0]
        self.time_to_first_token = time.perf_counter() - started
        self._pieces = [choice.message.content or ""] if choice.message is not None else []
        self.finish_reason = choice.finish_reason or "stop"
        self.model = answer.model or ""
        if answer.usage is not None:
            self._count(answer.usage)


class LLM:
    """A chat model behind OpenAI's contract.

    Args:
        pool: Where its connections come from.
        settings: Where it is and what to ask of it.

    Attributes:
        endpoint: The endpoint it talks to.
        model: The model used unless a call names another.
    """

    def __init__(self, pool: HttpPool, settings: LLMSettings) -> None:
        self.settings = settings
        self.endpoint: Endpoint = pool.endpoint(
            "llm",
            base_of(settings.url, PATH),
            api_key=settings.api_key,
            timeout=settings.timeout,
            idle_timeout=settings.idle_timeout,
            setting="LLM_URL",
        )
        self.model = ModelName(self.endpoint, settings.model)
        self._extra = _extra_body(settings.extra_body)
        self._decoder = msgspec.json.Decoder(_Answer)

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        model: str = "",
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Completion:
        """Return an answer to enter with `async with` and to iterate over; leaving it stops the model.

        A connection that cannot be made, and a refusal for load before the first byte, are tried again.

        Args:
            messages: The conversation, oldest first.
            model: Instead of the configured one.
            max_tokens: Instead of the configured limit.
            temperature: Instead of the configured one.
        """
        body = self._body(messages, model, max_tokens, temperature)
        body["stream"] = True
        if self.settings.stream_usage:
            body["stream_options"] = {"include_usage": True}
        return Completion(self, body)

    async def complete(
        self,
        messages: Sequence[ChatMessage],
        *,
        model: str = "",
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Completion:
        """Return a whole answer.

        Args:
            messages: The conversation, oldest first.
            model: Instead of the configured one.
            max_tokens: Instead of the configured limit.
            temperature: Instead of the configured one.

        Raises:
            UpstreamError: If there is none.
            Overloaded: If no connection becomes free in time.
        """
        started = time.perf_counter()
        body = self._body(messages, model, max_tokens, temperature)
        body["model"] = body["model"] or await self.model.get()
        response = await self.endpoint.request(
            "POST",
            PATH,
            content=msgspec.json.encode(body),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            repeat="unstarted",
            timeout=self.settings.whole_timeout,
        )
        completion = Completion(self, body)
        completion.take_whole(response.content, started)
        return completion

    def _body(
        self, messages: Sequence[ChatMessage], model: str, max_tokens: int | None, temperature: float | None
    ) -> dict[str, Any]:
        settings = self.settings
        body: dict[str, Any] = {
            **self._extra,
            "model": model or settings.model,
            "messages": messages,
            "temperature": settings.temperature if temperature is None else temperature,
        }
        if limit := settings.max_tokens if max_tokens is None else max_tokens:
            body["max_tokens"] = limit
        return body

    def decoded(self, data: bytes) -> _Answer:
        """Return a chunk or an answer.

        Raises:
            UpstreamProtocol: If it is not one.
        """
        try:
            return self._decoder.decode(data)
        except UnicodeDecodeError:
            # A model with a byte vocabulary can be cut within a character; JSON itself must be UTF-8.
            return self.decoded(data.decode("utf-8", "replace").encode())
        except msgspec.DecodeError as error:
            raise self.endpoint.unreadable(str(error)) from error

    def failed(self, body: bytes) -> UpstreamError:
        """Return the error for an error object of the endpoint, inside `error` or by itself."""
        try:
            failure = msgspec.json.decode(body, type=_Failure)
        except msgspec.DecodeError:
            failure = _Failure()
        for code in (failure.error.code, failure.code) if failure.error is not None else (failure.code,):
            if isinstance(code, int):
                return self.endpoint.failed(body, code)
        return self.endpoint.failed(body, 500)


def _extra_body(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"LLM_EXTRA_BODY is not a JSON object: {error}"]) from error
