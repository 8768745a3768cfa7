"""What JetStream says about a message that it delivers, read from the subject of its acknowledgement (ADR-15, ADR-33)."""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "$JS.ACK."
"""How such a subject begins."""


class Delivered(NamedTuple):
    """One delivery.

    Attributes:
        stream: The stream's name.
        consumer: The consumer's name.
        attempt: 1 for the first delivery.
        sequence: The message's number in the stream.
        number: Its number among what the consumer has delivered.
        published: Unix time in seconds when it was stored.
        pending: How many messages come after it as yet.
    """

    stream: str
    consumer: str
    attempt: int
    sequence: int
    number: int
    published: float
    pending: int

    @classmethod
    def parse(cls, reply: str) -> Delivered:
        """Read `$JS.ACK.…` in its old form (9 tokens) or its new one (with domain and account, 11 or more)."""
        tokens = reply.split(".")
        if len(tokens) >= 11:
            tokens = tokens[2:]
        stream, consumer, attempt, sequence, number, published, pending = tokens[2:9]
        return cls(
            stream, consumer, int(attempt), int(sequence), int(number), int(published) / 1e9, int(pending)
        )
