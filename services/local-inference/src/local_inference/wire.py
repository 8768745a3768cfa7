"""What travels over HTTP: the requests we read and OpenAI's error object.

Source: https://platform.openai.com/docs/api-reference (chat, embeddings, speech, errors); the rerank request is the one that
Jina, Cohere and vLLM share; `/rerank` with `texts` is that of text-embeddings-inference.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from starlette.responses import Response

LLM_MODEL = "extractive"
EMBEDDINGS_MODEL = "all-MiniLM-L6-v2"
RERANKER_MODEL = "bm25"
WHISPER_MODEL = "pocketsphinx-en-us"
TTS_MODEL = "flite"


class ApiError(Exception):
    """An answer other than 200, in OpenAI's shape.

    Attributes:
        status: HTTP status.
        message: For a person.
        code: For a program, or None.
        param: The field that is wrong, or None.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param

    def response(self) -> Response:
        """Return it as an HTTP response."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        is_passing = self.status == 503 and self.code != "engine_missing"
        headers = {"Retry-After": "1"} if is_passing else None
        return json_response({"error": error}, status=self.status, headers=headers)


def json_response(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `body` as a JSON response."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


class ContentPart(msgspec.Struct):
    """One part of a message; only text can be read."""

    type: str
    text: str = ""


class Message(msgspec.Struct):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None

    def text(self) -> str:
        """Return its text.

        Raises:
            ApiError: If it holds something else than text.
        """
        if isinstance(self.content, list):
            for part in self.content:
                if part.type != "text":
                    raise ApiError(400, f"content of type {part.type!r} is not supported", param="messages")
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct):
    """What a stream holds besides text."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    """`POST /v1/chat/completions`. Fields that steer sampling have no meaning here and are not read."""

    messages: list[Message]
    model: str = ""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = 1


class EmbeddingsRequest(msgspec.Struct):
    """`POST /v1/embeddings`."""

    input: str | list[Any]
    model: str = ""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class RerankDocument(msgspec.Struct):
    """A document given as an object."""

    text: str


class RerankRequest(msgspec.Struct):
    """`POST /v1/rerank`."""

    query: str
    documents: list[str | RerankDocument]
    model: str = ""
    top_n: int | None = None
    return_documents: bool | None = False


class TeiRerankRequest(msgspec.Struct):
    """`POST /rerank` of text-embeddings-inference."""

    query: str
    texts: list[str]
    return_text: bool = False


class SpeechRequest(msgspec.Struct):
    """`POST /v1/audio/speech`; `sample_rate` is ours. `instructions` mean nothing here."""

    input: str
    model: str = ""
    voice: str | None = ""
    response_format: Literal["wav", "pcm", "flac", "opus", "mp3"] | None = None
    speed: float | None = None
    sample_rate: int | None = None
    stream_format: Literal["audio"] | None = None


RequestT = TypeVar("RequestT", bound=msgspec.Struct)


def decode(body: bytes, kind: type[RequestT]) -> RequestT:
    """Read a request.

    Raises:
        ApiError: 400, saying which field is wrong.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ApiError(400, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the request body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise ApiError(400, "the request body is nested too deeply") from error


def check_model(asked: str, ours: str, *aliases: str) -> None:
    """Accept our own name, `default`, nothing at all, and the names that clients ask for unless told otherwise.

    Raises:
        ApiError: 404 `model_not_found`.
    """
    if asked not in {"", "default", ours, *aliases}:
        message = f"the model {asked!r} does not exist here; this endpoint serves {ours!r}"
        raise ApiError(404, message, code="model_not_found", param="model")


def check_language(asked: str, param: str) -> None:
    """Accept English in any spelling, and nothing at all: speech in another language would become nonsense.

    Raises:
        ApiError: 400 `unsupported_language`.
    """
    if asked and asked.lower().replace("_", "-").split("-")[0] not in {"en", "eng", "english"}:
        message = (
            f"this stand-in knows English alone, not {asked!r}: leave {param} out or send 'en', or use an endpoint "
            "that knows more languages"
        )
        raise ApiError(400, message, code="unsupported_language", param=param)
