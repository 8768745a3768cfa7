"""The smallest service: it answers a chat request with its text. For tests of the runtime, as a process.

`ECHO_NEEDS=<host:port>` makes it need something that listens there; `ECHO_DELAY=<seconds>` makes it slow.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

from handler_base.config import Settings, env
from handler_base.errors import UpstreamUnavailable
from handler_base.process import run
from handler_base.service import Service, ServiceSettings
from handler_messages import ChatRequest, ChatResponse, subjects

if TYPE_CHECKING:
    from handler_base.messaging.context import Context


class EchoOptions(Settings, frozen=True, kw_only=True):
    """What echo is told."""

    needs: Annotated[str, env("ECHO_NEEDS", help="host:port that must accept connections")] = ""
    delay: Annotated[float, env("ECHO_DELAY", help="seconds before the answer", ge=0)] = 0.0


class EchoSettings(ServiceSettings, frozen=True, kw_only=True):
    """Everything echo is told."""

    echo: EchoOptions = EchoOptions()


def assemble(service: Service, settings: EchoSettings) -> None:
    """Declare the handlers of echo."""

    async def echo(context: Context, request: ChatRequest) -> ChatResponse:
        await asyncio.sleep(settings.echo.delay)
        return ChatResponse(request_id=context.request_id, response=request.message)

    async def needed() -> None:
        host, _, port = settings.echo.needs.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            raise UpstreamUnavailable(f"{settings.echo.needs} refuses connections") from error
        writer.close()

    service.handle(subjects.CHAT_REQUEST, echo, response=subjects.CHAT_RESPONSE)
    service.handle(subjects.CHAT_USER_MESSAGE, echo, response=subjects.CHAT_RESPONSE)
    if settings.echo.needs:
        service.needs("backend", needed)


def main() -> None:
    """Run the service."""
    sys.exit(run("echo", "1.2.3", EchoSettings, assemble, description="answers with the text it got"))


if __name__ == "__main__":
    main()
