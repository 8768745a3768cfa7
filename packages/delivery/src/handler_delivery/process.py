"""Other programs: run them, and say in words what went wrong."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def output(
    *command: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None, text: str | None = None
) -> str:
    """Return what a command prints.

    Args:
        command: The program and its arguments.
        cwd: Where to run it.
        environ: Its whole environment; by default ours.
        text: What it reads on standard input.

    Raises:
        DeliveryError: If it is not there or fails, with what it said.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environ, input=text, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise DeliveryError(f"{command[0]} is not installed") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-20:]
        raise DeliveryError("\n".join([f"`{' '.join(command[:6])} …` failed:", *said]))
    return done.stdout


def missing(programs: Sequence[str]) -> list[str]:
    """Return those of the programs that are not installed."""
    return [program for program in programs if shutil.which(program) is None]
