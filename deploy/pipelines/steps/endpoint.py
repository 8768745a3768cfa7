"""HTTP for the steps of pipelines: patient with what passes, plain about what does not.

Nothing but the standard library: a step runs in any image that has Python, and nothing is installed when it starts.
"""

import http.client
import json
import random
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be others a moment later."""

LONGEST_PAUSE = 30.0
"""Seconds between two tries at most."""

UNNAMED = "default"
"""Asked for as the model where an endpoint names none."""

CHUNK = 1 << 20


class Failed(Exception):
    """What a step could not do, in words for a person."""


class Refused(Failed):
    """An answer that another try does not change.

    Args:
        message: What was asked, and what was said.
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Endpoint:
    """One address that is called again and again.

    Args:
        url: Its base, with or without the `/v1` of its paths.
        key: Bearer token; none is sent when empty.
        timeout: Seconds without a byte until a call is given up.
        patience: Seconds that a call is tried anew for, after what may pass.

    Raises:
        Failed: If the base is no http(s) address.
    """

    def __init__(self, url: str, key: str = "", *, timeout: float = 120.0, patience: float = 60.0) -> None:
        self.url = web_address(url).rstrip("/").removesuffix("/v1")
        self._key = key
        self._timeout = timeout
        self._patience = patience
        self._model = ""

    def model(self, wanted: str = "") -> str:
        """Return the model to ask for: the wanted one, or the first that the endpoint lists.

        Raises:
            Failed: If the endpoint cannot be asked.
        """
        if wanted:
            return wanted
        if not self._model:
            try:
                listed = read_json(self.send("GET", "/v1/models"), self.url)
            except Refused as error:
                if error.status not in {404, 405, 501}:
                    raise
                listed = {}
            names = [one.get("id") for one in listed.get("data") or [] if isinstance(one, dict)]
            self._model = next((str(name) for name in names if name), UNNAMED)
        return self._model

    def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send JSON and return the object that comes back.

        Raises:
            Failed: If there is none.
        """
        return read_json(
            self.send("POST", path, json.dumps(body).encode(), "application/json"), self.url + path
        )

    def send(self, method: str, path: str, content: bytes | None = None, kind: str = "") -> bytes:
        """Send a request and return the body of its answer.

        Raises:
            Failed: If it cannot be had within the patience; `Refused` if another try would not help.
        """
        headers = {"Content-Type": kind} if kind else {}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        return call(request, timeout=self._timeout, patience=self._patience)

    def complete(self, messages: list[dict[str, Any]], model: str = "", **options: Any) -> dict[str, Any]:
        """Let a chat model answer: `answer`, `model`, `finish_reason`.

        Raises:
            Failed: If it does not.
        """
        body = {"model": self.model(model), "messages": messages, **options}
        found = self.ask("/v1/chat/completions", body)
        try:
            choice = found["choices"][0]
            answer = choice["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise Failed(f"{self.url} answered without a choice: {json.dumps(found)[:300]}") from None
        return {
            "answer": answer or "",
            "model": found.get("model") or body["model"],
            "finish_reason": choice.get("finish_reason") or "stop",
        }


def step(name: str, work: Callable[[], str]) -> int:
    """Do the work of a step and say what came of it; returns the exit code."""
    try:
        said = work()
    except Failed as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    print(said)
    return 0


def keep(file: Path, content: str | bytes) -> None:
    """Write what comes out of a step; the folder of the file need not be there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def read_json(content: bytes, address: str) -> dict[str, Any]:
    """Return the object in an answer.

    Raises:
        Failed: If there is none.
    """
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed(f"{address} answered something else than a JSON object: {content[:200]!r}")
    if isinstance(found.get("error"), dict):  # some proxies send it with status 200
        raise Failed(f"{address} answered: {str(found['error'].get('message'))[:300]}")
    return found


