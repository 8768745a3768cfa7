"""An OCI archive read back, from archives made by hand."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.images.archive import Archive

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Oci


def test_sizes_are_those_of_blobs_and_of_the_files_in_them(oci: Oci) -> None:
    low = oci.layer(oci.Entry("app/a.txt", "x" * 1000), oci.Entry("app/b.txt", "y" * 24))
    high = oci.layer(oci.Entry("app/c.txt", "z" * 76))
    image = oci.image(low, high)
    with Archive(oci.write(image)) as archive:
        assert archive.digest == image["digest"]
        assert [layer.digest for layer in archive.layers] == [low["digest"], high["digest"]]
        assert [layer.unpacked for layer in archive.layers] == [1024, 76]
        assert [layer.compressed for layer in archive.layers] == [low["size"], high["size"]]
        assert archive.unpacked == 1100
        assert archive.compressed == low["size"] + high["size"]


def test_every_entry_is_told_with_the_layer_it_is_in(oci: Oci) -> None:
    low, high = oci.layer(oci.Entry("one")), oci.layer(oci.Entry("two"), oci.Entry("three"))
    with Archive(oci.write(oci.image(low, high))) as archive:
        found = [(layer.digest, entry.name) for layer, entry in archive.files()]
    assert found == [(low["digest"], "one"), (high["digest"], "two"), (high["digest"], "three")]


def test_the_configuration_is_that_of_the_image(oci: Oci) -> None:
    with Archive(oci.write(oci.image(oci.layer(), config={"User": "10001:10001"}))) as archive:
        assert archive.config["config"] == {"User": "10001:10001"}


def test_of_a_file_in_two_layers_the_topmost_is_read(oci: Oci) -> None:
    layers = [
        oci.layer(oci.Entry("etc/motd", text), oci.Entry(f"only-{text}", text)) for text in ("low", "high")
    ]
    with Archive(oci.write(oci.image(*layers))) as archive:
        assert archive.text("etc/motd") == "high"
        assert archive.text("only-low") == "low"
        with pytest.raises(DeliveryError, match=r"image\.tar has no file etc/nothing"):
            archive.text("etc/nothing")


def test_a_folder_is_no_text(oci: Oci) -> None:
    folder = oci.Entry("etc", kind=tarfile.DIRTYPE, mode=0o755)
    with (
        Archive(oci.write(oci.image(oci.layer(folder)))) as archive,
        pytest.raises(DeliveryError, match="no file etc"),
    ):
        archive.text("etc")


def test_unpacked_the_topmost_file_is_there_with_its_mode_and_links(oci: Oci, tmp_path: Path) -> None:
    low = oci.layer(
        oci.Entry("bin/tool", "old", mode=0o755), oci.Entry("bin/link", "tool", kind=tarfile.SYMTYPE)
    )
    high = oci.layer(oci.Entry("bin/tool", "new", mode=0o750))
    with Archive(oci.write(oci.image(low, high))) as archive:
        archive.unpack(tmp_path / "deep" / "root")
    tool = tmp_path / "deep" / "root" / "bin" / "tool"
    assert tool.read_text() == "new"
    assert tool.stat().st_mode & 0o777 == 0o750
    assert tool.with_name("link").readlink().name == "tool"


def test_an_index_inside_the_index_is_followed(oci: Oci) -> None:
    image = oci.image(oci.layer(oci.Entry("a", "found")))
    with Archive(oci.write(oci.index(image))) as archive:
        assert archive.digest == image["digest"]
        assert archive.text("a") == "found"


def test_attestations_beside_an_image_are_no_image(oci: Oci) -> None:
    image = {**oci.image(oci.layer(oci.Entry("a"))), "platform": {"os": "linux", "architecture": "amd64"}}
    statement = {
        **oci.image(oci.layer(oci.Entry("b"))),
        "platform": {"os": "unknown", "architecture": "unknown"},
    }
    with Archive(oci.write(oci.index(image, statement))) as archive:
        assert archive.digest == image["digest"]


def test_two_images_are_refused(oci: Oci) -> None:
    path = oci.write(oci.image(oci.layer(oci.Entry("a"))), oci.image(oci.layer(oci.Entry("b"))))
    with pytest.raises(DeliveryError, match="2 images instead of one"):
        Archive(path)


def test_an_archive_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match=r"absent\.tar is not there; run `make images`"):
        Archive(tmp_path / "absent.tar")


def test_another_tar_file_is_told_from_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w"):
        pass
    with pytest.raises(DeliveryError, match=r"other\.tar is no OCI archive: index\.json is missing"):
        Archive(path)


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"x" * 2000])
def test_a_file_that_is_no_tar_is_told_from_an_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tar"
    path.write_bytes(content)
    with pytest.raises(DeliveryError, match=r"other\.tar is no OCI archive"):
        Archive(path)


def test_a_layer_that_is_compressed_in_another_way_is_named(oci: Oci) -> None:
    layer = oci.layer(oci.Entry("a"), media="application/vnd.oci.image.layer.v1.tar+zstd")
    with (
        Archive(oci.write(oci.image(layer))) as archive,
        pytest.raises(DeliveryError, match=r"a layer of type \S+zstd cannot be read"),
    ):
        _ = archive.layers
