"""What every command does with a service: send it something, await the answer, cancel when the person wants to stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from handler_base.errors import HandlerError, MessagingError, NotFound
from handler_base.messaging import wire
from handler_base.messaging.connection import decode_answer
from handler_base.messaging.context import TIMEOUT_HEADER
from handler_messages import CancelRequest, ErrorResponse, subjects
from handlers_cli.connecting import Unreachable, connected, is_running
from handlers_cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNREACHABLE, EXIT_USAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from google.protobuf.message import Message

    from handler_base.messaging.connection import Connection
    from handlers_cli.terminal import Terminal

CANCEL_SECONDS = 3.0
"""Longest wait for the far end to say that it stopped."""

LOOK_SECONDS = 1.0
"""How often we look whether the connection still works."""

MARGIN_SECONDS = 2.0
"""How much longer than the service we wait, so that its own word about a deadline arrives."""

_AGAIN_SECONDS = 0.2

T = TypeVar("T")
MessageT = TypeVar("MessageT", bound="Message")


def nothing() -> None:
    """Do nothing."""


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended, whatever came of them.

    Before Python 3.12 `asyncio.wait_for`, which nats-py awaits answers with, loses a cancellation that comes together
    with the answer (https://github.com/python/cpython/issues/86296): it is repeated.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


async def over_nats(
    url: str,
    name: str,
    terminal: Terminal,
    run: Callable[[Connection], Awaitable[int]],
    *,
    stop: Callable[[], None] = nothing,
) -> int:
    """Run a command over a connection of its own; return its exit code, or that of what went wrong.

    Args:
        url: The server, "" for the settings' one.
        name: What the server calls this client.
        terminal: Where errors are said.
        run: The command.
        stop: Called before an error is said that came in the middle of something.
    """
    try:
        async with connected(url, name=name) as connection:
            return await run(connection)
    except Unreachable as error:
        stop()
        terminal.error(error.message)
        return EXIT_UNREACHABLE
    except subjects.SubjectError as error:
        terminal.error(str(error))
        return EXIT_USAGE
    except HandlerError as error:
        stop()
        terminal.error(error.message, error.type)
        return EXIT_FAILED


async def asking(
    url: str,
    name: str,
    terminal: Terminal,
    ask: Callable[[Exchange], Coroutine[Any, Any, int]],
    *,
    service: str,
    interrupt: asyncio.Event,
) -> int:
    """Run a command that asks a service something and is done; return its exit code.

    Args:
        url: The server, "" for the settings' one.
        name: What the server calls this client.
        terminal: Where errors are said.
        ask: The command.
        service: The service's name.
        interrupt: Ends it.
    """

    async def run(connection: Connection) -> int:
        exchange = Exchange(connection, terminal, service, "request")
        code = await exchange.until(ask(exchange), interrupt)
        return EXIT_INTERRUPTED if code is None else code

    return await over_nats(url, name, terminal, run)


class Exchange:
    """One thing that is wanted of one service.

    Args:
        connection: Where it runs.
        terminal: Where notices go.
        service: The service's name.
        what: What is sent, as people call it: `question`, `text`.
        stop: Called before a notice, to end what is shown.

    Attributes:
        cancelling: Whether it was cancelled here: what comes then is no surprise.
    """

    def __init__(
        self,
        connection: Connection,
        terminal: Terminal,
        service: str,
        what: str,
        *,
        stop: Callable[[], None] = nothing,
    ) -> None:
        self._connection = connection
        self._terminal = terminal
        self._service = service
        self._what = what
        self._stop = stop
        self.cancelling = False

    async def request(
        self, subject: str, payload: bytes, answer: type[MessageT], timeout: float
    ) -> MessageT | ErrorResponse:
        """Request/reply: whoever is free answers within `timeout` seconds.

        Raises:
            Unreachable: If nobody listens.
            HandlerError: If there was no answer, or none that can be read.
        """
        try:
            reply = await self._connection.request_bytes(
                subject,
                payload,
                timeout=timeout + MARGIN_SECONDS,
                headers={TIMEOUT_HEADER: str(int(timeout * 1000))},
            )
        except NotFound:
            raise Unreachable(
                f"nobody listens on {subject} at {self._connection.status().server}: "
                f"{self._service} does not run there. Start it, or the whole local stack with `handlers up`"
            ) from None
        return decode_answer(reply, answer)

    async def store(self, subject: str, message: Message, msg_id: str) -> None:
        """Put a message into its stream, where it waits until it is answered; tell when nobody is there to do so.

        Raises:
            Unreachable: If there is no such stream.
            TooLarge: If it is more than the server takes.
        """
        try:
            await self._connection.store(subject, wire.encode(message), msg_id=msg_id, tries=1)
        except MessagingError as error:
            raise Unreachable(
                f"{error.message}: there is no stream for {subject}; {self._service} makes it when it starts"
            ) from error
        await self.tell_absence()

    async def tell_absence(self) -> None:
        """Warn when the service does not run, so that what was stored waits."""
        if not await is_running(self._connection, self._service):
            self._terminal.warning(
                f"no {self._service} runs now; the {self._what} is stored and waits for one"
            )

    async def within(self, answer: Awaitable[T], timeout: float) -> T:
        """Await what comes for a stored message.

        Raises:
            MessagingError: If it does not come in `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout + MARGIN_SECONDS):
                return await answer
        except TimeoutError:
            raise MessagingError(
                f"no answer within {timeout:g} s; the {self._what} stays in its stream"
            ) from None

    async def until(
        self,
        work: Coroutine[Any, Any, T],
        interrupt: asyncio.Event,
        cancel: Callable[[asyncio.Future[T]], Awaitable[None]] | None = None,
    ) -> T | None:
        """Await `work`; when `interrupt` comes first, call `cancel` with it, if there is one, and return None."""
        working = asyncio.ensure_future(work)
        interrupted = asyncio.ensure_future(interrupt.wait())
        try:
            warned = False
            while not (working.done() or interrupted.done()):
                await asyncio.wait(
                    (working, interrupted), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not self._connection.connected and not warned:
                    warned = True
                    self._stop()
                    self._terminal.warning("the connection to NATS is lost; trying to have it again")
            if working.done():
                return working.result()
            if cancel is not None:
                await cancel(working)
            return None
        finally:
            await end(working, interrupted)

    async def cancel(
        self, subject: str, request: CancelRequest, working: asyncio.Future[Any], ended: asyncio.Event
    ) -> None:
        """Tell the far end to stop, and wait a moment until it says so: by its answer, or by `ended`."""
        self.cancelling = True
        request.reason = "interrupted at the terminal"
        await self._connection.publish(subject, request)
        ending = asyncio.ensure_future(ended.wait())
        await asyncio.wait((working, ending), timeout=CANCEL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        stopped = ending.done() or working.done()
        ending.cancel()
        self._stop()
        self._terminal.note(
            "cancelled" if stopped else f"cancelled, but {self._service} did not say that it stopped"
        )
