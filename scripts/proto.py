"""Write the generated code of the wire contract, or with `--check` fail when it is not current."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "packages" / "messages" / "src" / "handler_messages"
FILES = ("messages_pb2.py", "messages_pb2.pyi")


def main() -> int:
    """Generate into a scratch folder, then compare or copy."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["buf", "generate", "-o", scratch], cwd=ROOT / "proto", check=True)
        fresh = {name: (Path(scratch) / "messages" / "v1" / name).read_text() for name in FILES}
    stale = [n for n, text in fresh.items() if not (TARGET / n).exists() or (TARGET / n).read_text() != text]
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"not current: {', '.join(stale)}; run `make proto`", file=sys.stderr)
        return bool(stale)
    for name in stale:
        (TARGET / name).write_text(fresh[name])
        print(f"wrote {(TARGET / name).relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
