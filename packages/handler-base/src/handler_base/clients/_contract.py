"""What the contracts of the OpenAI family have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from handler_base.errors import UpstreamProtocol, UpstreamRejected, UpstreamUnavailable

if TYPE_CHECKING:
    from handler_base.http import Endpoint

UNNAMED = "default"
"""Sent as model to an endpoint that names none."""

_NO_LIST = {404, 405, 501}


def base_of(url: str, path: str) -> str:
    """Return the base that `path` is appended to, for a URL that may already end in a part of it.

    `http://host/llm`, `http://host/llm/v1` and `http://host/llm/v1/chat/completions` are one endpoint.

    Args:
        url: What the setting holds.
        path: The whole path of the contract, for instance `/v1/chat/completions`.
    """
    url = url.rstrip("/")
    first = "/" + path.split("/")[1]
    for ending in (path, first):
        if url.endswith(ending):
            return url.removesuffix(ending)
    return url


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model] = []


class ModelName:
    """The name of the model to ask for.

    Args:
        endpoint: Asked for its first model (`GET /v1/models`), once, if none is configured.
        configured: The name, or "".
    """

    def __init__(self, endpoint: Endpoint, configured: str) -> None:
        self._endpoint = endpoint
        self._name = configured
        self._asking = asyncio.Lock()

    async def get(self) -> str:
        """Return the name.

        Raises:
            UpstreamError: If the endpoint has to be asked and cannot be reached.
        """
        if not self._name:
            async with self._asking:
                if not self._name:
                    self._name = await self._ask()
        return self._name

    async def _ask(self) -> str:
        try:
            response = await self._endpoint.request("GET", "/v1/models", idempotent=True)
            models = self._endpoint.decode(response.content, _Models)
        except (UpstreamRejected, UpstreamUnavailable) as error:
            if error.status in _NO_LIST:
                return UNNAMED
            raise
        except UpstreamProtocol:
            return UNNAMED
        return models.data[0].id if models.data else UNNAMED
