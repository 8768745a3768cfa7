"""Importing nats-py costs no more than it must, and the server still learns which version we are."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import sys
{before}
import handler_base.messaging
import nats.aio.client
print("zipfile" in sys.modules)
import importlib.metadata
assert nats.aio.client.__version__ == importlib.metadata.version("nats-py"), nats.aio.client.__version__
"""


def run(before: str) -> str:
    done = subprocess.run(
        [sys.executable, "-S", "-c", CODE.format(before=before)],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_nats_is_imported_without_the_machinery_of_package_metadata() -> None:
    assert run("") == "False"


def test_where_that_machinery_is_loaded_already_it_is_used() -> None:
    assert run("import importlib.metadata") == "True"


def test_where_nats_is_loaded_already_nothing_changes() -> None:
    assert run("import nats") == "True"
