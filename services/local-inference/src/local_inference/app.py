"""The ASGI app: routes of the Ray Serve layout over the engines.

The weights load in the background, so the port opens at once; `/readyz` tells when they are there, and requests that
need them are answered with 503 until then. Those of speech load when somebody speaks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from handler_base.errors import HandlerError
from local_inference.chat import complete
from local_inference.ears import Ears
from local_inference.engine import Engine
from local_inference.limits import InFlight
from local_inference.speech import Speech, voices
from local_inference.streaming import ClientGone, while_connected
from local_inference.transcriptions import transcribe
from local_inference.voice import Flite
from local_inference.wire import (
    EMBEDDINGS_MODEL,
    LLM_MODEL,
    RERANKER_MODEL,
    TTS_MODEL,
    WHISPER_MODEL,
    ApiError,
    ChatRequest,
    EmbeddingsRequest,
    RerankRequest,
    SpeechRequest,
    TeiRerankRequest,
    check_model,
    decode,
    json_response,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from local_inference.config import LocalInferenceSettings
    from local_inference.llama import Llama

_CLIENT_CLOSED = 499

logger = logging.getLogger(__name__)


class LocalInference:
    """The routes and what they stand on; `app` is the ASGI application.

    Raises:
        ConfigError: If `LLM_GGUF` cannot work.
    """

    def __init__(self, settings: LocalInferenceSettings) -> None:
        self._settings = settings
        self._engine = Engine(max_tokens=settings.embeddings_max_tokens)
        self._llama = _llama(settings)
        self._ears = Ears(settings.whisper_parallel)
        self._flite = Flite(settings.flite_path, settings.tts_parallel)
        self._speech = Speech(self._flite, max_chars=settings.tts_max_chars)
        self._failure = ""
        get, post = ["GET"], ["POST"]
        llm = (
            [Route("/llm/{path:path}", self._forwarded(self._llama), methods=["GET", "POST", "OPTIONS"])]
            if self._llama
            else [
                Route("/llm/v1/chat/completions", self._served(self._chat), methods=post),
                Route("/llm/v1/models", _models(LLM_MODEL), methods=get),
            ]
        )
        app = Starlette(
            routes=[
                *llm,
                Route("/embeddings/v1/embeddings", self._served(self._embeddings), methods=post),
                Route("/embeddings/v1/models", _models(EMBEDDINGS_MODEL), methods=get),
                Route("/reranker/v1/rerank", self._served(self._rerank), methods=post),
                Route("/reranker/rerank", self._served(self._tei_rerank), methods=post),
                Route("/reranker/v1/models", _models(RERANKER_MODEL), methods=get),
                Route("/whisper/v1/audio/transcriptions", self._transcribed, methods=post),
                Route("/whisper/v1/models", _models(WHISPER_MODEL), methods=get),
                Route("/tts/v1/audio/speech", self._served(self._spoken), methods=post),
                Route("/tts/v1/audio/voices", voices, methods=get),
                Route("/tts/v1/models", _models(TTS_MODEL), methods=get),
                Route("/tts/api/tts", self._coqui, methods=[*get, *post]),
                Route("/healthz", _healthz, methods=get),
                Route("/readyz", self._readyz, methods=get),
            ],
            exception_handlers={HTTPException: _http_error},
            lifespan=self._lifespan,
        )
        self.app = InFlight(app, limit=settings.max_in_flight)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(self._load())
            yield
            loading.cancel()
        self._engine.close()
        await self._ears.close()

    async def _load(self) -> None:
        try:
            await self._engine.load()
            if self._llama is not None:
                await self._llama.load()
        except (OSError, ValueError, ImportError, HandlerError) as error:
            # The process stays up and says so: whoever waits for /readyz sees the reason.
            self._failure = str(error)
            logger.error("the models cannot be loaded: %s", error)
            return
        logger.info("ready")

    def _missing(self) -> list[str]:
        if self._failure:
            return [self._failure]
        missing = [] if self._engine.ready else [f"{EMBEDDINGS_MODEL} is loading"]
        if self._llama is not None and not self._llama.ready:
            missing.append(f"{self._settings.llm_gguf} is loading")
        return missing

    async def _readyz(self, _request: Request) -> Response:
        if missing := self._missing():
            return json_response({"ready": False, "missing": missing}, status=503)
        notes = {"notes": [self._flite.missing]} if self._flite.missing else {}
        return json_response({"ready": True, **notes})

    def _served(
        self, answer: Callable[[bytes], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a route: its body, errors in OpenAI's shape, and an end when the client goes away."""

        async def serve(request: Request) -> Response:
            return await self._answered(request, answer)

        return serve

    def _forwarded(self, llama: Llama) -> Callable[[Request], Awaitable[Response]]:
        async def forward(request: Request) -> Response:
            return await self._answered(request, lambda body: llama.forward(request, body))

        return forward

    async def _answered(
        self, request: Request, answer: Callable[[bytes], Awaitable[Response]], max_bytes: int = 0
    ) -> Response:
        try:
            body = await self._body(request, max_bytes or self._settings.max_body_bytes)
            return await while_connected(request.receive, _awaited(answer(body)))
        except ApiError as error:
            return error.response()
        except ClientGone:
            return Response(status_code=_CLIENT_CLOSED)

    async def _body(self, request: Request, limit: int) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise ApiError(
                    413, f"the request body is larger than {limit} bytes", code="request_too_large"
                )
        return bytes(body)

    async def _transcribed(self, request: Request) -> Response:
        async def transcribed(body: bytes) -> Response:
            return await transcribe(request, body, self._ears, max_seconds=self._settings.whisper_max_seconds)

        return await self._answered(request, transcribed, self._settings.whisper_max_bytes)

    async def _spoken(self, body: bytes) -> Response:
        return await self._speech.speak(decode(body, SpeechRequest))

    async def _coqui(self, request: Request) -> Response:
        return await self._answered(request, lambda body: self._speech.coqui(request, body))

    async def _chat(self, body: bytes) -> Response:
        return await complete(
            decode(body, ChatRequest),
            self._engine,
            context_tokens=self._settings.llm_context_tokens,
            tokens_per_second=self._settings.llm_tokens_per_second,
        )

    async def _embeddings(self, body: bytes) -> Response:
        request = decode(body, EmbeddingsRequest)
        check_model(request.model, EMBEDDINGS_MODEL)
        texts = self._texts(request)
        vectors, tokens = await self._engine.embed(texts)
        as_text = request.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode() if as_text else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_response({"object": "list", "data": data, "model": EMBEDDINGS_MODEL, "usage": usage})

    def _texts(self, request: EmbeddingsRequest) -> list[str]:
        from local_inference.minilm import DIMENSIONS

        if request.dimensions not in {None, DIMENSIONS}:
            raise ApiError(
                400, f"dimensions must be {DIMENSIONS}: this model has no other", param="dimensions"
            )
        texts = [request.input] if isinstance(request.input, str) else request.input
        if not texts:
            raise ApiError(400, "input must hold at least one text", param="input")
        if len(texts) > self._settings.embeddings_max_inputs:
            limit = self._settings.embeddings_max_inputs
            raise ApiError(400, f"input holds {len(texts)} texts, more than {limit}", param="input")
        if not all(isinstance(text, str) for text in texts):
            raise ApiError(400, "input must be text: token arrays are not supported", param="input")
        if not all(text.strip() for text in texts):
            raise ApiError(400, "input must not hold empty texts", param="input")
        return texts

    async def _rerank(self, body: bytes) -> Response:
        request = decode(body, RerankRequest)
        check_model(request.model, RERANKER_MODEL)
        if request.top_n is not None and request.top_n < 1:
            raise ApiError(400, "top_n must be at least 1", param="top_n")
        texts = [document if isinstance(document, str) else document.text for document in request.documents]
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": score}
            | ({"document": {"text": texts[index]}} if request.return_documents else {})
            for index, score in (await self._ranked(request.query, texts))[: request.top_n]
        ]
        return json_response({"model": RERANKER_MODEL, "results": results})

    async def _tei_rerank(self, body: bytes) -> Response:
        request = decode(body, TeiRerankRequest)
        return json_response(
            [
                {"index": index, "score": score}
                | ({"text": request.texts[index]} if request.return_text else {})
                for index, score in await self._ranked(request.query, request.texts)
            ]
        )

    async def _ranked(self, query: str, texts: list[str]) -> list[tuple[int, float]]:
        limit = self._settings.rerank_max_documents
        if not texts:
            raise ApiError(400, "there are no documents to rank", param="documents")
        if len(texts) > limit:
            raise ApiError(400, f"{len(texts)} documents are more than {limit}", param="documents")
        scores = await self._engine.rank(query, texts)
        return sorted(enumerate(scores), key=lambda ranked: -ranked[1])


def _llama(settings: LocalInferenceSettings) -> Llama | None:
    if not settings.llm_gguf:
        return None
    from local_inference.llama import Llama

    return Llama(
        settings.llm_gguf,
        context_tokens=settings.llm_context_tokens,
        parallel=settings.llm_parallel,
        threads=settings.llm_threads,
    )


def _models(name: str) -> Callable[[Request], Awaitable[Response]]:
    model = {"id": name, "object": "model", "created": 0, "owned_by": "local-inference"}

    async def models(_request: Request) -> Response:
        return json_response({"object": "list", "data": [model]})

    return models


async def _awaited(answer: Awaitable[Response]) -> Response:
    return await answer


async def _healthz(_request: Request) -> Response:
    return json_response({"status": "ok", "service": "local-inference"})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not allowed here"}
    return ApiError(error.status_code, detail.get(error.status_code, error.detail)).response()
