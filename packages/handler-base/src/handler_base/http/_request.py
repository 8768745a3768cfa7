"""The bytes of a request. What does not change between requests to one endpoint is put together once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handler_base.http._origin import Address

USER_AGENT = "handler-base/1"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SAFE_PATH = re.compile(r"/[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CACHED_PATHS = 64


class RequestWriter:
    """Writes the requests of one endpoint.

    Args:
        address: Where it is.
        headers: Headers of every request, by any case.

    Raises:
        ValueError: If a header has a name or a value that HTTP cannot carry.
    """

    def __init__(self, address: Address, headers: Mapping[str, str]) -> None:
        origin = address.origin
        default_port = 443 if origin.tls else 80
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        host = host if origin.port == default_port else f"{host}:{origin.port}"
        self._prefix = address.path
        fixed = {"Host": host, "User-Agent": USER_AGENT}
        if address.authorization:
            fixed["Authorization"] = address.authorization
        if origin.proxy is not None and not origin.tls:
            self._prefix = f"http://{host}{address.path}"
            if origin.proxy.authorization:
                fixed["Proxy-Authorization"] = origin.proxy.authorization
        given = {name.lower() for name in headers}
        fixed = {name: value for name, value in fixed.items() if name.lower() not in given}
        self._fixed = header_lines({**fixed, **headers})
        self._cache: dict[tuple[str, str], bytes] = {}

    def write(
        self,
        method: str,
        path: str,
        content: bytes,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return a whole request.

        Args:
            method: For instance `POST`.
            path: Below the endpoint's base URL, starting with a slash; a query in it is sent as it is.
            content: The body.
            headers: Headers of this request alone.
            params: Query parameters.

        Raises:
            ValueError: If the method, the path or a header cannot be sent.
        """
        head = self._cache.get((method, path))
        if head is None:
            head = self._start(method, path)
            if len(self._cache) < _CACHED_PATHS:
                self._cache[method, path] = head
        if params:
            from urllib.parse import urlencode

            line, _, rest = head.partition(b" HTTP/1.1\r\n")
            head = b"%b%b%b HTTP/1.1\r\n%b" % (
                line,
                b"&" if "?" in path else b"?",
                urlencode(params).encode(),
                rest,
            )
        extra = header_lines(headers) if headers else b""
        if content or method not in {"GET", "HEAD"}:
            return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, extra, len(content), content)
        return b"%b%b\r\n" % (head, extra)

    def _start(self, method: str, path: str) -> bytes:
        if not _TOKEN.fullmatch(method):
            raise ValueError(f"{method!r} is not an HTTP method")
        if not path.startswith("/"):
            raise ValueError(f"the path {path!r} does not start with a slash")
        if not _SAFE_PATH.fullmatch(path):
            from urllib.parse import quote

            path = quote(path, safe="/:@!$&'()*+,;=~%?")
        return f"{method} {self._prefix}{path} HTTP/1.1\r\n".encode() + self._fixed


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Return headers as lines.

    Raises:
        ValueError: If a name is not a token or a value has control characters.
    """
    lines: list[str] = []
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if _CONTROL.search(value):
            raise ValueError(f"the header {name} has a line break or another control character")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()
