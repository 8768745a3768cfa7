"""All checks over all renderings, as one list of problems that each name their folder and object."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from handler_delivery.manifests import flux, network, pods, references, scaling, workflows
from handler_delivery.manifests.environment import Environments
from handler_delivery.manifests.render import render, roots
from handler_delivery.manifests.schemas import Schemas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from handler_delivery.manifests.render import Rendering
    from handler_delivery.workspace import Workspace


class Checker:
    """Checks one deploy/ folder.

    Args:
        workspace: Knows the services.
        deploy: The manifests.
        contracts: The folder with the CRDs, None where it is absent.
        tool: kubectl.

    Attributes:
        objects: How many objects were rendered; known after `problems`.
    """

    def __init__(self, *, workspace: Workspace, deploy: Path, contracts: Path | None, tool: Path) -> None:
        self._services = {member.name: member for member in workspace.members.values() if member.is_service}
        self._deploy = deploy
        self._schemas = Schemas(contracts)
        self._tool = tool
        self.objects = 0

    def problems(self) -> list[str]:
        """Return every problem; none when the manifests are fit to be applied.

        Raises:
            DeliveryError: If a folder does not render.
        """
        with ThreadPoolExecutor(4) as pool:
            renderings = list(pool.map(functools.partial(render, self._tool), roots(self._deploy)))
        self.objects = sum(len(rendering.objects) for rendering in renderings)
        found: list[str] = []
        for rendering in renderings:
            found += [f"{rendering.name}: {problem}" for problem in self._of(rendering)]
        images = flux.Images.of(renderings)
        found += images.problems(renderings, self._services, self._deploy)
        return list(dict.fromkeys(found))

    def _of(self, rendering: Rendering) -> Iterator[str]:
        for item in rendering.objects:
            for problem in self._schemas.problems(item):
                yield f"{item.title}: {problem}"
        environments = Environments(rendering, self._services)
        for item in rendering.with_pods:
            for problem in pods.problems(item):
                yield f"{item.title}: {problem}"
            for problem in environments.problems(item):
                yield f"{item.title}: {problem}"
        yield from references.problems(rendering)
        yield from network.problems(rendering, environments)
        yield from scaling.problems(rendering)
        yield from workflows.problems(rendering)
