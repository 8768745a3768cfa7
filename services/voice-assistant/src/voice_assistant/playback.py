"""What the other side has heard by now, told from what was sent to it and when: it plays without a pause.

A player that has nothing left waits for more; one that is behind plays what it has, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

LETTERS_PER_SECOND = 15.0
"""How fast speech is, while none of it is known."""


@dataclass(slots=True)
class _Spoken:
    """One piece: its text, and when its sound begins and ends."""

    source: str
    begin: float
    end: float
    complete: bool = False


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
            self._pieces.append(_Spoken(source, begin, begin))
        self.end = self._pieces[-1].end = begin + seconds

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
            if now < piece.end or not piece.complete:
                text.append(_begun(piece, min(now, piece.end), self._letters_per_second()))
                break
            text.append(piece.source)
        return "".join(text).strip()

    def _letters_per_second(self) -> float:
        whole = [piece for piece in self._pieces if piece.complete and piece.end > piece.begin]
        seconds = sum(piece.end - piece.begin for piece in whole)
        return sum(len(piece.source) for piece in whole) / seconds if seconds else LETTERS_PER_SECOND


def _begun(piece: _Spoken, now: float, speed: float) -> str:
    """Return the words of a piece that is being played: as many as its sound is far."""
    if now <= piece.begin or piece.end <= piece.begin:
        return ""
    length = piece.end - piece.begin
    if not piece.complete:  # more of it is to come: its text tells about how much
        length = max(length, len(piece.source) / speed)
    share = min(1.0, (now - piece.begin) / length)
    length = int(len(piece.source) * share)
    if length >= len(piece.source):
        return piece.source
    cut = piece.source[: length + 1]
    if any(character.isspace() for character in piece.source.strip()):
        return cut.rpartition(" ")[0] if " " in cut else ""
    return cut[:length]  # a script without spaces
