"""One speaker's audio in, utterances out. No I/O, no clock.

After an utterance everything begins anew where its audio ends, so that whoever takes the session up there comes to
the same utterances: what was heard of the silence meanwhile is judged once more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from stt_module.events import Checkpoint, Event, Finished, Interrupted, Paused, Resumed, Spoken, Utterance
from stt_module.voice import Judged, Voice

if TYPE_CHECKING:
    from stt_module.config import HearingSettings

START_MS = 120
"""What is looked at to tell whether somebody begins to speak."""

START_SHARE = 2 / 3
"""How much of that is voice then."""

SMOOTH_MS = 60
"""Voice that breaks a silence: most of so much."""

PAUSE_MS = 100
"""A silence where speech may be cut."""

TAIL_MS = 200
"""Silence kept after speech, where the endpoint is not asked ahead."""

FILL_MS = 1000
"""Most silence that stands for missing chunks, beyond what ends an utterance."""


class Mark(NamedTuple):
    """Where audio comes from: its place in the session, in its chunk, and when the chunk was published."""

    position: int
    number: int
    sample: int
    published: float
    silence: bool


class Segmenter:
    """Finds the utterances of one speaker.

    Args:
        settings: What counts as speech.
        speaker: Who.
        rate: Samples per second.
        position: Samples of the session before the first.
        number: Of the next utterance.

    Attributes:
        rate: Samples per second.
        number: Of the next utterance, or of the one that is spoken.
        end: Samples of the session up to now.
        speaking: Whether an utterance is spoken.
        language: What the speaker's utterances are in, or "".
    """

    def __init__(
        self, settings: HearingSettings, speaker: str, rate: int, *, position: int = 0, number: int = 0
    ) -> None:
        self._settings = settings
        self._speaker = speaker
        self.rate = rate
        self.number = number
        self._audio = bytearray()
        self._origin = self._done = self.end = position
        self._marks: deque[Mark] = deque()
        self._voice = self._listener()
        per_frame = settings.frame_ms
        self._window: deque[Judged] = deque(maxlen=max(1, START_MS // per_frame))
        self._recent: deque[bool] = deque(maxlen=max(1, SMOOTH_MS // per_frame))
        self._said: deque[int] = deque()
        self._tail = self._samples(settings.speculate_after_ms or min(TAIL_MS, settings.end_silence_ms))
        self.speaking = False
        self.language = ""
        self._start = self._onset = self._voiced_until = 0
        self._voiced = self._tones = 0
        self._paused = False
        self._pause = (0, 0)
        self._next_partial = 0
        self._earliest = position

    def feed(
        self,
        pcm: bytes,
        *,
        number: int,
        sample: int,
        published: float,
        missing: int = 0,
        interruptible: bool = False,
    ) -> list[Event]:
        """Take the next audio.

        Args:
            pcm: 16 bit PCM.
            number: Of its chunk.
            sample: Samples of the chunk before it.
            published: When the chunk was published.
            missing: Samples that are missing before it.
            interruptible: Whether to tell of speech that interrupts.
        """
        events: list[Event] = []
        if missing:
            fill = min(missing, self._samples(self._settings.end_silence_ms + FILL_MS))
            self._append(bytes(2 * fill), Mark(self.end, number, 0, published, silence=True))
            self._judge(events)
            if missing > fill:
                events += self.finish()
                self._restart(self.end + missing - fill)
        self._append(pcm, Mark(self.end, number, sample, published, silence=False))
        self._judge(events, interruptible=interruptible)
        return events

    def finish(self) -> list[Event]:
        """End what is spoken: no audio comes, or none that belongs to it."""
        events: list[Event] = []
        if self.speaking:
            self._close(events, min(self._voiced_until + self._tail, self.end), self._voiced_until)
        return events

    # -- audio -------------------------------------------------------------------------------------------------

    def _samples(self, ms: float) -> int:
        return int(self.rate * ms / 1000)

    def _ms(self, position: int) -> int:
        return round(position * 1000 / self.rate)

    def _listener(self) -> Voice:
        return Voice(self.rate, self._settings.frame_ms, self._settings.aggressiveness)

    def _append(self, pcm: bytes, mark: Mark) -> None:
        if pcm:
            self._marks.append(mark)
            self._audio += pcm
            self.end += len(pcm) // 2

    def _cut(self, begin: int, end: int) -> bytes:
        return bytes(self._audio[2 * (begin - self._origin) : 2 * (end - self._origin)])

    def _forget(self, position: int) -> None:
        """Drop the audio before `position`, but for that of the chunk where it lies."""
        position = max(position, self._origin)
        del self._audio[: 2 * (position - self._origin)]
        self._origin = position
        while len(self._marks) > 1 and self._marks[1].position < position:
            self._marks.popleft()

    def _restart(self, position: int) -> None:
        """Go on at another place of the session."""
        self._audio.clear()
        self._marks.clear()
        self._origin = self._done = self.end = self._earliest = position
        self._window.clear()
        self._recent.clear()
        self._said.clear()

    def _mark(self, position: int) -> Mark:
        """Return where the sample before `position` comes from."""
        found = self._marks[0]
        for mark in self._marks:
            if mark.position >= position:
                break
            found = mark
        return found

    # -- judging -----------------------------------------------------------------------------------------------

    def _judge(self, events: list[Event], *, interruptible: bool = False) -> None:
        while self._done + self._voice.samples <= self.end:
            frame = self._cut(self._done, self._done + self._voice.samples)
            judged = self._voice.judge(frame)
            self._done += self._voice.samples
            # Before the utterance goes on: where that ends, the counting begins anew.
            self._interrupt(events, voiced=judged.tone, interruptible=interruptible)
            if self.speaking:
                self._go_on(events, judged)
            else:
                self._window.append(judged)
                self._listen()

    def _listen(self) -> None:
        window = self._window
        voiced = [judged.voiced for judged in window]
        assert window.maxlen is not None
        if sum(voiced) < START_SHARE * window.maxlen:
            self._forget(
                max(self._earliest, self._done - self._samples(START_MS + self._settings.pre_roll_ms))
            )
            return
        frame = self._voice.samples
        self._onset = self._done - frame * (len(window) - voiced.index(True))
        self._start = max(
            self._earliest, self._onset - self._samples(self._settings.pre_roll_ms), self._origin
        )
        self._voiced = sum(voiced)
        self._tones = sum(judged.tone for judged in window)
        self._voiced_until = self._done
        self._pause = (0, 0)
        self._paused = False
        self._next_partial = self._onset + int(self._settings.partial_interval * self.rate)
        self.speaking = True
        self._recent.clear()
        window.clear()

    def _go_on(self, events: list[Event], judged: Judged) -> None:
        settings = self._settings
        self._voiced += judged.voiced
        self._tones += judged.tone
        recent = self._recent
        recent.append(judged.voiced)
        assert recent.maxlen is not None
        if judged.voiced and 2 * sum(recent) > recent.maxlen:
            self._voiced_until = self._done
            if self._paused:
                self._paused = False
                events.append(Resumed(self._speaker))
        silence = self._done - self._voiced_until
        if silence >= self._samples(PAUSE_MS):
            self._pause = (self._voiced_until + silence // 2, self._voiced_until)
        if silence >= self._samples(settings.end_silence_ms):
            self._close(events, min(self._voiced_until + self._tail, self._done), self._voiced_until)
        elif self._done - self._start >= settings.max_utterance_seconds * self.rate:
            cut, until = self._pause if self._pause[0] > self._onset else (self._done, self._voiced_until)
            self._close(events, cut, until)
        elif settings.speculate_after_ms and silence >= self._tail and not self._paused:
            self._paused = True
            if self._is_speech():
                events.append(Paused(self._utterance(self._voiced_until + self._tail, self._voiced_until)))
        elif settings.partial_interval and self._done >= self._next_partial and not self._paused:
            self._next_partial = self._done + int(settings.partial_interval * self.rate)
            if self._is_speech():
                events.append(Spoken(self._utterance(self._done, self._voiced_until)))

    def _interrupt(self, events: list[Event], *, voiced: bool, interruptible: bool) -> None:
        """Count the voice of the last moments: a cough is short, a word is not."""
        said, wanted = self._said, self._samples(self._settings.interrupt_min_speech_ms)
        if voiced:
            said.append(self._done)
        while said and said[0] <= self._done - 2 * wanted:
            said.popleft()
        if interruptible and voiced and len(said) * self._voice.samples >= wanted:
            start = self._onset if self.speaking else said[0] - self._voice.samples
            events.append(Interrupted(self._speaker, self._ms(start)))
            said.clear()

    # -- utterances --------------------------------------------------------------------------------------------

    def _is_speech(self) -> bool:
        least = self._samples(self._settings.min_speech_ms)
        frame = self._voice.samples
        return self._voiced * frame >= least and 4 * self._tones * frame >= least

    def _utterance(self, end: int, spoken_until: int, checkpoint: Checkpoint | None = None) -> Utterance:
        return Utterance(
            speaker=self._speaker,
            number=self.number,
            pcm=self._cut(self._start, end),
            rate=self.rate,
            start_ms=self._ms(self._onset),
            end_ms=self._ms(spoken_until),
            heard=self._mark(spoken_until).published,
            checkpoint=checkpoint,
            language=self.language,
        )

    def _close(self, events: list[Event], end: int, spoken_until: int) -> None:
        """End the utterance at `end`; begin anew there."""
        self.speaking = False
        self._recent.clear()
        if not self._is_speech():
            events.append(Resumed(self._speaker))
            self._forget(max(self._earliest, self._done - self._samples(self._settings.pre_roll_ms)))
            return
        mark = self._mark(end)
        sample = 0 if mark.silence else mark.sample + end - mark.position
        checkpoint = Checkpoint(mark.number, sample, end, self.rate)
        events.append(Finished(self._utterance(end, spoken_until, checkpoint)))
        self.number += 1
        self._forget(end)
        self._done = self._earliest = end
        self._voice = self._listener()
        self._said.clear()
