"""Imports nats-py and the messages, half of a service's start, without what they load and do not use.

See docs/decisions/0005-start-up.md for what each of the four measures saves. None changes what the packages do:
what is left out is loaded as usual by whoever asks for it later.
"""

import dataclasses
import gc
import importlib.machinery
import importlib.util
import os
import reprlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

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


def _dataclass(cls: type | None = None, /, **options: Any) -> Any:
    """Make a dataclass whose `__repr__` and `__eq__` are shared, not written and compiled for each class.

    nats-py has fifty, of which a service compares and prints none. Where docstrings are left out, as in the images,
    `dataclasses` would make one up of the signature, which takes as long as a method.
    """
    if cls is not None and cls.__doc__ is None:
        cls.__doc__ = cls.__name__
    if cls is None or options:
        return _written(cls, **options)
    made: Any = _written(cls, repr=False, eq=False)
    for name, method in (("__repr__", _repr), ("__eq__", _eq)):
        if name not in cls.__dict__:
            setattr(made, name, method)
    if "__hash__" not in cls.__dict__:
        made.__hash__ = None  # as for every class with an `__eq__`
    return made


_written: Any = dataclasses.dataclass


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: object) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented
    names = [f.name for f in dataclasses.fields(self) if f.compare]
    return [getattr(self, name) for name in names] == [getattr(other, name) for name in names]


def _import_nats() -> None:
    """Import nats-py without `importlib.metadata`, which brings zip files, compression and e-mail along.

    nats-py asks it for its own version and goes on as version 0.0.0 without; the version that the server shows is
    filled in after.
    """
    if "nats" in sys.modules or "importlib.metadata" in sys.modules:
        return
    sys.modules["importlib.metadata"] = None  # pyright: ignore[reportArgumentType]
    written, dataclasses.dataclass = dataclasses.dataclass, _dataclass
    try:
        import nats.aio.client
    finally:
        dataclasses.dataclass = written
        del sys.modules["importlib.metadata"]
    for name in os.listdir(os.path.dirname(nats.__path__[0])):  # noqa: PTH120, PTH208  (pathlib takes a millisecond)
        if name.startswith("nats_py-") and name.endswith(".dist-info"):
            nats.aio.client.__version__ = name.removesuffix(".dist-info").rsplit("-", 1)[1]
