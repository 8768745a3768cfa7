"""A container of an image, run as strictly as a cluster would run it."""

from __future__ import annotations

import contextlib
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError
from handler_delivery.process import output

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from handler_delivery.images.engine import Engine

STRICT = (
    "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--pids-limit=64",
    "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096",
)  # fmt: skip
"""No writable file, no privilege, bounded processes and descriptors."""

GRACE = 40
"""Seconds that `stop` gives a service before it is killed; longer than SHUTDOWN_GRACE."""


class Container:
    """One container; `container(...)` starts and removes it.

    Args:
        machine: What runs it.
        name: Its name.
    """

    def __init__(self, machine: Engine, name: str) -> None:
        self._command = machine.run()
        self.name = name

    def state(self, what: str) -> str:
        """Return a part of its state, for instance `ExitCode` or `Pid`."""
        return output(*self._command, "inspect", "--format", f"{{{{.State.{what}}}}}", self.name).strip()

    def logs(self) -> str:
        """Return what it printed, on either stream."""
        command = [*self._command, "logs", self.name]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        return done.stdout

    def stop(self) -> int:
        """Send the image's stop signal, wait, and return the exit status: 137 when it had to be killed."""
        output(*self._command, "stop", "--time", str(GRACE), self.name)
        return int(self.state("ExitCode"))

    def wait(self, seconds: float = 120) -> int:
        """Wait for its end and return the exit status.

        Raises:
            DeliveryError: If it does not end in time.
        """
        deadline = time.monotonic() + seconds
        while self.state("Running") == "true":
            if time.monotonic() > deadline:
                raise DeliveryError(f"still running after {seconds:g} s:\n{self.logs()}")
            time.sleep(0.1)
        return int(self.state("ExitCode"))

    def remove(self) -> None:
        """Kill it if it runs, and remove it."""
        output(*self._command, "rm", "--force", self.name)


@contextlib.contextmanager
def container(
    machine: Engine,
    image: str,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Generator[Container]:
    """Run a container for the length of a `with` block.

    Args:
        machine: What runs it.
        image: The name of the image.
        arguments: What the image's entry point is given.
        environ: Its environment, on top of the image's.
        options: More options of `run`.
    """
    running = Container(machine, f"check-{uuid.uuid4().hex[:12]}")
    variables = [f"--env={key}={value}" for key, value in (environ or {}).items()]
    network = f"--network={machine.host_network()}"
    try:
        output(*machine.run(), "run", "--detach", "--name", running.name, network, *STRICT, *variables, *options,
               image, *arguments)  # fmt: skip
        yield running
    finally:
        with contextlib.suppress(DeliveryError):
            running.remove()


def python(machine: Engine, image: str, code: str) -> str:
    """Return what code prints when the image's interpreter runs it, under the same restrictions."""
    options = ["--rm", f"--network={machine.host_network()}", *STRICT, "--entrypoint=/usr/bin/python3"]
    return output(*machine.run(), "run", *options, image, "-ESs", "-c", code)
