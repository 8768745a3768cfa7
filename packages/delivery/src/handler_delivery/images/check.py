"""Whether an image is what it should be: read as an archive, asked from inside, and started for its work."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handler_delivery.errors import DeliveryError
from handler_delivery.images.archive import Archive
from handler_delivery.images.container import python
from handler_delivery.images.engine import name_of
from handler_delivery.images.labels import PREFIX
from handler_delivery.images.work import work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from tarfile import TarInfo

    from handler_delivery.images.engine import Engine
    from handler_delivery.workspace import Member

SHELLS = re.compile(r"(^|/)(sh|bash|dash|ash|busybox)$")
USER = "10001:10001"
REQUIRED = {
    r"etc/ssl/certs/ca-certificates\.crt": "there are no certificates",
    r"var/lib/dpkg/status\.d/libc6": "scanners do not see the system's libraries: var/lib/dpkg/status.d is empty",
    r"app/protobuf-.*dist-info/METADATA": "scanners do not see the distributions: their METADATA is missing",
}
"""What must be there, and what to say when it is not."""


def check(machine: Engine, member: Member, folder: Path, *, debug: bool = False) -> list[str]:
    """Return what is wrong with a service's image, one sentence each.

    Args:
        machine: What built it and runs it.
        member: The service.
        folder: Where its archive is.
        debug: Whether it is the variant with a shell; that one is not put to work again.
    """
    with Archive(folder / f"{member.name}.tar") as archive:
        problems = [*shape(archive, member), *contents(archive, debug=debug)]
    image = name_of(member, debug=debug)
    try:
        code = f"import os; os.environ['MODULE'] = {member.module!r}\n{Path(__file__).with_name('inside.py').read_text()}"
        problems += json.loads(python(machine, image, code.replace("from __future__ import annotations", "")))
        if not debug:
            problems += work(machine, member, image)
    except DeliveryError as error:
        problems.append(str(error))
    except Exception as error:  # noqa: BLE001  (a check that fails in another way is a problem, too)
        problems.append(f"{type(error).__name__}: {error}")
    return problems


def shape(archive: Archive, member: Member) -> Iterator[str]:
    """Yield what is wrong with the image's configuration."""
    config: dict[str, Any] = archive.config["config"]
    if config.get("User") != USER:
        yield f"the user is {config.get('User')!r}, not {USER}"
    if config.get("StopSignal") != "SIGTERM":
        yield f"the stop signal is {config.get('StopSignal')!r}"
    if not config.get("Entrypoint") or any(SHELLS.search(word) for word in config["Entrypoint"]):
        yield f"the entry point is {config.get('Entrypoint')!r}"
    labels: dict[str, str] = config.get("Labels") or {}
    expected = {f"{PREFIX}.title": member.name, f"{PREFIX}.version": member.version}
    for name, value in expected.items():
        if labels.get(name) != value:
            yield f"the label {name} is {labels.get(name)!r}, not {value!r}"
    if not re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels.get(f"{PREFIX}.revision", "")):
        yield f"the label {PREFIX}.revision is {labels.get(f'{PREFIX}.revision')!r}, no commit"


def contents(archive: Archive, *, debug: bool) -> Iterator[str]:
    """Yield what is wrong with the files of the image."""
    names: set[str] = set()
    for _, entry in archive.files():
        name = posixpath.normpath(entry.name)
        if name in names and entry.isfile():
            yield f"{name} is in two layers"
        names.add(name)
        yield from _entry(name, entry)
    shells = sorted(name for name in names if SHELLS.search(name))
    if debug and not shells:
        yield "there is no shell in the debug image"
    if shells and not debug:
        yield f"there is a shell: {', '.join(shells)}"
    for pattern, problem in REQUIRED.items():
        if not any(re.match(pattern, name) for name in names):
            yield problem


def _entry(name: str, entry: TarInfo) -> Iterator[str]:
    if name.endswith((".py", ".pyi")) or "__pycache__" in name:
        yield f"{name} is not needed at run time"
    if entry.mtime:
        yield f"{name} carries the time it was made"
    others_write = entry.mode & 0o022 and not entry.issym() and name != "tmp"
    if entry.mode & 0o6000 or others_write:
        yield f"{name} has the mode {entry.mode & 0o7777:o}"
    if "SCHILY.xattr.security.capability" in entry.pax_headers:
        yield f"{name} carries capabilities"
