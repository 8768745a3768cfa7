"""Flux: every image has a policy, every setter marker names one, every policy takes the tags that it is meant for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from handler_delivery.manifests.environment import image_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from handler_delivery.manifests.render import Object, Rendering
    from handler_delivery.workspace import Member

_MENTION = "$imagepolicy"
_MARKER = re.compile(
    r"""^\s*(?:-\s+)?(?P<key>\w+):\s+(?P<value>[^\s#"']+)\s+"""
    r"""\#\s\{"\$imagepolicy":\s"(?P<namespace>[a-z0-9-]+):(?P<policy>[a-z0-9-]+)(?::(?P<part>name|tag))?"\}\s*$"""
)
_PART = {"newName": "name", "newTag": "tag", "image": None}
_PINNED = re.compile(r":v?\d+\.\d+|@sha256:[0-9a-f]{64}$")

RELEASES = ("0.1.0", "0.12.3")
COMMITS = ("main-20260102030405-0a1b2c3", "main-20261231235959-fedcba9")
NEVER = (
    "latest", "main", "0.1.0-debug", "0.1.0-rc.1", "main-20260102030405-0a1b2c3-debug", "sha-0a1b2c3", "0.1",
)  # fmt: skip
"""Tags that CI makes, of both kinds, and tags that no policy may choose."""


@dataclass
class Images:
    """What Flux knows of images.

    Attributes:
        repositories: Image by the (namespace, name) of its ImageRepository.
        policies: ImagePolicies by the folder that renders them and their (namespace, name).
    """

    repositories: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    policies: dict[str, dict[tuple[str, str], Object]] = field(
        default_factory=dict[str, dict[tuple[str, str], "Object"]]
    )

    @classmethod
    def of(cls, renderings: Sequence[Rendering]) -> Images:
        """Collect what all folders render to."""
        found = cls()
        for rendering in renderings:
            for item in rendering.of_kind("ImageRepository"):
                found.repositories[item.namespace, item.name] = str(item.at("spec", "image"))
            for item in rendering.of_kind("ImagePolicy"):
                found.policies.setdefault(rendering.name, {})[item.namespace, item.name] = item
        return found

    def problems(
        self, renderings: Sequence[Rendering], services: Mapping[str, Member], deploy: Path
    ) -> Iterator[str]:
        """Yield what is wrong between images, policies and markers."""
        known = {key: item for policies in self.policies.values() for key, item in policies.items()}
        followed = {image_name(image) for image in self.repositories.values()}
        for member in services.values():
            if member.has_image and member.name not in followed:
                yield f"flux: {member.name} ships an image, and no ImageRepository looks for it"
        for folder, policies in self.policies.items():
            for item in policies.values():
                for problem in self._policy(item):
                    yield f"{folder}: {item.title}: {problem}"
        for rendering in renderings:
            for problem in self._images(rendering, services, known):
                yield f"{rendering.name}: {problem}"
            yield from self._automation(rendering, deploy)
        for file in sorted(deploy.rglob("*.yaml")):
            for problem in self._markers(file, known):
                yield f"{file.relative_to(deploy).as_posix()}:{problem}"

    def _policy(self, item: Object) -> Iterator[str]:
        name = str(item.at("spec", "imageRepositoryRef", "name"))
        namespace = str(item.at("spec", "imageRepositoryRef", "namespace") or item.namespace)
        if (namespace, name) not in self.repositories:
            yield f"there is no ImageRepository {name}"
        pattern = str(item.at("spec", "filterTags", "pattern") or "")
        if not pattern:
            yield "filterTags.pattern is missing: -debug images would be chosen"
            return
        chosen = [tag for tag in (*RELEASES, *COMMITS, *NEVER) if re.search(pattern, tag)]
        for tag in NEVER:
            if tag in chosen:
                yield f"it would choose the tag {tag}"
        semver = item.at("spec", "policy", "semver") is not None
        for tag in RELEASES if semver else COMMITS:
            if tag not in chosen:
                yield f"it does not know the tag {tag}"
        extract = str(item.at("spec", "filterTags", "extract") or "").lstrip("$").strip("{}")
        if not semver and extract not in re.compile(pattern).groupindex:
            yield f"filterTags.extract names no group of the pattern: {extract or 'nothing'}"

    def _images(
        self, rendering: Rendering, services: Mapping[str, Member], known: Mapping[tuple[str, str], Object]
    ) -> Iterator[str]:
        followed = {
            self.repositories.get((key[0], str(policy.at("spec", "imageRepositoryRef", "name"))))
            for key, policy in known.items()
        }
        for item in rendering.with_pods:
            for container in item.containers:
                image = str(container.get("image", ""))
                if image.endswith(":latest") or not _tagged(image):
                    yield f"{item.title}: the image {image} has no tag that stays what it is"
                if image_name(image) not in services:
                    if not _PINNED.search(image):
                        yield f"{item.title}: the image {image} is not ours and not pinned to a version"
                elif image.rsplit(":", 1)[0] not in followed:
                    yield f"{item.title}: no ImagePolicy follows the image {image.rsplit(':', 1)[0]}"

    def _automation(self, rendering: Rendering, deploy: Path) -> Iterator[str]:
        policies = self.policies.get(rendering.name, {})
        for item in rendering.of_kind("Kustomization"):
            path = str(item.at("spec", "path"))
            if not _below(deploy, path).is_dir():
                yield f"{rendering.name}: {item.title}: there is no folder {path}"
            source = str(item.at("spec", "sourceRef", "name"))
            if rendering.find("GitRepository", source) is None:
                yield f"{rendering.name}: {item.title}: there is no GitRepository {source}"
        for item in rendering.of_kind("ImageUpdateAutomation"):
            source = str(item.at("spec", "sourceRef", "name"))
            if rendering.find("GitRepository", source) is None:
                yield f"{rendering.name}: {item.title}: there is no GitRepository {source}"
            path = str(item.at("spec", "update", "path"))
            marked = list(_marked(_below(deploy, path)))
            if not marked:
                yield f"{rendering.name}: {item.title}: no file below {path} has a setter marker"
            for file, key in marked:
                if key not in policies:
                    yield (
                        f"{rendering.name}: {item.title}: {file.name} below {path} names the ImagePolicy "
                        f"{':'.join(key)}, which is not among those of this folder"
                    )

    def _markers(self, file: Path, known: Mapping[tuple[str, str], Object]) -> Iterator[str]:
        lines = file.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            key = line.strip().removeprefix("- ").split(":", 1)[0]
            if _MENTION not in line:
                if key in {"newName", "newTag"}:
                    yield f"{number}: {key} has no setter marker: Flux would never update it"
                continue
            match = _MARKER.match(line)
            if match is None:
                yield f"{number}: this setter marker is none that Flux reads"
                continue
            policy = known.get((match["namespace"], match["policy"]))
            if policy is None:
                yield f"{number}: there is no ImagePolicy {match['namespace']}:{match['policy']}"
                continue
            if key not in _PART or _PART[key] != match["part"]:
                wanted = f":{_PART[key]}" if _PART.get(key) else "no suffix"
                yield f"{number}: the setter marker of {key} must have {wanted}"
                continue
            repository = self.repositories.get(
                (policy.namespace, str(policy.at("spec", "imageRepositoryRef", "name"))), ""
            )
            if key == "newName" and match["value"] != repository:
                yield f"{number}: {match['value']} is not the image of its ImageRepository, {repository}"
            previous = lines[number - 2].strip().removeprefix("- ") if key == "newName" and number > 1 else ""
            if previous.startswith("name: ") and previous.removeprefix("name: ") != image_name(repository):
                yield f"{number}: {previous.removeprefix('name: ')} is set from the policy of {image_name(repository)}"


def _tagged(image: str) -> bool:
    return "@sha256:" in image or ":" in image.rsplit("/", 1)[-1]


def _below(deploy: Path, path: str) -> Path:
    """Return a folder of the repository, named from its root, where deploy/ is this one."""
    return deploy / path.removeprefix("./").removeprefix("deploy").lstrip("/")


def _marked(folder: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    for file in sorted(folder.rglob("*.yaml")):
        for line in file.read_text().splitlines():
            match = _MARKER.match(line)
            if match is not None:
                yield file, (match["namespace"], match["policy"])
