"""Importing nats-py costs no more than it must, and the server still learns which version we are."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

CODE = """
import sys
import textwrap
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


def test_the_pure_python_half_of_protobuf_waits_until_somebody_wants_it() -> None:
    code = """
        import sys
        import handler_base.messaging
        print("google.protobuf.internal.decoder" in sys.modules, type(sys.meta_path[0]).__name__)
        from google.protobuf import json_format, text_format
        from google.protobuf.internal import python_message
        from handler_messages import ChatRequest
        assert python_message.GeneratedProtocolMessageType
        request = ChatRequest(message="hello")
        assert json_format.MessageToDict(request) == {"message": "hello"}
        assert str(request) == text_format.MessageToString(request)
        import gc
        assert gc.isenabled()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True, timeout=60
    )
    loaded, first_finder = done.stdout.split()
    assert loaded == "False"
    assert first_finder != "_Defer"


DATACLASSES = """
{first}
import dataclasses
import nats.aio.client
from nats.aio.msg import Msg
from nats.js import api, kv

assert dataclasses.dataclass.__module__ == "dataclasses"
made = [api.StreamConfig(name="A", subjects=["a.>"]), api.StreamConfig(name="B"), api.ConsumerConfig(durable_name="d")]
made += [Msg(_client=None, subject="s", data=b"x"), api.PubAck(stream="A", seq=1), api.Placement(cluster="c")]
for value in made:
    print(repr(value), value == dataclasses.replace(value), value != made[1], value == 3)
    print(sorted(f.name for f in dataclasses.fields(value)), type(value).__match_args__)
    try:
        print(hash(value))
    except TypeError as error:
        print(error)
made[0].placement = made[0]
print("a circle", repr(made[0]))
print(kv.KeyValue.Entry.__hash__ is not None)
print(api.PubAck(stream="A", seq=1) == api.PubAck(stream="A", seq=2))
"""


def test_dataclasses_of_nats_print_compare_and_hash_as_if_written_by_the_standard_library() -> None:
    def said(first: str) -> str:
        code = DATACLASSES.format(first=first)
        return subprocess.run(
            [sys.executable, "-S", "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip

    ours = said("import handler_base.messaging")
    assert "_dataclass" not in ours
    assert ours == said("import nats")
    assert "StreamConfig(name='A'" in ours
    assert "unhashable" in ours
