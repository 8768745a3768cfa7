"""Writes down what is said in a recording: OpenAI's `/v1/audio/transcriptions`."""

import sys
import tempfile
import uuid
from argparse import ArgumentParser, Namespace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from endpoint import Endpoint, Failed, download, keep, read_json, step

KINDS = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".webm": "audio/webm",
}
"""What the endpoint takes, by the ending of the recording's address; without one of these it is taken for WAV."""

MAX_AUDIO_BYTES = 25 << 20
"""What OpenAI's API takes at most."""


def main() -> int:
    """Do it; returns the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--audio-url", required=True, help="http(s) address of the recording")
    parser.add_argument("--language", required=True, help="spoken language; empty to find out")
    parser.add_argument("--url", required=True, help="base address of speech to text")
    parser.add_argument("--text", required=True, type=Path, help="file for the words")
    options = parser.parse_args()

    def work() -> str:
        text = transcribe(options)
        keep(options.text, text)
        return f"{len(text.split())} words"

    return step("transcribe", work)


def transcribe(options: Namespace) -> str:
    """Return what is said.

    Raises:
        Failed: If the recording cannot be had or heard, or nothing is said in it.
    """
    ending = PurePosixPath(urlsplit(options.audio_url).path).suffix.lower()
    ending = ending if ending in KINDS else ".wav"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"audio{ending}"
        download(options.audio_url, file, MAX_AUDIO_BYTES)
        audio = file.read_bytes()
    language = options.language.partition("-")[0].lower()
    fields = {"model": "whisper-1", "response_format": "json", **({"language": language} if language else {})}
    content, kind = form(fields, f"audio{ending}", KINDS[ending], audio)
    path = "/v1/audio/transcriptions"
    found = read_json(Endpoint(options.url).send("POST", path, content, kind), options.url + path)
    text = " ".join(str(found.get("text") or "").split())
    if not text:
        raise Failed("nothing is said in the recording")
    return text


def form(fields: dict[str, str], name: str, kind: str, content: bytes) -> tuple[bytes, str]:
    """Return a form with one file, and its content type (RFC 7578)."""
    boundary = uuid.uuid4().hex
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    )
    head += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    return (
        head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


if __name__ == "__main__":
    sys.exit(main())
