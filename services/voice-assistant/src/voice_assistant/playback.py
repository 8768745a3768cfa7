"""What the other side has heard by now, told from what was sent to it and when: it plays without a pause.

A player that has nothing left waits for more; one that is behind plays what it has, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LETTERS_PER_SECOND = 15.0
"""How fast speech is, while none of it is known."""


@dataclass(slots=True)
class _Spoken:
    """One piece: its text, and when the parts of its sound begin and how long they are."""

    source: str
    parts: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    complete: bool = False

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.parts)

    def played(self, now: float) -> float:
        return sum(min(seconds, max(0.0, now - begin)) for begin, seconds in self.parts)


class Playback:
    """The playing of one answer. Times are in the loop's time.

    Attributes:
        end: When all that was sent has been played.
    """

    def __init__(self) -> None:
        self.end = 0.0
        self._pieces: list[_Spoken] = []

    def sent(self, number: int, source: str, seconds: float, now: float) -> None:
        """Note that sound was sent.

        Args:
            number: Which piece of the answer it belongs to, from 0.
            source: The text of that piece.
            seconds: How long the sound is.
            now: When it was sent.
        """
        begin = max(self.end, now)
        if number == len(self._pieces):
            self._pieces.append(_Spoken(source))
        self._pieces[-1].parts.append((begin, seconds))
        self.end = begin + seconds

    def whole(self) -> None:
        """Note that all the sound of the newest piece was sent."""
        if self._pieces:
            self._pieces[-1].complete = True

    def ahead(self, now: float) -> float:
        """Return the seconds of sound that are sent and not played yet."""
        return max(0.0, self.end - now)

    def heard(self, now: float) -> str:
        """Return the text that has been heard, cut after a whole word."""
        text: list[str] = []
        for piece in self._pieces:
            played, whole = piece.played(now), piece.seconds
            if not piece.complete:  # more of it is to come: its text tells about how much
                whole = max(whole, len(piece.source) / self._letters_per_second())
            text.append(_words(piece.source, played / whole if whole else float(piece.complete)))
            if played < whole:
                break
        return "".join(text).strip()

    def _letters_per_second(self) -> float:
        whole = [piece for piece in self._pieces if piece.complete]
        seconds = sum(piece.seconds for piece in whole)
        return sum(len(piece.source) for piece in whole) / seconds if seconds else LETTERS_PER_SECOND


def _words(text: str, share: float) -> str:
    """Return the first words of a text, as many as go into its share."""
    length = int(len(text) * share)
    if length >= len(text):
        return text
    if not any(character.isspace() for character in text.strip()):
        return text[:length]  # a script without spaces
    return text[: length + 1].rpartition(" ")[0]
