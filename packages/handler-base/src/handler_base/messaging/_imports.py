"""Imports nats-py and the messages, half of a service's start, without what they load and do not use.

See docs/decisions/0005-start-up.md for what each of the three measures saves. None changes what the packages do:
what is left out is loaded as usual by whoever asks for it later.
"""

import gc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

PURE_PYTHON_PROTOBUF = "google.protobuf.internal.python_message"
"""protobuf's own message classes in Python. They are imported beside upb, which takes their place."""


class _Defer:
    """A finder for one module that is executed when something in it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the module with a loader that waits; see `importlib.abc.MetaPathFinder`."""
        if fullname != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def import_nats_and_messages() -> None:
    """Import both; does nothing for what is imported already."""
    collecting = gc.isenabled()
    gc.disable()  # it would look through thousands of new classes and find nothing
    defer = _Defer(PURE_PYTHON_PROTOBUF)
    sys.meta_path.insert(0, defer)
    try:
        import handler_messages  # noqa: F401  # pyright: ignore[reportUnusedImport]

        _import_nats()
    finally:
        sys.meta_path.remove(defer)
        if collecting:
            gc.enable()


def _import_nats() -> None:
    """Import nats-py without `importlib.metadata`, which brings zip files, compression and e-mail along.

    nats-py asks it for its own version and goes on as version 0.0.0 without; the version that the server shows is
    filled in after.
    """
    if "nats" in sys.modules or "importlib.metadata" in sys.modules:
        return
    sys.modules["importlib.metadata"] = None  # pyright: ignore[reportArgumentType]
    try:
        import nats.aio.client
    finally:
        del sys.modules["importlib.metadata"]
    for name in os.listdir(os.path.dirname(nats.__path__[0])):  # noqa: PTH120, PTH208  (pathlib takes a millisecond)
        if name.startswith("nats_py-") and name.endswith(".dist-info"):
            nats.aio.client.__version__ = name.removesuffix(".dist-info").rsplit("-", 1)[1]
