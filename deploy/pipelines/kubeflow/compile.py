# /// script
# requires-python = ">=3.11"
# dependencies = ["kfp>=2.16", "kfp-kubernetes>=2.16"]
#
# [tool.uv]
# exclude-newer = "7 days"
# ///
"""Compile the Kubeflow pipelines beside this file: `make pipelines`, or `compile.py --check` to see whether they are stale.

The SDK needs an older protobuf than the workspace has. So it has an environment of its own, which uv makes from the comment
above and the lock file compile.py.lock.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from kfp import compiler
from rag_query import rag_query
from voice_pipeline import voice_pipeline

FOLDER = Path(__file__).resolve().parent
PIPELINES = {"rag-query.yaml": rag_query, "voice-pipeline.yaml": voice_pipeline}


def main() -> int:
    """Write the compiled pipelines, or compare them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file would change")
    options = parser.parse_args()
    stale: list[str] = []
    for name, pipeline in PIPELINES.items():
        text = compiled(pipeline)
        file = FOLDER / name
        if not options.check:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
    for name in stale:
        sys.stderr.write(f"{name} is not what its sources compile to: make pipelines\n")
    return 1 if stale else 0


def compiled(pipeline: object) -> str:
    """Return what a pipeline compiles to."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
