"""A real registry on loopback: what arrives there is what was sent."""

from __future__ import annotations

import shutil
import urllib.error
from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.images.registry import copy, manifest, registry
from handler_testkit.nats import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Oci

PROGRAMS = ("docker-registry", "skopeo")
needs_programs = pytest.mark.skipif(
    any(shutil.which(program) is None for program in PROGRAMS),
    reason=f"one of {', '.join(PROGRAMS)} is not installed; `make image-tools` installs them",
)


@needs_programs
def test_an_image_arrives_as_the_bytes_it_is(oci: Oci, tmp_path: Path) -> None:
    layer = oci.layer(oci.Entry("app/a", "hello"))
    image = oci.image(layer)
    path = oci.write(image)
    with registry() as address:
        copy(path, f"{address}/ai/sample:1.2.3")
        by_tag = manifest(address, "ai/sample", "1.2.3")
        by_digest = manifest(address, "ai/sample", image["digest"])
        with pytest.raises(urllib.error.HTTPError, match="404") as error:
            manifest(address, "ai/sample", "1.2.4")
        error.value.close()
    assert by_tag == by_digest
    assert by_tag["layers"] == [layer]


@needs_programs
def test_the_registry_is_gone_after_the_block(oci: Oci) -> None:
    with registry() as address:
        pass
    with pytest.raises(DeliveryError, match="connection refused"):
        copy(oci.write(oci.image(oci.layer(oci.Entry("a")))), f"{address}/ai/sample:1.2.3")


@needs_programs
def test_no_registry_there_is_a_clear_error(oci: Oci) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(DeliveryError, match=r"(?s)skopeo copy .*failed:.*connection refused"):
        copy(oci.write(oci.image(oci.layer(oci.Entry("a")))), f"{address}/ai/sample:1.2.3")


def test_an_archive_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match=r"absent\.tar is not there; run `make images` first"):
        copy(tmp_path / "absent.tar", "127.0.0.1:1/ai/sample:1.2.3")


def test_a_registry_that_is_not_installed_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeliveryError, match="`make image-tools` installs it"), registry():
        pass


def test_a_registry_that_does_not_start_shows_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker-registry"
    program.write_text("#!/bin/sh\necho no room left >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeliveryError, match="the registry does not start: no room left"), registry():
        pass
