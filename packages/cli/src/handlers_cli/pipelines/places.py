"""Files and folders in the parameters of a pipeline: a run works in another folder than the one they are named in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = {"url", "path", "file", "folder", "directory", "dir"}
_BEGINNINGS = ("./", "../", "~/")


def absolute_places(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that name a file or folder of this machine by a relative path, with the absolute one.

    A value is a path if it begins as one (`./`, `../`, `~/`), or if its name ends in what it is (`source-url`,
    `output-folder`), and if there is such a file or folder.
    """
    return {
        # Not resolve(): a link that people use as a folder's name stays its name.
        name: os.path.abspath(os.path.expanduser(value))  # noqa: PTH100, PTH111
        for name, value in parameters.items()
        if _is_path(name, value) and _exists(os.path.expanduser(value))  # noqa: PTH111
    }


def _is_path(name: str, value: str) -> bool:
    if not value or Path(value).is_absolute():
        return False
    return value in {".", ".."} or value.startswith(_BEGINNINGS) or name.rpartition("-")[2] in _KINDS


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # what no file can be called
        return False
