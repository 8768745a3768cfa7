"""What is heard, as it is heard: on a terminal a partial text is drawn over by the next one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from handlers_cli.terminal import printable
from handlers_cli.text import end_of

if TYPE_CHECKING:
    from handler_messages import STTTranscription
    from handlers_cli.terminal import Terminal


class Captions:
    """Shows the transcriptions of one session; those that come again are shown once.

    Args:
        terminal: Where to.
        label: What stands before each text.

    Attributes:
        finals: Those with a final text, in the order of their utterances.
    """

    def __init__(self, terminal: Terminal, label: str = "") -> None:
        self._terminal = terminal
        self._label = label
        self._partial = False
        self._newest = -1
        self._known: dict[tuple[str, int], STTTranscription] = {}

    @property
    def finals(self) -> list[STTTranscription]:
        """Return the final transcriptions that have a text."""
        return [each for each in self._known.values() if each.text.strip()]

    def take(self, said: STTTranscription, *, quiet: bool = False) -> bool:
        """Show a transcription; return whether it is a final text that was not seen before.

        Args:
            said: What came.
            quiet: Keep it only.
        """
        key = (said.speaker_id, said.utterance)
        if key in self._known or not (said.is_final or said.text):
            return False
        if said.is_final:
            self._known[key] = said
            self.clear()
            if said.HasField("error"):
                self._terminal.warning(printable(said.error.message))
            elif said.text.strip() and not quiet:
                self._terminal.line(f"{self._label}{printable(said.text.strip())}")
        elif said.sequence > self._newest and not quiet:
            self._draw(printable(said.text.strip()))
        self._newest = max(self._newest, said.sequence)
        return said.is_final and bool(said.text.strip())

    def clear(self) -> None:
        """Take the partial text away."""
        if self._partial:
            self._terminal.write("\r\x1b[K")
            self._partial = False

    def _draw(self, text: str) -> None:
        if not self._terminal.live:
            return
        room = shutil.get_terminal_size().columns - len(self._label) - 1
        # The newest words are what people look at.
        shown = end_of(" ".join(text.split()), room)
        self._terminal.write(f"\r\x1b[K{self._label}{self._terminal.dim(shown)}")
        self._partial = True
