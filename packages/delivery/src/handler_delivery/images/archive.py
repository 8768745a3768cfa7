"""An OCI archive read back: what is in an image, to the byte."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from handler_delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUPPORTED = (
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


@dataclass(frozen=True)
class Layer:
    """One layer of an image.

    Attributes:
        digest: Of the compressed blob, `sha256:…`.
        compressed: Bytes of the blob.
        unpacked: Bytes of the files in it.
    """

    digest: str
    compressed: int
    unpacked: int


class Archive:
    """One image as `buildah push` and `docker buildx build --output type=oci` write it.

    Args:
        path: The .tar file.

    Raises:
        DeliveryError: If it is none, or holds more than one image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise DeliveryError(f"{path} is not there; run `make images`")
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115  (closed with the object)
        except tarfile.ReadError as error:
            raise DeliveryError(f"{path} is no OCI archive: {error}") from error
        try:
            manifest = self._only_manifest(json.loads(self._member("index.json"))["manifests"])
            self.digest: str = manifest["digest"]
            self.manifest: dict[str, Any] = json.loads(self._blob(self.digest))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._tar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The image's configuration: `config.User`, `config.Labels` and the like."""
        return json.loads(self._blob(self.manifest["config"]["digest"]))

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers, the lowest first."""
        return [
            Layer(item["digest"], item["size"], sum(m.size for m in self._entries(item["digest"])))
            for item in self.manifest["layers"]
        ]

    @property
    def compressed(self) -> int:
        """Bytes of all layers as they are sent over the network."""
        return sum(layer.compressed for layer in self.layers)

    @property
    def unpacked(self) -> int:
        """Bytes of all files of all layers."""
        return sum(layer.unpacked for layer in self.layers)

    def files(self) -> Iterator[tuple[Layer, tarfile.TarInfo]]:
        """Yield every entry of every layer; paths without a leading slash."""
        for layer in self.layers:
            for member in self._entries(layer.digest):
                yield layer, member

    def text(self, name: str) -> str:
        """Return the content of a text file in the image.

        Raises:
            DeliveryError: If it is not there.
        """
        for item in reversed(self.manifest["layers"]):
            with self._layer(item["digest"]) as tar:
                try:
                    stream = tar.extractfile(name)
                except KeyError:
                    continue
                if stream:
                    return stream.read().decode()
        raise DeliveryError(f"{self.path.name} has no file {name}")

    def unpack(self, folder: Path) -> None:
        """Write the image's file system to a folder, with the owners and modes it has."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in self.manifest["layers"]:
            with self._layer(item["digest"]) as tar:
                tar.extractall(folder, filter="fully_trusted")

    def _only_manifest(self, manifests: list[dict[str, Any]]) -> dict[str, Any]:
        images = [m for m in manifests if m.get("platform", {}).get("os") != "unknown"]
        if len(images) != 1:
            raise DeliveryError(f"{self.path}: {len(images)} images instead of one")
        if images[0]["mediaType"].endswith(("index.v1+json", "manifest.list.v2+json")):
            return self._only_manifest(json.loads(self._blob(images[0]["digest"]))["manifests"])
        return images[0]

    def _entries(self, digest: str) -> list[tarfile.TarInfo]:
        with self._layer(digest) as tar:
            return tar.getmembers()

    def _layer(self, digest: str) -> tarfile.TarFile:
        kind = next(item["mediaType"] for item in self.manifest["layers"] if item["digest"] == digest)
        if kind not in SUPPORTED:
            raise DeliveryError(f"{self.path}: a layer of type {kind} cannot be read")
        return tarfile.open(fileobj=io.BytesIO(gzip.decompress(self._blob(digest))))

    def _blob(self, digest: str) -> bytes:
        return self._member(f"blobs/{digest.replace(':', '/')}")

    def _member(self, name: str) -> bytes:
        try:
            stream = self._tar.extractfile(name)
        except KeyError:
            stream = None
        if stream is None:
            raise DeliveryError(f"{self.path} is no OCI archive: {name} is missing")
        return stream.read()
