"""What is heard in a session: its messages in, utterances and interrupts out. No I/O, no clock.

Time is what the stream says of its messages. Whoever reads them again hears the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from handler_messages.subjects import MAX_TOKEN_BYTES
from stt_module.events import Checkpoint, Event, Interrupted, Spoken
from stt_module.sequence import Chunk, Sequencer
from stt_module.utterances import Segmenter

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from handler_messages import STTStreamMessage
    from stt_module.config import HearingSettings

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
"""Sample rates that are taken."""

MAX_SEQUENCE = 1 << 53
"""No sender counts that far."""


class Resume(NamedTuple):
    """Where somebody who spoke before goes on.

    Attributes:
        number: Of their next utterance.
        checkpoint: Where its audio begins.
        published: Unix time of the transcription that says so.
    """

    number: int
    checkpoint: Checkpoint
    published: float


class Speaker(msgspec.Struct):
    """One who speaks in a session."""

    rate: int
    resume: Resume | None
    language: str
    segmenter: Segmenter | None = None
    heard: float = -math.inf
    chunk_seconds: float = 0.0

    def stalls_at(self, stall: float) -> float:
        """Return when silence is what it means that nothing comes; infinite while nothing is said."""
        if self.segmenter is None or not self.segmenter.speaking:
            return math.inf
        return self.heard + self.chunk_seconds + stall


class Hearing:
    """All that is heard in one session.

    Args:
        settings: What counts as speech.
        session_id: The session.
        began: Unix time at which the session began.
        language: What is spoken, as far as its speakers do not say otherwise.
        rate: Sample rate of chunks that do not say it.
        known: Where the speakers go on whose utterances are published already.
        first_number: Number of the first utterance of those who are not known.

    Attributes:
        ended: Why the session has ended; "" while it has not.
        responding: Whether the assistant speaks.
        problem: What was wrong with the last chunk that could not be used, or "".
        audio: Whether any audio could be used.
    """

    def __init__(
        self,
        settings: HearingSettings,
        session_id: str,
        *,
        began: float = 0.0,
        language: str = "",
        rate: int = 0,
        known: Mapping[str, Resume] | None = None,
        first_number: int = 0,
    ) -> None:
        self._settings = settings
        self._session_id = session_id
        self._language = language
        self._rate = rate
        self._known = dict(known or {})
        self._first_number = first_number
        self._sequencer = Sequencer(settings.reorder_ms)
        self._speakers: dict[str, Speaker] = {}
        self._stall = settings.stall_ms / 1000
        self._end_wait = settings.end_wait_ms / 1000
        self._last = began
        self._live = False
        self.ended: Literal["", "end", "idle"] = ""
        self.responding = False
        self.problem = ""
        self.audio = bool(known)

    @property
    def counts(self) -> Counter[str]:
        """What went wrong, and how often."""
        return self._sequencer.counts

    @property
    def due(self) -> float:
        """When `advance` has something to do, in the time of the stream."""
        return min(
            self._last + self._settings.idle_seconds,
            self._sequencer.due(self._stall, self._end_wait),
            *(speaker.stalls_at(self._stall) for speaker in self._speakers.values()),
        )

    def hear(self, message: STTStreamMessage, published: float, *, live: bool = True) -> list[Event]:
        """Take a message.

        Args:
            message: As the stream has it.
            published: Unix time in seconds when the stream took it.
            live: Whether it is heard as it comes, not read later.
        """
        events = self._until(published)
        self._last = max(self._last, published)
        self._live = live
        if self.ended:
            return events
        if message.session_id not in {"", self._session_id}:
            self.counts["foreign"] += 1
        elif message.type == "chunk":
            events += self._chunk(message, published)
        elif message.type == "end":
            end = Chunk(message.speaker_id, b"", 0, published, end=True)
            events += self._play(self._sequencer.take(max(0, message.sequence), end))
        elif message.type == "state" and message.state in {"listening", "responding"}:
            self.responding = message.state == "responding"
        elif message.type != "start":
            self.counts["unknown"] += 1
        return events

    def advance(self, now: float) -> list[Event]:
        """Let time pass without a message, which may end utterances and the session."""
        events = self._until(now)
        if not self.ended and now >= self._last + self._settings.idle_seconds:
            events += self._end("idle")
        return events

    def alive(self, now: float) -> None:
        """Note that the session is not idle, though no message came."""
        self._last = max(self._last, now)

    # -- messages ----------------------------------------------------------------------------------------------

    def _until(self, now: float) -> list[Event]:
        events = self._play(self._sequencer.give_up(now, self._stall, self._end_wait))
        for speaker in self._speakers.values():
            if now >= speaker.stalls_at(self._stall):
                assert speaker.segmenter is not None
                events += speaker.segmenter.finish()
        return events

    def _chunk(self, message: STTStreamMessage, published: float) -> list[Event]:
        name = message.speaker_id
        if not 0 <= message.sequence < MAX_SEQUENCE:
            return self._skip("sequence", f"a chunk has the sequence number {message.sequence}")
        speaker = self._speakers.get(name)
        if speaker is None:
            if len(name.encode("utf-8", "surrogatepass")) > MAX_TOKEN_BYTES:
                return self._skip("speaker", f"a speaker_id is longer than {MAX_TOKEN_BYTES} bytes")
            if len(self._speakers) >= self._settings.max_speakers:
                return self._skip("speakers", f"more than {self._settings.max_speakers} speakers")
            speaker = Speaker(self._rate, self._known.get(name), self._language)
            self._speakers[name] = speaker
        speaker.language = message.language or speaker.language
        rate, pcm = message.sample_rate or speaker.rate, message.audio
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            self._skip(
                "sample_rate", f"sample_rate is {rate}; {LOWEST_RATE} to {HIGHEST_RATE} Hz are understood"
            )
            rate, pcm = speaker.rate or 16_000, b""
        if len(pcm) % 2:
            self._skip("odd", "a chunk has an odd number of bytes; audio is 16 bit PCM")
            pcm = pcm[:-1]
        if len(pcm) / 2 > rate * self._settings.max_chunk_ms / 1000:
            self._skip("too_long", f"a chunk is longer than {self._settings.max_chunk_ms} ms")
            pcm = b""
        # Its number counts even where its audio does not.
        return self._play(self._sequencer.take(message.sequence, Chunk(name, pcm, rate, published)))

    def _skip(self, what: str, problem: str) -> list[Event]:
        self.counts[what] += 1
        self.problem = problem
        return []

    def _play(self, chunks: list[Chunk]) -> list[Event]:
        events: list[Event] = []
        for chunk in chunks:
            if self.ended:
                break
            if not chunk.end:
                events += self._heard(chunk)
            elif self._sequencer.ends_all(chunk):
                events += self._end("end")
            else:
                for name in self._sequencer.together_with(chunk.speaker):
                    events += self._finished(name)
        return events

    def _end(self, why: Literal["end", "idle"]) -> list[Event]:
        events: list[Event] = []
        for chunk in self._sequencer.release():
            if not chunk.end:
                events += self._heard(chunk)
        for name in self._speakers:
            events += self._finished(name)
        self.ended = why
        return events

    def _finished(self, name: str) -> list[Event]:
        segmenter = self._speakers[name].segmenter
        return segmenter.finish() if segmenter is not None else []

    # -- audio -------------------------------------------------------------------------------------------------

    def _heard(self, chunk: Chunk) -> list[Event]:
        speaker = self._speakers[chunk.speaker]
        samples = len(chunk.pcm) // 2
        if speaker.segmenter is None and not samples:
            return []
        missing, sample, resume = chunk.missing, 0, speaker.resume
        if resume is not None:
            checkpoint = resume.checkpoint
            # What came after a transcription was published is no part of it, whatever its number.
            if chunk.number < checkpoint.sequence and chunk.published <= resume.published:
                return []
            missing = min(missing, max(0, chunk.number - checkpoint.sequence))
            sample = min(checkpoint.sample, samples) if chunk.number == checkpoint.sequence else 0
        events: list[Event] = []
        segmenter = speaker.segmenter
        if segmenter is None or (segmenter.rate != chunk.rate and samples):
            if segmenter is not None:
                self._skip("rate_changed", "the sample rate changes")
                events += segmenter.finish()
            segmenter = self._segmenter(speaker, chunk)
        segmenter.language = speaker.language
        if samples:
            self.audio = True
            speaker.heard = chunk.published
            speaker.chunk_seconds = samples / chunk.rate
        heard = segmenter.feed(
            chunk.pcm[2 * sample :],
            number=chunk.number,
            sample=sample,
            published=chunk.published,
            missing=missing * samples,
            interruptible=self.responding and self._live,
        )
        return events + [event for event in heard if self._matters(event)]

    def _matters(self, event: Event) -> bool:
        if isinstance(event, Interrupted):
            # The assistant stops: whatever else is said interrupts nothing.
            responding, self.responding = self.responding, False
            return responding
        return self._live or not isinstance(event, Spoken)

    def _segmenter(self, speaker: Speaker, chunk: Chunk) -> Segmenter:
        """Return what finds the utterances of a speaker from `chunk` on."""
        before, resume = speaker.segmenter, speaker.resume
        if before is not None:
            number, position = before.number, before.end * chunk.rate // before.rate
        elif resume is not None:
            number = resume.number
            position = resume.checkpoint.position * chunk.rate // resume.checkpoint.rate
        else:
            number, position = self._first_number, self._now_in_samples(chunk.rate)
        speaker.resume = None
        speaker.rate = chunk.rate
        speaker.segmenter = Segmenter(
            self._settings, chunk.speaker, chunk.rate, position=position, number=number
        )
        return speaker.segmenter

    def _now_in_samples(self, rate: int) -> int:
        """Return how much audio the session has: somebody who joins later begins there."""
        ends = [s.segmenter.end * rate // s.segmenter.rate for s in self._speakers.values() if s.segmenter]
        return max(ends, default=0)
