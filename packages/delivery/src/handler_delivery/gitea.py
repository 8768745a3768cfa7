"""Where things are on the Gitea server that runs this: its registries, its pages, its API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from handler_delivery.errors import DeliveryError
from handler_delivery.web import call

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Gitea:
    """A repository on a server.

    Attributes:
        url: The server, `https://git.example.com`, without a slash at the end.
        repository: `owner/name`.
    """

    url: str
    repository: str

    @property
    def owner(self) -> str:
        """Who owns the repository, and the packages."""
        return self.repository.split("/")[0]

    @property
    def host(self) -> str:
        """Where images are pushed: a container registry is always at the root of its host."""
        return urlsplit(self.url).netloc.lower()

    @property
    def registry(self) -> str:
        """What the name of an image begins with; lower case, because no other is allowed there."""
        return f"{self.host}/{self.owner.lower()}"

    @property
    def wheels(self) -> str:
        """Where wheels are uploaded; `/simple` below it is the index."""
        return f"{self.url}/api/packages/{self.owner}/pypi"

    def page(self, path: str) -> str:
        """Return the address of a page of the repository."""
        return f"{self.url}/{self.repository}/{path}"

    def announce(self, tag: str, title: str, text: str, token: str) -> str:
        """Make a tag a release with notes.

        Returns:
            What is left to say about it; empty when the release is there.
        """
        answer = call(
            f"{self.url}/api/v1/repos/{self.repository}/releases",
            value={"tag_name": tag, "name": title, "body": text},
            headers={"Authorization": f"token {token}"},
        )
        return "" if answer.status in {200, 201, 409} else answer.words()


def gitea(environ: Mapping[str, str]) -> Gitea | None:
    """Return the server that this workflow runs on; none outside a workflow."""
    url, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    if not url or "/" not in repository:
        return None
    return Gitea(url.rstrip("/"), repository)


def image_registry(environ: Mapping[str, str]) -> str:
    """Return `host/owner` of the images: `REGISTRY` if it is set, else this Gitea server's own registry.

    Raises:
        DeliveryError: If neither is known.
    """
    given = environ.get("REGISTRY", "").strip("/")
    if given:
        return given
    server = gitea(environ)
    if server is None:
        raise DeliveryError("no registry: set REGISTRY, for instance REGISTRY=git.example.com/owner")
    return server.registry
