"""llama.cpp behind `/llm`: its own OpenAI-compatible server in this process, passed through byte by byte.

The server listens on a port of its own on the loopback interface; everything under `/llm` is forwarded to it, so
whatever it can do works, and a client that goes away closes the connection to it, which frees the slot.
"""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import h11

from handler_base.errors import ConfigError
from local_inference.streaming import Stream
from local_inference.wire import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

_READ = 64 * 1024
_NOT_FORWARDED = {
    b"host",
    b"connection",
    b"content-length",
    b"transfer-encoding",
    b"accept-encoding",
    b"expect",
}
_NOT_RETURNED = {b"connection", b"keep-alive", b"transfer-encoding", b"server", b"date"}


class Llama:
    """A GGUF file served by llama.cpp.

    Args:
        file: The GGUF file.
        context_tokens: Longest context, shared by the requests that run at the same time.
        parallel: Requests that run at the same time.
        threads: Threads that compute, 0 for all cores.

    Raises:
        ConfigError: If there is no such file or llama.cpp is not installed.
    """

    def __init__(self, file: str, *, context_tokens: int, parallel: int, threads: int) -> None:
        if not Path(file).is_file():
            raise ConfigError([f"LLM_GGUF={file}: there is no such file"])
        try:
            self._library: Any = importlib.import_module("xllamacpp")
        except ImportError as error:
            raise ConfigError(["LLM_GGUF needs llama.cpp: install local-inference[llama]"]) from error
        self._parameters: Any = self._library.CommonParams()
        self._parameters.model.path = file
        self._parameters.model_alias = {Path(file).stem}
        self._parameters.n_ctx = context_tokens
        self._parameters.n_parallel = parallel
        self._parameters.cpuparams.n_threads = threads or -1
        self._parameters.api_prefix = "/llm"
        self._parameters.endpoint_slots = True
        self._parameters.ui = False
        self._parameters.verbosity = 2
        self._server: Any = None
        self._address = ("", 0)

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._server is not None

    async def load(self) -> None:
        """Load the model; this may take minutes.

        Raises:
            ConfigError: If llama.cpp cannot read the file.
        """
        try:
            server = await asyncio.to_thread(self._library.Server, self._parameters)
        except RuntimeError as error:
            file = self._parameters.model.path
            raise ConfigError([f"LLM_GGUF={file}: llama.cpp cannot load it: {error}"]) from error
        parts = urlsplit(server.listening_address)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._server = server

    async def forward(self, request: Request, body: bytes) -> Stream:
        """Pass a request on and return llama.cpp's answer as it comes.

        Raises:
            ApiError: 503 while the model loads, 502 when llama.cpp does not answer.
        """
        if not self.ready:
            raise ApiError(503, "the model is still loading", code="model_loading")
        exchange = _Exchange(*await asyncio.open_connection(*self._address))
        try:
            response = await exchange.start(request, body)
        except BaseException:
            exchange.close()
            raise
        headers = [(name, value) for name, value in response.headers if name not in _NOT_RETURNED]
        stream = Stream(exchange.body(), status=response.status_code, media_type=None)
        stream.raw_headers = headers
        return stream


class _Exchange:
    """One HTTP exchange on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    def close(self) -> None:
        self._writer.close()

    async def start(self, request: Request, body: bytes) -> h11.Response:
        target = request.scope["raw_path"] + (b"?" + request.scope["query_string"]).rstrip(b"?")
        headers = [(name, value) for name, value in request.headers.raw if name not in _NOT_FORWARDED]
        headers += [
            (b"host", b"localhost"),
            (b"connection", b"close"),
            (b"content-length", b"%d" % len(body)),
        ]
        for event in (
            h11.Request(method=request.method, target=target, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()
        event = await self._next()
        if not isinstance(event, h11.Response):
            raise ApiError(502, "llama.cpp closed the connection without an answer")
        return event

    async def body(self) -> AsyncGenerator[bytes]:
        try:
            while isinstance(event := await self._next(), h11.Data):
                yield bytes(event.data)
        finally:
            self.close()

    async def _next(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ))
        except (h11.RemoteProtocolError, OSError) as error:
            raise ApiError(502, f"llama.cpp broke off: {error}") from error
        return event
