"""What a step is told by the environment, and what it says: to who reads its log, and to the jobs after it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterable


def say(text: str) -> None:
    """Print a line that is the answer."""
    sys.stdout.write(f"{text}\n")


def explain(text: str) -> None:
    """Print a line about how the answer came to be; it does not get into a pipe."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def switched_on(name: str) -> bool:
    """Say whether a variable of the environment is set to something that means yes."""
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def hand_on(**values: str) -> None:
    """Give values to later jobs: appends to the file that the runner names in `GITHUB_OUTPUT`, if it does.

    Raises:
        DeliveryError: If a value has more than one line, which would let it set other outputs.
    """
    for name, value in values.items():
        if "\n" in value or "\r" in value:
            raise DeliveryError(f"the output {name} has more than one line: {value!r}")
    file = os.environ.get("GITHUB_OUTPUT", "")
    if file:
        with Path(file).open("a") as out:
            out.writelines(f"{name}={value}\n" for name, value in values.items())


def matrix(services: Iterable[str]) -> list[str]:
    """Return the entries of a matrix: one per service, or with `IMAGES_TOGETHER` one that names them all.

    The latter is for a Gitea that makes a single job of a matrix from another job's output.
    """
    names = list(services)
    return [" ".join(names)] if names and switched_on("IMAGES_TOGETHER") else names
