"""What is heard in a session: the words between the parts that listen and those that write."""

from __future__ import annotations

import msgspec


class Checkpoint(msgspec.Struct, frozen=True):
    """Where a speaker's audio goes on after an utterance: see `STTCheckpoint`."""

    sequence: int
    sample: int
    position: int
    rate: int


class Utterance(msgspec.Struct, frozen=True):
    """Something that somebody says.

    Attributes:
        speaker: Who.
        number: Counts from 0 per speaker.
        pcm: Its audio, with what was right before.
        rate: Sample rate.
        start_ms: Where speech begins, in the audio of the session.
        end_ms: Where it ends.
        heard: Unix time at which the last of it was published.
        checkpoint: Where the audio of what comes next begins; None while it goes on.
        language: Its language as the sender says, or "".
    """

    speaker: str
    number: int
    pcm: bytes
    rate: int
    start_ms: int
    end_ms: int
    heard: float
    checkpoint: Checkpoint | None = None
    language: str = ""

    @property
    def key(self) -> tuple[str, int, int, int]:
        """The same for the same audio."""
        return (self.speaker, self.number, self.end_ms, len(self.pcm))


class Spoken(msgspec.Struct, frozen=True):
    """Somebody is still speaking: the utterance so far."""

    utterance: Utterance


class Paused(msgspec.Struct, frozen=True):
    """Somebody may have finished: the utterance as it will be then."""

    utterance: Utterance


class Resumed(msgspec.Struct, frozen=True):
    """The utterance goes on after a pause, or was none."""

    speaker: str


class Finished(msgspec.Struct, frozen=True):
    """An utterance is complete."""

    utterance: Utterance


class Interrupted(msgspec.Struct, frozen=True):
    """Somebody speaks while the assistant does."""

    speaker: str
    start_ms: int


Event = Spoken | Paused | Resumed | Finished | Interrupted
