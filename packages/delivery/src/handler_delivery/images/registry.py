"""A registry: send images there, and for figures and tests a real one on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError
from handler_delivery.process import output
from handler_testkit.nats import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

START_SECONDS = 20.0
ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"


def copy(archive: Path, reference: str) -> None:
    """Send an OCI archive to a registry, as the bytes it is.

    Args:
        archive: The .tar file.
        reference: Where to, `git.example.com/ai/chat-handler:1.2.3`. A registry on loopback may go without TLS.

    Raises:
        DeliveryError: If the archive is not there, or the registry refuses.
    """
    if not archive.exists():
        raise DeliveryError(f"{archive} is not there; run `make images` first")
    plain = ["--dest-tls-verify=false"] if reference.startswith(("127.0.0.1:", "localhost:")) else []
    output(
        "skopeo",
        "copy",
        "--quiet",
        "--preserve-digests",
        *plain,
        f"oci-archive:{archive}",
        f"docker://{reference}",
    )


@contextlib.contextmanager
def registry() -> Generator[str]:
    """Run Docker's registry on loopback for the length of a `with` block.

    Yields:
        Its address, `127.0.0.1:5000`.

    Raises:
        DeliveryError: If it is not installed or does not start.
    """
    if shutil.which("docker-registry") is None:
        raise DeliveryError("docker-registry is not installed; `make image-tools` installs it")
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: {address}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        )
        environ = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
        log = (Path(folder) / "log").open("w")
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], env=environ, stdout=log, stderr=log
        )
        log.close()
        try:
            _answers(address, process, Path(folder) / "log")
            yield address
        finally:
            process.terminate()
            process.wait(10)


def manifest(address: str, name: str, tag: str) -> dict[str, object]:
    """Return the manifest of an image in the registry on loopback."""
    url = f"http://{address}/v2/{name}/manifests/{tag}"
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Accept": ACCEPT}), timeout=10
    ) as answer:
        return json.load(answer)


def _answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/v2/", timeout=2):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise DeliveryError(f"the registry does not start: {log.read_text()}") from error
            time.sleep(0.05)
