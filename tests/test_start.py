"""What a service loads at its start: nothing that only its work needs, and protobuf without its own Python."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HANDLERS = ["chat_handler", "pipeline_bridge", "stt_module", "tts_module", "voice_assistant"]

# docs/decisions/0005-start-up.md says what each of them takes of a start.
LATER = [
    "google.protobuf.internal.decoder",
    "google.protobuf.text_format",
    "importlib.metadata",
    "importlib.resources",
    "opentelemetry",
    "pickle",
    "webrtcvad",
    "handler_base.conversation.speech",
    "handler_base.http._connection",
]


@pytest.mark.parametrize("service", HANDLERS)
def test_a_service_starts_without_what_only_its_work_needs(service: str) -> None:
    code = f"import sys, {service}.__main__; print([m for m in {LATER!r} if m in sys.modules])"
    # Under coverage a child process is traced, too, and the tracer loads modules of its own.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plain)
    assert done.stdout.strip() == "[]"
