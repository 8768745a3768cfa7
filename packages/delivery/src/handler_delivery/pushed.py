"""Which commit the newest image of a service in the registry was made from: its tag says so.

A change is compared with what was pushed last, not with the push before: a run that failed or was overtaken leaves
nothing behind, because the next one still sees the difference.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urljoin

from handler_delivery.errors import DeliveryError
from handler_delivery.tags import MAIN_TAG
from handler_delivery.web import Answer, call

if TYPE_CHECKING:
    from handler_delivery.git import Repository

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


class Registry:
    """A container registry, asked for the tags of images.

    Args:
        url: Its address, `https://git.example.com`.
        owner: The folder of the images.
        user: Who asks.
        token: Their password or token.
    """

    def __init__(self, url: str, owner: str, user: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._owner = owner
        self._basic = "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()

    def tags(self, image: str) -> list[str]:
        """Return the tags of an image; none when there is no such image yet.

        Raises:
            DeliveryError: If the registry is away or refuses.
        """
        found: list[str] = []
        url = f"{self._url}/v2/{quote(self._owner)}/{quote(image)}/tags/list"
        while url:
            answer = self._get(url, f"repository:{self._owner}/{image}:pull")
            if answer.status == 404:
                return found
            if answer.status != 200:
                raise DeliveryError(f"the tags of {image} cannot be read from {self._url}: {answer.words()}")
            found += answer.json().get("tags") or []
            following = _NEXT.search(answer.headers.get("link", ""))
            url = urljoin(url, following[1]) if following else ""
        return found

    def _get(self, url: str, scope: str) -> Answer:
        """Ask; where the registry wants a token of its own for that, get one and ask again."""
        answer = call(url, headers={"Authorization": self._basic})
        challenge = answer.headers.get("www-authenticate", "")
        if answer.status != 401 or not challenge.lower().startswith("bearer "):
            return answer
        parameters = dict(_PARAMETER.findall(challenge))
        query = urlencode({"service": parameters.get("service", ""), "scope": scope})
        realm = urljoin(url, parameters.get("realm", ""))
        granted = call(f"{realm}?{query}", headers={"Authorization": self._basic})
        if granted.status != 200:
            return granted
        said = granted.json()
        return call(url, headers={"Authorization": f"Bearer {said.get('token') or said.get('access_token')}"})


def newest(tags: list[str], repository: Repository) -> str:
    """Return the commit of the newest tag that HEAD stands on; empty when there is none."""
    for tag in sorted((tag for tag in tags if MAIN_TAG.fullmatch(tag)), reverse=True):
        commit = tag.rsplit("-", 1)[1]
        if repository.contains(commit):
            return repository.commit(commit)
    return ""
