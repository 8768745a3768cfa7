"""NATS: one connection, typed messages, durable work. Only this package imports nats-py."""

import gc
import os
import sys


def _import_nats() -> None:
    """Import nats-py, the largest part of a service's start, without what can be spared.

    To learn its own version it asks `importlib.metadata`, which brings zip files, compression and e-mail along: a
    tenth of the start. Without that module it goes on as version 0.0.0, so the version that the server shows is
    filled in after. Its many classes keep the garbage collector busy, which finds nothing in them.
    """
    if "nats" in sys.modules or "importlib.metadata" in sys.modules:
        return
    collecting = gc.isenabled()
    gc.disable()
    sys.modules["importlib.metadata"] = None  # pyright: ignore[reportArgumentType]
    try:
        import nats.aio.client
    finally:
        del sys.modules["importlib.metadata"]
        if collecting:
            gc.enable()
    for name in os.listdir(os.path.dirname(nats.__path__[0])):  # noqa: PTH120, PTH208  (pathlib takes a millisecond)
        if name.startswith("nats_py-") and name.endswith(".dist-info"):
            nats.aio.client.__version__ = name.removesuffix(".dist-info").rsplit("-", 1)[1]


_import_nats()
