"""Where documents come from: which files a folder holds, and what each is called."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import pathspec

from handler_base.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUFFIXES = {
    ".md": "markdown", ".markdown": "markdown", ".mdx": "markdown",
    ".txt": "text", ".text": "text", ".rst": "text",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".pdf": "pdf",
}  # fmt: skip
"""What a folder's files are read as, by suffix; others are left out."""

_CREDENTIALS = re.compile(r"//[^/?#]*@")
_NEVER = {"node_modules", "__pycache__", "site-packages"}


class Source(msgspec.Struct, frozen=True):
    """One document to read.

    Attributes:
        document_id: Stable id, a hash of its name.
        uri: What people are shown: a path or a URL.
        root: The name of the folder, file or URL that was asked for.
        path: The file, or "" for a page.
    """

    document_id: str
    uri: str
    root: str
    path: str = ""


class Root(msgspec.Struct, frozen=True):
    """What was asked for, with the documents in it.

    Attributes:
        name: Its stable name.
        is_folder: Whether documents that are gone from it are to be removed.
        documents: Sorted by path.
    """

    name: str
    is_folder: bool
    documents: tuple[Source, ...]


class Namer:
    """Gives files their names.

    Args:
        base: Folder that paths are named from; "" for absolute names that are shown from the current folder.
    """

    def __init__(self, base: str) -> None:
        self._base = Path(base).resolve() if base else None

    def stable(self, path: Path) -> str:
        """Return the name that identifies a path between runs."""
        path = _absolute(path)
        if self._base is not None and path.is_relative_to(self._base):
            return path.relative_to(self._base).as_posix()
        return path.as_uri()

    def shown(self, path: Path) -> str:
        """Return the name that people are shown."""
        path = _absolute(path)
        base = self._base or Path.cwd()
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_uri()


def is_url(source: str) -> bool:
    """Whether a source is a page and not a file."""
    return source.lower().startswith(("http://", "https://"))


def find(source: str, namer: Namer, exclude: Sequence[str] = ()) -> Root:
    """Return what a source holds. Blocking: walks folders.

    Args:
        source: A file, a folder or a URL.
        namer: Gives the names.
        exclude: Patterns as in .gitignore, relative to the folder.

    Raises:
        NotFound: If there is no such file or folder.
        InvalidRequest: If the URL has a user or password, or the path is neither file nor folder.
    """
    if is_url(source):
        url = _page(source)
        return Root(url, False, (Source(_id(url), url, url),))  # noqa: FBT003
    path = Path(source)
    if not path.exists():
        raise NotFound(f"there is no file or folder {source!r}")
    name = namer.stable(path)
    if path.is_dir():
        files = sorted(_walk(_absolute(path), exclude))
        return Root(name, True, tuple(_source(file, name, namer) for file in files))  # noqa: FBT003
    if not path.is_file():
        raise InvalidRequest(f"{source!r} is neither a file nor a folder")
    return Root(name, False, (_source(path, name, namer),))  # noqa: FBT003


def without_password(source: str) -> str:
    """Return a source as it may be shown: the user and password of a URL are left out."""
    return _CREDENTIALS.sub("//", source) if is_url(source) else source


def _page(source: str) -> str:
    try:
        parts = urlsplit(source)
        if parts.hostname and parts.port != 0 and "@" not in parts.netloc:
            return parts._replace(fragment="").geturl()
    except ValueError:
        pass
    raise InvalidRequest("cannot be read: it is no URL of a page, or has a user and password in it")


def _source(path: Path, root: str, namer: Namer) -> Source:
    return Source(_id(namer.stable(path)), namer.shown(path), root, str(path))


def _id(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _absolute(path: Path) -> Path:
    # Not resolve(): a link that people use as a folder's name stays its name.
    return Path(os.path.normpath(Path.cwd() / path))


def _walk(root: Path, exclude: Sequence[str]) -> Iterator[Path]:
    """Yield the readable kinds of files under a folder, without hidden and ignored ones."""
    rules = [*_rules_above(root), (root, pathspec.GitIgnoreSpec.from_lines(exclude))]
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        if (here != root and ".gitignore" in files) or (here == root and (root / ".gitignore").is_file()):
            rules.append((here, _read_rules(here)))
        in_force = [(top, spec) for top, spec in rules if here == top or top in here.parents]
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".")
            and name not in _NEVER
            and not _ignored(here / name, in_force, folder=True)
        ]
        for name in files:
            path = here / name
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES or _ignored(path, in_force):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                continue
            yield path


def _rules_above(root: Path) -> list[tuple[Path, pathspec.GitIgnoreSpec]]:
    """Return the .gitignore files between the top of the repository and the folder."""
    above: list[Path] = []
    for folder in (root, *root.parents):
        if folder != root:
            above.append(folder)
        if (folder / ".git").exists():
            return [(top, _read_rules(top)) for top in reversed(above)]
    return []


def _read_rules(folder: Path) -> pathspec.GitIgnoreSpec:
    try:
        lines = (folder / ".gitignore").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return pathspec.GitIgnoreSpec.from_lines(lines)


def _ignored(
    path: Path, rules: Sequence[tuple[Path, pathspec.GitIgnoreSpec]], *, folder: bool = False
) -> bool:
    """Whether the last rule that speaks of the path leaves it out."""
    ignored = False
    for top, spec in rules:
        verdict = spec.check_file(path.relative_to(top).as_posix() + ("/" if folder else "")).include
        ignored = ignored if verdict is None else verdict
    return ignored
