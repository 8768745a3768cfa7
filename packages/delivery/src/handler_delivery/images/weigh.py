"""What images weigh: each one, and all together in a registry, where a shared layer is stored once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from handler_delivery.images.archive import Archive
from handler_delivery.images.build import archive_of
from handler_delivery.images.registry import copy, manifest, registry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from handler_delivery.workspace import Member

UNPACKED_MB, COMPRESSED_MB, TOGETHER_MB = 45.0, 17.0, 25.0
"""The budgets; a megabyte is 1,000,000 bytes."""

STAND_INS = frozenset({"local-inference"})
"""Images that carry models, in place of a GPU; they are weighed and have no budget."""


@dataclass(frozen=True)
class Weight:
    """What one image weighs, in megabytes.

    Attributes:
        name: The service.
        unpacked: All files.
        compressed: All layers as they are sent.
        own: The layers that no other image has.
        bounded: Whether the budgets are meant for it.
    """

    name: str
    unpacked: float
    compressed: float
    own: float
    bounded: bool

    @property
    def share(self) -> float:
        """The larger of its figures, each divided by its budget; 0 without one."""
        return max(self.unpacked / UNPACKED_MB, self.compressed / COMPRESSED_MB) if self.bounded else 0

    @property
    def holds(self) -> bool:
        """Whether it is within the budgets."""
        return self.share <= 1


def weigh(root: Path, members: Sequence[Member]) -> tuple[list[Weight], float]:
    """Push the archives of services to a registry on loopback and weigh what it stores.

    Returns:
        One weight a service, and what all those with a budget take together, shared layers once, in megabytes.
    """
    stored: dict[str, dict[str, int]] = {}
    with registry() as address:
        for member in members:
            copy(archive_of(root, member), f"{address}/{member.name}:weighed")
            layers = cast("list[dict[str, Any]]", manifest(address, member.name, "weighed")["layers"])
            stored[member.name] = {layer["digest"]: layer["size"] for layer in layers}
    weights: list[Weight] = []
    for member in members:
        others = {digest for name, layers in stored.items() if name != member.name for digest in layers}
        own = sum(size for digest, size in stored[member.name].items() if digest not in others)
        with Archive(archive_of(root, member)) as archive:
            weights.append(
                Weight(member.name, archive.unpacked / 1e6, archive.compressed / 1e6, own / 1e6,
                       member.name not in STAND_INS)
            )  # fmt: skip
    together = {
        digest: size
        for name, layers in stored.items()
        if name not in STAND_INS
        for digest, size in layers.items()
    }
    return weights, sum(together.values()) / 1e6
