"""Labels of an image, such that the same content gives the same image whatever else was committed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from handler_delivery.errors import DeliveryError
from handler_delivery.git import Repository
from handler_delivery.workspace import LOCK, Lock

if TYPE_CHECKING:
    from handler_delivery.workspace import Member, Workspace

PREFIX = "org.opencontainers.image"


def labels(workspace: Workspace, member: Member) -> dict[str, str]:
    """Return the labels of the OCI image specification that say what an image is and where it comes from."""
    found = {
        f"{PREFIX}.title": member.name,
        f"{PREFIX}.version": member.version,
        f"{PREFIX}.revision": revision(workspace, member),
        f"{PREFIX}.licenses": "Apache-2.0",
        f"{PREFIX}.source": source(workspace),
    }
    return {name: value for name, value in sorted(found.items()) if value}


def revision(workspace: Workspace, member: Member) -> str:
    """Return the last commit that changed what the image is made from; `…-dirty` when the working tree differs.

    That is not the commit that is built: a commit elsewhere leaves the image, and so its digest, as it was.
    """
    repository = Repository(workspace.root)
    inputs = workspace.inputs(member.name)
    try:
        last = repository.last_commit(inputs)
    except DeliveryError:
        return ""  # no commit yet, or no git
    since = f"{last}..HEAD" if last else "HEAD"
    now = workspace.lock.content(member.name)
    for commit in repository.run("rev-list", since, "--", LOCK).splitlines():
        before = Lock(repository.text(LOCK, f"{commit}^")) if repository.exists(f"{commit}^") else Lock("")
        if before.content(member.name) != now:
            last = commit
            break
    dirty = repository.uncommitted(inputs) or Lock(repository.text(LOCK)).content(member.name) != now
    return f"{last}-dirty" if dirty else last


def source(workspace: Workspace) -> str:
    """Return where the source is: SOURCE_URL, else the address git knows as origin, without a password."""
    if url := os.environ.get("SOURCE_URL"):
        return url
    try:
        url = Repository(workspace.root).run("remote", "get-url", "origin")
    except DeliveryError:
        return ""
    if not re.match(r"(https?|ssh)://|[\w.-]+@[\w.-]+:", url):
        return ""
    return re.sub(r"://[^/]*@", "://", url).removesuffix(".git")
