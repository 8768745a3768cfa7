"""`local-inference`: read the settings, open the port, serve until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from typing import TYPE_CHECKING

from handler_base.config import help_text, load
from handler_base.errors import ConfigError
from handler_base.telemetry.logs import configure
from local_inference.config import LocalInferenceSettings

if TYPE_CHECKING:
    import uvicorn

_GRACE_SECONDS = 5


def main() -> int:
    """Run the service; returns its exit code."""
    argparse.ArgumentParser(
        prog="local-inference",
        description="Chat completions, embeddings, reranking and speech on one port, without a GPU or a download.",
        epilog=f"settings (environment variables):\n{help_text(LocalInferenceSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        settings = load(LocalInferenceSettings)
        listener = _listen(settings.host, settings.port)
        with listener:
            _serve(settings, listener)
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"local-inference: {problem}\n")
        return 2
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError([f"cannot listen on {host}:{port}: {error.strerror}; set HOST or PORT"]) from error
    listener.listen(1024)
    return listener


def _serve(settings: LocalInferenceSettings, listener: socket.socket) -> None:
    configure(settings.telemetry.log_level, settings.telemetry.log_format, "local-inference")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    host, port = listener.getsockname()[:2]
    logging.getLogger("local_inference").info("listening on http://%s:%d", host, port)
    asyncio.run(_until_told(server(settings), listener))


def server(settings: LocalInferenceSettings) -> uvicorn.Server:
    """Return the HTTP server of the app, not yet listening.

    Raises:
        ConfigError: If `LLM_GGUF` cannot work.
    """
    import uvicorn

    from local_inference.app import LocalInference

    config = uvicorn.Config(
        LocalInference(settings).app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return uvicorn.Server(config)


async def _until_told(server: uvicorn.Server, listener: socket.socket) -> None:
    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    # uvicorn raises the signal again when it is done, and the process would end by it; ours ends with exit code 0.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