def download(address: str, file: Path, limit: int, *, timeout: float = 60.0, patience: float = 60.0) -> None:
    """Fetch a file.

    Args:
        address: Where it is: http or https.
        file: Where it goes.
        limit: Largest size in bytes.
        timeout: Seconds without a byte until a try is given up.
        patience: Seconds that it is tried anew for.

    Raises:
        Failed: If it cannot be had, or is larger.
    """
    request = urllib.request.Request(web_address(address))
    with file.open("wb") as target:
        call(request, timeout=timeout, patience=patience, limit=limit, target=target)


def upload(address: str, file: Path, kind: str, *, timeout: float = 60.0, patience: float = 60.0) -> None:
    """PUT a file.

    Raises:
        Failed: If it is not taken.
    """
    headers = {"Content-Type": kind, "Content-Length": str(file.stat().st_size)}
    with file.open("rb") as source:
        request = urllib.request.Request(web_address(address), source, headers, method="PUT")
        call(request, timeout=timeout, patience=patience)


def web_address(address: str) -> str:
    """Return an address that may be called: `file:` and what else urllib knows are none.

    Raises:
        Failed: If it is another.
    """
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Failed(f"{address[:200]!r} is no http(s) address")
    return address


def call(
    request: urllib.request.Request,
    *,
    timeout: float,
    patience: float,
    limit: int = 1 << 28,
    target: BinaryIO | None = None,
) -> bytes:
    """Send a request until it is answered, and return the body, or write it to a file.

    Pauses grow and vary; a `Retry-After` is waited for if it is within the patience.

    Args:
        request: The request. A file as its body is sent from its start each time.
        timeout: Seconds without a byte until a try is given up.
        patience: Seconds after which nothing is tried anew.
        limit: Largest body in bytes.
        target: The file; emptied before each try.

    Raises:
        Failed: If there is no answer within the patience; `Refused` if another try would not help.
    """
    deadline = time.monotonic() + patience
    pause = 0.25
    while True:
        asked = 0.0
        try:
            rewind(request.data, target)
            with _opener.open(request, timeout=timeout) as answer:
                return take(answer, limit, target, shown(request))
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(500).decode(errors="replace").split())[:300]
            if error.code not in PASSING:
                raise Refused(f"{shown(request)} answered {error.code}: {said}", error.code) from None
            asked = retry_after(error.headers.get("Retry-After", ""))
            problem = f"answered {error.code}: {said}"
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            problem = f"could not be asked: {reason or type(error).__name__}"
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise Failed(f"{shown(request)} {problem}") from None
        wait = max(asked, random.uniform(pause / 2, pause))
        if time.monotonic() + wait > deadline:
            raise Failed(f"{shown(request)} {problem}")
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web only, and never with a token."""

    def redirect_request(  # noqa: PLR0917 - as urllib has it
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is not None:
            web_address(found.full_url)
            if urlsplit(found.full_url).netloc != urlsplit(req.full_url).netloc:
                found.remove_header("Authorization")
        return found


_opener = urllib.request.build_opener(_Redirects)


def shown(request: urllib.request.Request) -> str:
    """Return an address for messages, without what may be secret in it: user, password, signature."""
    parts = urlsplit(request.full_url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def rewind(source: Any, target: BinaryIO | None) -> None:
    """Make ready for a try: the file that is sent from its start, the one that is written empty."""
    if hasattr(source, "seek"):
        source.seek(0)
    if target is not None:
        target.seek(0)
        target.truncate()


def take(answer: Any, limit: int, target: BinaryIO | None, address: str) -> bytes:
    """Return the body of an answer, or write it to a file.

    Raises:
        Failed: If it is larger than the limit.
    """
    pieces: list[bytes] = []
    size = 0
    while piece := answer.read(CHUNK):
        size += len(piece)
        if size > limit:
            raise Failed(f"{address} is larger than {limit} bytes")
        if target is None:
            pieces.append(piece)
        else:
            target.write(piece)
    if answer.length:  # read() says nothing of a body that ends early
        raise http.client.IncompleteRead(b"", answer.length)
    return b"".join(pieces)


def retry_after(value: str) -> float:
    """Return the seconds that a `Retry-After` asks for: a number, or a date."""
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
