"""Reads pages by HTTP, within limits of size, time and redirects."""

from __future__ import annotations

import asyncio
from email.message import Message
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

from document_ingestion.sources import is_url
from handler_base.errors import InvalidRequest, TooLarge
from handler_base.http import Redirect

if TYPE_CHECKING:
    from handler_base.http import HttpPool

_REDIRECTS = 5
_ACCEPT = {
    "Accept": "text/html, application/xhtml+xml, text/markdown, text/plain, application/pdf, */*;q=0.1"
}


class Page(NamedTuple):
    """What a URL held.

    Attributes:
        content: The body.
        content_type: Its media type without parameters, or "".
        charset: Its charset, or "".
    """

    content: bytes
    content_type: str
    charset: str


async def fetch(pool: HttpPool, url: str, *, max_bytes: int, timeout: float) -> Page:
    """Read a page and follow its redirects.

    Args:
        pool: Where the connections come from.
        url: An `http` or `https` URL.
        max_bytes: Largest body.
        timeout: Seconds for all of it.

    Raises:
        InvalidRequest: If it redirects for ever or to something that is no page, or comes compressed.
        TooLarge: If the body is larger than `max_bytes`.
        UpstreamError: If the server fails or refuses.
        TimeoutError: If it takes too long.
    """
    async with asyncio.timeout(timeout):
        for _ in range(_REDIRECTS + 1):
            try:
                return await _read(pool, url, max_bytes, timeout)
            except Redirect as redirect:
                url = urljoin(url, redirect.location)
                if not is_url(url):
                    raise InvalidRequest("redirects to something that is no page") from redirect
        raise InvalidRequest(f"redirects more than {_REDIRECTS} times")


async def _read(pool: HttpPool, url: str, max_bytes: int, timeout: float) -> Page:
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode() if not url.isascii() else parts.hostname
    origin = f"{parts.scheme}://{f'[{host}]' if ':' in (host or '') else host}{f':{parts.port}' if parts.port else ''}"
    page = pool.endpoint("page", origin, timeout=timeout)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    content = bytearray()
    async with page.stream("GET", path, headers=_ACCEPT, repeat="always") as response:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise InvalidRequest("comes compressed although that was not asked for")
        async for piece in response:
            content += piece
            if len(content) > max_bytes:
                raise TooLarge(f"is larger than INGEST_MAX_BYTES ({max_bytes})")
    header = Message()
    header["Content-Type"] = response.headers.get("content-type", "")
    kind = header.get_content_type() if response.headers.get("content-type") else ""
    return Page(bytes(content), kind, header.get_content_charset("") or "")
