"""Speaks an answer: OpenAI's `/v1/audio/speech`, as a WAV file."""

import json
import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from endpoint import Endpoint, Failed, keep, step

_CITATION = re.compile(r"\s*\[\d+\]")
_MARKUP = re.compile(r"[*`_#]+(?=\S)|(?<=\S)[*`]+")


def main() -> int:
    """Do it; returns the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--text", required=True, help="what is to be said")
    parser.add_argument("--url", required=True, help="base address of text to speech")
    parser.add_argument("--audio", required=True, type=Path, help="file for the speech")
    options = parser.parse_args()

    def work() -> str:
        audio = synthesize(options)
        keep(options.audio, audio)
        return f"{len(audio)} bytes of audio"

    return step("synthesize", work)


def synthesize(options: Namespace) -> bytes:
    """Return the speech.

    Raises:
        Failed: If there is none.
    """
    request = {"model": "tts-1", "voice": "alloy", "input": spoken(options.text), "response_format": "wav"}
    path = "/v1/audio/speech"
    audio = Endpoint(options.url).send("POST", path, json.dumps(request).encode(), "application/json")
    if not audio.startswith(b"RIFF"):
        raise Failed(f"{options.url} answered something else than a WAV file")
    return audio


def spoken(text: str) -> str:
    """Return text without what is only for the eye: numbers of passages, marks of Markdown."""
    return _MARKUP.sub("", _CITATION.sub("", text)).strip()


if __name__ == "__main__":
    sys.exit(main())
