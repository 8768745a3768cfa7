"""`POST /v1/audio/transcriptions`: a form with a file in, what is said in it out.

Source: https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.responses import Response

from local_inference.listener import Job
from local_inference.wire import WHISPER_MODEL, ApiError, check_language, check_model, json_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.datastructures import FormData, Headers
    from starlette.requests import Request

    from local_inference.ears import Ears
    from local_inference.listener import Heard

FORMATS = ("json", "text", "verbose_json")

_MAX_CHANNELS = 64
_MAX_FIELDS = 100


async def transcribe(request: Request, body: bytes, ears: Ears, *, max_seconds: float) -> Response:
    """Answer a request for a transcript.

    Args:
        request: For its headers.
        body: The form.
        ears: Who listens.
        max_seconds: Longest file.

    Raises:
        ApiError: If the request cannot be served.
    """
    form = await _form(request.headers, body)
    try:
        return await _transcribed(form, ears, max_seconds)
    finally:
        await form.close()


async def _transcribed(form: FormData, ears: Ears, max_seconds: float) -> Response:
    check_model(_text(form, "model"), WHISPER_MODEL, "whisper-1")
    check_language(_text(form, "language"), "language")
    shape = _text(form, "response_format") or "json"
    if shape not in FORMATS:
        raise ApiError(400, f"response_format must be one of {', '.join(FORMATS)}", param="response_format")
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ApiError(400, "the form must have a part named file, with a filename", param="file")
    job = Job(
        label=f"{file.content_type or ''} {file.filename or ''}",
        rate=_number(form, "sample_rate", 0, 768_000),
        channels=_number(form, "channels", 1, _MAX_CHANNELS) or 1,
        max_seconds=max_seconds,
    )
    return _answer(await ears.hear(await file.read(), job), shape)


async def _form(headers: Headers, body: bytes) -> FormData:
    from starlette.formparsers import MultiPartException, MultiPartParser

    class InMemory(MultiPartParser):
        spool_max_size = sys.maxsize  # what came in is in memory already, and an image has no folder to write

    if not headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "the request must be multipart/form-data with a part named file")

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    try:
        return await InMemory(headers, pieces(), max_files=1, max_fields=_MAX_FIELDS).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError, ValueError) as error:
        raise ApiError(400, f"the form cannot be read: {error}") from error


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value.strip() if isinstance(value, str) else ""


def _number(form: FormData, name: str, default: int, most: int) -> int:
    text = _text(form, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= most):
        raise ApiError(400, f"{name} must be a whole number from 1 to {most}", param=name)
    return int(text)


def _answer(heard: Heard, shape: str) -> Response:
    text = " ".join(segment.text for segment in heard.segments)
    if shape == "text":
        return Response(f"{text}\n", media_type="text/plain")
    if shape == "json":
        return json_response({"text": text})
    segments = [
        {
            "id": number,
            "seek": 0,
            "start": round(segment.start, 3),
            "end": round(segment.end, 3),
            "text": segment.text,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": 0.0,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.0,
        }
        for number, segment in enumerate(heard.segments)
    ]
    return json_response(
        {
            "task": "transcribe",
            "language": "english",
            "duration": round(heard.duration, 3),
            "text": text,
            "segments": segments,
        }
    )
