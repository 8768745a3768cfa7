"""Chunks in the order of their numbers, whatever the way did to them. No I/O, no clock.

A number counts over the chunks of a session and its `end`. Where every speaker has a sender of their own, each counts
from 0: who comes with number 0, or with one that is used already, has a numbering of their own.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter

import msgspec

REMEMBERED = 64
"""How many of the first chunks are known again, so that a sender that begins anew is told from a repetition."""

MOST_WAITING = 256
"""Chunks that wait for one before them, however short they are."""


class Chunk(msgspec.Struct):
    """A chunk, or the end of a numbering.

    Attributes:
        speaker: Who.
        pcm: 16 bit PCM.
        rate: Its sample rate.
        published: Unix time in seconds when the stream took it.
        end: Whether it is no chunk but the end.
        number: Its number, growing even where a sender began anew.
        missing: How many before it never came.
    """

    speaker: str
    pcm: bytes
    rate: int
    published: float
    end: bool = False
    number: int = 0
    missing: int = 0

    @property
    def ms(self) -> float:
        """Its length in milliseconds."""
        return len(self.pcm) / 2 / self.rate * 1000 if self.rate else 0.0


class Numbering:
    """What one sender counts.

    Args:
        reorder_ms: Later audio for which a missing chunk is waited for.
        counts: Where what went wrong is counted.
        begin: The first number; None when that is not known.
        base: What its own numbers begin at.
    """

    def __init__(
        self, reorder_ms: float, counts: Counter[str], *, begin: int | None = None, base: int = 0
    ) -> None:
        self._reorder_ms = reorder_ms
        self._counts = counts
        self.base = base
        self.next = begin or 0
        self._begun = begin is not None
        self._first = self.next
        self._waiting: dict[int, Chunk] = {}
        self._beginning: list[int] = []
        self.ended = False

    def has(self, number: int) -> bool:
        """Whether a number is used already."""
        return (self._begun and number < self.next) or number in self._waiting

    @property
    def waits_since(self) -> float:
        """When the first of those came that wait for another; infinite when none does."""
        return min((chunk.published for chunk in self._waiting.values()), default=math.inf)

    @property
    def ends_after(self) -> float:
        """When the `end` came, if it waits for chunks before it; infinite otherwise."""
        return min((chunk.published for chunk in self._waiting.values() if chunk.end), default=math.inf)

    def take(self, number: int, chunk: Chunk) -> list[Chunk]:
        """Take a chunk; return those whose turn it is."""
        given: list[Chunk] = []
        if self._begun and number < self.next:
            if chunk.end:  # its sender does not number it
                number = max(self._waiting, default=self.next - 1) + 1
                self._put(number, chunk)
                return self.release()
            if number or not self._begins_anew(chunk):
                self._counts["repeated"] += 1
                return given
            self._counts["restarted"] += 1
            given = self.release()
            self.base += self.next
            self.next = self._first = 0
            self._beginning = []
        if number in self._waiting:
            self._counts["repeated"] += 1
            return given
        if any(number < other for other in self._waiting):
            self._counts["out_of_order"] += 1
        self._put(number, chunk)
        return given + self._ready()

    def release(self) -> list[Chunk]:
        """Give up what is missing; return all that waited."""
        return self._ready(overdue=True)

    def _put(self, number: int, chunk: Chunk) -> None:
        chunk.number = self.base + number
        self._waiting[number] = chunk

    def _ready(self, *, overdue: bool = False) -> list[Chunk]:
        given: list[Chunk] = []
        while self._waiting:
            chunk = self._waiting.pop(self.next, None)
            if chunk is None:
                if not (overdue or self._overdue()):
                    break
                first = min(self._waiting)
                if self._begun:
                    self._waiting[first].missing += first - self.next
                    self._counts["missing"] += first - self.next
                else:
                    self._first = first
                self.next = first
                self._begun = True
                continue
            self._begun = True
            if len(self._beginning) == self.next < REMEMBERED and not self._first:
                self._beginning.append(zlib.crc32(chunk.pcm))
            self.next += 1
            given.append(chunk)
        return given

    def _overdue(self) -> bool:
        # One that overtook its neighbour is not enough, however long it is.
        waiting = self._waiting.values()
        if len(waiting) >= MOST_WAITING:
            return True
        return len(waiting) > 1 and sum(chunk.ms for chunk in waiting) >= self._reorder_ms

    def _begins_anew(self, chunk: Chunk) -> bool:
        """Whether number 0, used before, is the first of a sender that counts anew."""
        if self._beginning:
            return zlib.crc32(chunk.pcm) != self._beginning[0]
        return self._first > REMEMBERED


class Sequencer:
    """Finds the numbering of each speaker."""

    def __init__(self, reorder_ms: float) -> None:
        self.counts: Counter[str] = Counter()
        self._reorder_ms = reorder_ms
        self._numberings: list[Numbering] = []
        self._of: dict[str, Numbering] = {}
        self._last: dict[str, int] = {}

    def take(self, number: int, chunk: Chunk) -> list[Chunk]:
        """Take a chunk or an end; return those whose turn it is.

        An end of a speaker with a numbering of their own ends that numbering; any other one ends the session.
        """
        numbering = self._numbering(number, chunk)
        self._last[chunk.speaker] = max(number, self._last.get(chunk.speaker, 0))
        return self._noted(numbering.take(number, chunk))

    def due(self, wait: float, end_wait: float) -> float:
        """Return the time at which `give_up` has something to do; infinite without."""
        return min(
            (min(n.waits_since + wait, n.ends_after + end_wait) for n in self._numberings), default=math.inf
        )

    def give_up(self, now: float, wait: float, end_wait: float) -> list[Chunk]:
        """Return what waited for too long for chunks before it."""
        given: list[Chunk] = []
        for numbering in self._numberings:
            if now >= min(numbering.waits_since + wait, numbering.ends_after + end_wait):
                given += self._noted(numbering.release())
        return given

    def release(self) -> list[Chunk]:
        """Return all that waits."""
        return [chunk for numbering in self._numberings for chunk in self._noted(numbering.release())]

    def ends_all(self, chunk: Chunk) -> bool:
        """Whether an end whose turn came ends the session."""
        own = self._of.get(chunk.speaker)
        if own is None or not chunk.speaker:
            return True
        return all(numbering.ended for numbering in self._numberings)

    def together_with(self, speaker: str) -> list[str]:
        """Return the speakers of the same numbering."""
        own = self._of.get(speaker)
        return [other for other, numbering in self._of.items() if numbering is own]

    def _noted(self, chunks: list[Chunk]) -> list[Chunk]:
        for chunk in chunks:
            if chunk.end:
                self._of.get(chunk.speaker, self._numberings[0]).ended = True
        return chunks

    def _numbering(self, number: int, chunk: Chunk) -> Numbering:
        speaker = chunk.speaker
        own = self._of.get(speaker)
        if own is not None:
            if not chunk.end and self._counts_alone(speaker, number, own):
                own = self._of[speaker] = self._new(begin=number, base=own.base)
            return own
        if not self._numberings:
            own = self._new()
        elif chunk.end:
            return self._numberings[0]
        elif number == 0 or self._numberings[0].has(number):
            own = self._new()
        else:
            own = self._numberings[0]
        if not chunk.end:
            self._of[speaker] = own
        return own

    def _counts_alone(self, speaker: str, number: int, own: Numbering) -> bool:
        """Whether a speaker who was thought to share a numbering goes on with a number that another one used.

        That comes to light when the beginning of a session is not known any more.
        """
        if len(self.together_with(speaker)) < 2:
            return False
        return own.has(number) and number == self._last[speaker] + 1

    def _new(self, *, begin: int | None = None, base: int = 0) -> Numbering:
        numbering = Numbering(self._reorder_ms, self.counts, begin=begin, base=base)
        self._numberings.append(numbering)
        return numbering
