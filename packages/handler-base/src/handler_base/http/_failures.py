"""What can go wrong on a connection, in the engine's terms; `_mapping` turns it into the project's errors."""

from __future__ import annotations


class TransportFailure(Exception):
    """Base of what the engine raises.

    Attributes:
        reason: What happened, as the end of a sentence that starts with the endpoint's name.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotConnected(TransportFailure):
    """No connection could be established, so the request was not sent.

    Attributes:
        slow: Whether it was the time limit that ended the attempt.
    """

    def __init__(self, reason: str, *, slow: bool = False) -> None:
        super().__init__(reason)
        self.slow = slow


class NoSlot(TransportFailure):
    """All connections to the endpoint are in use."""


class Broken(TransportFailure):
    """The connection ended before the response did.

    Attributes:
        started: Whether any of the response had come.
        reused: Whether the connection had carried an exchange before; the endpoint may have closed it for that
            reason alone, in the moment in which we sent.
    """

    def __init__(self, reason: str, *, started: bool, reused: bool = False) -> None:
        super().__init__(reason)
        self.started = started
        self.reused = reused


class Silent(TransportFailure):
    """Nothing came for too long.

    Attributes:
        seconds: The limit.
        started: Whether the head of the response had come.
    """

    def __init__(self, seconds: float, *, started: bool) -> None:
        super().__init__(f"nothing came for {seconds:g} s")
        self.seconds = seconds
        self.started = started


class Malformed(TransportFailure):
    """What came is not HTTP."""


class TooMuch(TransportFailure):
    """The body is over the limit.

    Attributes:
        limit: The limit in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"answered more than {limit} bytes")
        self.limit = limit
