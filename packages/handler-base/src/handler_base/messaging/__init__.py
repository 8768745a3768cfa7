"""NATS: one connection, typed messages, durable work. Only this package imports nats-py."""

import sys
from pathlib import Path


def _import_nats() -> None:
    """Import nats-py without what it loads only to learn its own version.

    It asks `importlib.metadata`, which brings zip files, compression and e-mail along: a tenth of a service's start.
    Without that module it goes on as version 0.0.0, so the version that the server shows is filled in after.
    """
    if "nats" in sys.modules or "importlib.metadata" in sys.modules:
        return
    sys.modules["importlib.metadata"] = None  # pyright: ignore[reportArgumentType]
    try:
        import nats.aio.client
    finally:
        del sys.modules["importlib.metadata"]
    for found in Path(nats.__path__[0]).parent.glob("nats_py-*.dist-info"):
        nats.aio.client.__version__ = found.name.removesuffix(".dist-info").rsplit("-", 1)[1]


_import_nats()
