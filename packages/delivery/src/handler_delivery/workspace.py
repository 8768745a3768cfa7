"""The workspace as a graph: its members, what a service's image is made from, whom a change touches."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handler_delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENT = ("src", "pyproject.toml", "README.md", "Dockerfile")
"""What of a member's folder goes into an image; its tests do not."""

IMAGES = "images"
"""The folder that decides what every image stands on."""

CONTEXT = ".dockerignore"
"""What of the checkout a build sees at all."""

LOCK = "uv.lock"

_NOT_INSTALLED = {"dev-dependencies", "metadata", "optional-dependencies"}


@dataclass(frozen=True)
class Member:
    """One package or service.

    Attributes:
        name: Its distribution, `chat-handler`.
        folder: Where it is, from the root: `services/chat-handler`.
        version: As its pyproject.toml says.
        is_service: Whether it lives below `services/`.
        has_image: Whether it has a Dockerfile.
    """

    name: str
    folder: str
    version: str
    is_service: bool
    has_image: bool

    @property
    def module(self) -> str:
        """The package that `python -m` takes."""
        return self.name.replace("-", "_")


class Lock:
    """A lock file: what a member's image holds, to the hash.

    Args:
        text: The content of uv.lock.
    """

    def __init__(self, text: str) -> None:
        data: dict[str, Any] = tomllib.loads(text) if text else {}
        self._packages: dict[str, list[dict[str, Any]]] = {}
        for package in data.get("package", []):
            self._packages.setdefault(package["name"], []).append(package)

    def closure(self, name: str) -> set[tuple[str, tuple[str, ...]]]:
        """Return every (distribution, extras) that a member needs at run time, itself among them."""
        found: set[tuple[str, tuple[str, ...]]] = set()
        pending: list[tuple[str, tuple[str, ...]]] = [(name, ())]
        while pending:
            wanted = pending.pop()
            if wanted in found:
                continue
            found.add(wanted)
            distribution, extras = wanted
            for package in self._packages.get(distribution, []):
                needed = list(package.get("dependencies", []))
                for extra in extras:
                    needed += package.get("optional-dependencies", {}).get(extra, [])
                pending += [(item["name"], tuple(sorted(item.get("extra", ())))) for item in needed]
        return found

    def content(self, name: str) -> str:
        """Return all that the lock says of what a member needs; two equal texts mean equal dependencies.

        What is left out: extras that nobody here asks for, and the developer dependencies of a member.
        """
        lines: list[str] = []
        for distribution, extras in sorted(self.closure(name)):
            for package in self._packages.get(distribution, []):
                said = {key: value for key, value in package.items() if key not in _NOT_INSTALLED}
                optional = package.get("optional-dependencies", {})
                said["optional-dependencies"] = {extra: optional.get(extra) for extra in extras}
                lines.append(f"{distribution} {extras} {said!r}")
        return "\n".join(lines)


class Workspace:
    """The members of one checkout.

    Args:
        root: The folder with the workspace's pyproject.toml.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def find(cls, start: Path | None = None) -> Workspace:
        """Return the workspace around a folder, by default the current one.

        Raises:
            DeliveryError: If there is none.
        """
        here = (start or Path.cwd()).resolve()
        for folder in (here, *here.parents):
            file = folder / "pyproject.toml"
            if file.exists() and "workspace" in tomllib.loads(file.read_text()).get("tool", {}).get("uv", {}):
                return cls(folder)
        raise DeliveryError(f"{here} is in no workspace: no pyproject.toml above it has [tool.uv.workspace]")

    @cached_property
    def members(self) -> dict[str, Member]:
        """Every member by name."""
        data = tomllib.loads((self.root / "pyproject.toml").read_text())
        found: dict[str, Member] = {}
        for pattern in data["tool"]["uv"]["workspace"]["members"]:
            for file in sorted(self.root.glob(f"{pattern}/pyproject.toml")):
                project = tomllib.loads(file.read_text())["project"]
                folder = file.parent.relative_to(self.root).as_posix()
                found[project["name"]] = Member(
                    name=project["name"],
                    folder=folder,
                    version=project["version"],
                    is_service=folder.startswith("services/"),
                    has_image=(file.parent / "Dockerfile").exists(),
                )
        return found

    @cached_property
    def lock(self) -> Lock:
        """The lock file as it is in the working tree."""
        return Lock((self.root / LOCK).read_text())

    @property
    def images(self) -> list[Member]:
        """The services that ship an image."""
        return [member for member in self.members.values() if member.has_image]

    def member(self, name: str) -> Member:
        """Return a service that ships an image.

        Raises:
            DeliveryError: If there is none of that name; lists those there are.
        """
        for member in self.images:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self.images)
        raise DeliveryError(f"no service {name!r} with a Dockerfile; there are: {known}")

    def parts(self, name: str) -> list[Member]:
        """Return the members whose code goes into an image, the service itself last."""
        names = {distribution for distribution, _ in self.lock.closure(name)} & self.members.keys()
        return [self.members[part] for part in sorted(names, key=lambda part: (part == name, part))]

    def inputs(self, name: str) -> list[str]:
        """Return the paths that decide an image, from the root; what the lock file says of it comes on top."""
        return [IMAGES, CONTEXT, *(f"{part.folder}/{path}" for part in self.parts(name) for path in CONTENT)]

    def reasons(self, changed: Iterable[str], before: Lock) -> dict[str, str]:
        """Return the services whose image a change decides anew, and what of the change does.

        Args:
            changed: The paths that changed, from the root.
            before: The lock file before the change.
        """
        changed = list(changed)
        found: dict[str, str] = {}
        for member in self.images:
            inputs = self.inputs(member.name)
            paths = [path for path in changed for one in inputs if path == one or path.startswith(f"{one}/")]
            if paths:
                found[member.name] = paths[0]
            elif self.lock.content(member.name) != before.content(member.name):
                found[member.name] = f"{LOCK}: its dependencies"
        return found

    def touched(self, changed: Iterable[str], before: Lock) -> list[Member]:
        """Return the services of `reasons`."""
        return [self.members[name] for name in self.reasons(changed, before)]
