"""What images weigh, measured in a real registry."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from handler_delivery.images.build import archive_of
from handler_delivery.images.weigh import COMPRESSED_MB, TOGETHER_MB, UNPACKED_MB, Weight, weigh
from handler_delivery.workspace import Member

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Oci

needs_programs = pytest.mark.skipif(
    shutil.which("docker-registry") is None or shutil.which("skopeo") is None,
    reason="docker-registry and skopeo are needed; `make image-tools` installs them",
)


def member(name: str) -> Member:
    return Member(name, f"services/{name}", "1.0", is_service=True, has_image=True)


def text(seed: str, size: int) -> str:
    """Return text that is hard to compress and always the same."""
    return "".join(random.Random(seed).choices("0123456789abcdef", k=size))


@needs_programs
def test_a_layer_that_images_share_is_weighed_once(oci: Oci, tmp_path: Path) -> None:
    names = ("chat-handler", "document-ingestion", "local-inference")
    shared = oci.layer(oci.Entry("usr/lib/python", text("shared", 100_000)))
    own = {name: oci.layer(oci.Entry("app/own", text(name, 40_000 + len(name)))) for name in names}
    members = [member(name) for name in names]
    for one in members:
        oci.write(oci.image(shared, own[one.name]), to=archive_of(tmp_path, one))

    weights, together = weigh(tmp_path, members)

    assert [weight.name for weight in weights] == list(names)
    assert [weight.bounded for weight in weights] == [True, True, False], "models have no budget"
    for weight in weights:
        layer = own[weight.name]
        assert weight.unpacked == pytest.approx((140_000 + len(weight.name)) / 1e6)
        assert weight.compressed == pytest.approx((shared["size"] + layer["size"]) / 1e6)
        assert weight.own == pytest.approx(layer["size"] / 1e6)
    bounded = [own[name]["size"] for name in names[:2]]
    assert together == pytest.approx((shared["size"] + sum(bounded)) / 1e6)


@needs_programs
def test_one_image_alone_is_all_its_own(oci: Oci, tmp_path: Path) -> None:
    layers = [oci.layer(oci.Entry("a", text("a", 2000))), oci.layer(oci.Entry("b", text("b", 1000)))]
    oci.write(oci.image(*layers), to=archive_of(tmp_path, member("chat-handler")))
    (weight,), together = weigh(tmp_path, [member("chat-handler")])
    assert weight.own == weight.compressed == together


@pytest.mark.parametrize(
    ("unpacked", "compressed", "bounded", "holds"),
    [
        (UNPACKED_MB, COMPRESSED_MB, True, True),
        (UNPACKED_MB + 0.1, COMPRESSED_MB, True, False),
        (UNPACKED_MB, COMPRESSED_MB + 0.1, True, False),
        (UNPACKED_MB * 4, COMPRESSED_MB * 4, False, True),
    ],
)
def test_a_budget_is_held_up_to_its_last_byte(
    unpacked: float, compressed: float, bounded: bool, holds: bool
) -> None:
    assert Weight("sample", unpacked, compressed, TOGETHER_MB, bounded).holds is holds
