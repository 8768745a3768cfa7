import subprocess
import sys
from pathlib import Path

import pipeline_bridge

HEAVY = {"asyncio", "dataclasses", "inspect", "msgspec", "pathlib", "subprocess", "threading", "typing"}


def test_a_supervisor_imports_little_and_nothing_of_the_bridge():
    script = "import sys, pipeline_bridge.supervisor.__main__; print(*sys.modules)"
    where = str(Path(pipeline_bridge.__file__).parent.parent)
    printed = subprocess.run(
        [sys.executable, "-SPc", script],
        env={"PYTHONPATH": where},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    modules = set(printed.split())
    ours = {name for name in modules if name.split(".")[0] in {"pipeline_bridge", "handler_base"}}
    assert {name.removeprefix("pipeline_bridge.") for name in ours} == {
        "pipeline_bridge",
        "supervisor",
        *(f"supervisor.{name}" for name in ("__main__", "command", "folder", "output", "processes")),
    }
    assert not modules & HEAVY
