"""One SQLite file of the knowledge base: how it is opened, checked and written in transactions."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from handler_base.clients.vectors import ENDPOINT
from handler_base.errors import ConfigError, UpstreamError, UpstreamProtocol, UpstreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import ModuleType

_APPLICATION = 0x68766563
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE collections (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL REFERENCES collections (id),
    document_id TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    source TEXT NOT NULL,
    uri TEXT NOT NULL,
    UNIQUE (collection, document_id)
);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (document, position)
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""


class Rows(Protocol):
    """What a statement returns."""

    def __iter__(self) -> Rows: ...
    def __next__(self) -> tuple[Any, ...]: ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rest of the rows."""
        ...


class Connection(Protocol):
    """The part of apsw's connection in use (its own stubs are only known in part)."""

    def execute(self, statements: str, bindings: Sequence[object] = (), /) -> Rows:
        """Run statements."""
        ...

    def changes(self) -> int:
        """Return how many rows the last statement changed."""
        ...

    def last_insert_rowid(self) -> int:
        """Return the number of the row inserted last."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class SqliteFile:
    """Opens the file when it is there, again when another was put in its place.

    Everything here belongs to one thread.

    Args:
        path: The file.
        busy_timeout: Seconds to wait for another process that writes.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._opened: Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._wrote = False

    def reader(self) -> Connection | None:
        """Return the connection, or None if nothing has been ingested."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self.close()
            return None
        if self._inode != (status.st_dev, status.st_ino):
            self.close()
        if self._opened is None:
            self._opened = self._open()
            self._inode = (status.st_dev, status.st_ino)
        return self._opened if _is_ours(self._opened) else None

    def writer(self) -> Connection:
        """Return the connection to a file that has our tables; make what is missing."""
        if (connection := self.reader()) is not None:
            self._wrote = True
            return connection
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self.reader()
        assert self._opened is not None
        with transaction(self._opened):
            if not _is_ours(self._opened):  # another process may have been quicker
                self._opened.execute(_SCHEMA)
        self._wrote = True
        return self._opened

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            if self._wrote:
                # Others may have it open, and would keep a log that does not fit a file put in its place.
                with contextlib.suppress(sqlite_library().Error):
                    self._opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._opened.close()
            self._opened = None
            self._wrote = False

    def _open(self) -> Connection:
        apsw = sqlite_library()
        # SQLite cannot keep its log beside a file on a read-only mount, and needs none there.
        mounted = not (os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK))
        uri = self._path.absolute().as_uri() + ("?immutable=1" if mounted else "")
        mode = apsw.SQLITE_OPEN_READONLY if mounted else apsw.SQLITE_OPEN_READWRITE
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_URI | mode)
        try:
            connection.set_busy_timeout(int(self._busy_timeout * 1000))
            _load_extension(connection)
            self._check(connection)
            if not mounted:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: Connection) -> None:
        # In this order: another process may be making the tables just now.
        used = connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
        if _is_ours(connection):
            version = _pragma(connection, "user_version")
            if version != _VERSION:
                raise UpstreamProtocol(
                    f"{self._path} was written by another version (format {version}, this one reads {_VERSION}): "
                    "ingest into a new file",
                    endpoint=ENDPOINT,
                )
        elif used:
            raise UpstreamProtocol(f"{self._path} belongs to another program", endpoint=ENDPOINT)


@contextlib.contextmanager
def transaction(connection: Connection) -> Generator[None]:
    """Write all of the block or nothing of it."""
    # IMMEDIATE waits for another writer here; a plain BEGIN would fail at the first write instead.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def sqlite_library() -> ModuleType:
    """Return apsw, imported at first use.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import apsw
    except ImportError as error:
        raise ConfigError([f"the SQLite store needs handler-base[sqlite]: {error}"]) from error
    return apsw


def mapped_error(error: Exception, path: Path) -> UpstreamError:
    """Return our error for one of apsw's."""
    apsw = sqlite_library()
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return UpstreamUnavailable(
            "the knowledge base is busy: another process writes to it", endpoint=ENDPOINT
        )
    if isinstance(error, apsw.NotADBError | apsw.CorruptError | apsw.FormatError):
        return UpstreamProtocol(f"{path} is not a knowledge base or is damaged: {error}", endpoint=ENDPOINT)
    return UpstreamUnavailable(f"the knowledge base {path} cannot be used: {error}", endpoint=ENDPOINT)


def _load_extension(connection: Any) -> None:
    # The library lies in its package, whose Python code would import numpy and the interpreter's own SQLite.
    found = importlib.util.find_spec("sqlite_vec")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(["the SQLite store needs handler-base[sqlite]: there is no sqlite-vec"])
    connection.enable_load_extension(True)  # noqa: FBT003  (takes no keyword)
    connection.load_extension(str(Path(found.submodule_search_locations[0]) / "vec0"))
    connection.enable_load_extension(False)  # noqa: FBT003


def _is_ours(connection: Connection) -> bool:
    return _pragma(connection, "application_id") == _APPLICATION


def _pragma(connection: Connection, name: str) -> int:
    return cast("int", connection.execute(f"PRAGMA {name}").fetchall()[0][0])
