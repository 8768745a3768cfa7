"""Upload the wheels of `dist/wheels/` to Gitea's package registry; those that are there already stay as they are.

The login comes from the environment: `REGISTRY_USER` and `REGISTRY_TOKEN`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from handler_delivery.errors import DeliveryError
from handler_delivery.gitea import gitea
from handler_delivery.outputs import say
from handler_delivery.process import output
from handler_delivery.wheels import FOLDER, uv
from handler_delivery.workspace import Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def publish(workspace: Workspace, wheels: Sequence[Path], upload: str, index: str) -> None:
    """Upload wheels; one with the same name and content counts as done.

    Args:
        workspace: The checkout, for its uv.
        wheels: The files.
        upload: Where to.
        index: Where installers read them, which says what is there.

    Raises:
        DeliveryError: If there is no login, it is refused, or another content has the same name.
    """
    user, token = os.environ.get("REGISTRY_USER", ""), os.environ.get("REGISTRY_TOKEN", "")
    if not user or not token:
        raise DeliveryError(
            "set REGISTRY_USER and REGISTRY_TOKEN: who may write packages, and a token of theirs"
        )
    environ = {
        **os.environ,
        "UV_PUBLISH_URL": upload,
        "UV_PUBLISH_USERNAME": user,
        "UV_PUBLISH_PASSWORD": token,
        "UV_PUBLISH_CHECK_URL": _with_login(index, user, token),
    }
    environ.pop("UV_PUBLISH_TOKEN", None)
    for wheel in wheels:
        try:
            output(uv(workspace), "publish", "--no-progress", str(wheel), cwd=workspace.root, environ=environ)
        except DeliveryError as error:
            raise DeliveryError(f"{wheel.name} was not uploaded to {upload}\n{error}") from error


def _with_login(url: str, user: str, token: str) -> str:
    """Return an address that carries its login: the packages of a private owner are not listed without."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(token, safe='')}@{parts.netloc}"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what and where to."""
    parser.add_argument(
        "--from", dest="folder", type=Path, help=f"the folder of the wheels (default: {FOLDER})"
    )
    parser.add_argument(
        "--upload", help="the upload address (default: this Gitea server's, of the repository's owner)"
    )
    parser.add_argument(
        "--index", help="the index that says what is there (default: `simple` below the upload address)"
    )


def run(options: argparse.Namespace) -> int:
    """Upload all wheels of the folder."""
    workspace = Workspace.find()
    folder = (options.folder or workspace.root / FOLDER).absolute()
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise DeliveryError(f"no wheels in {folder}: `make wheels` builds them")
    server = gitea(os.environ)
    upload = options.upload or (server.wheels if server else "")
    if not upload:
        raise DeliveryError("where to? Set UPLOAD=https://git.example.com/api/packages/owner/pypi")
    upload = upload.rstrip("/")
    publish(workspace, wheels, upload, options.index or f"{upload}/simple")
    for wheel in wheels:
        say(f"{wheel.name} is at {upload}")
    return 0
