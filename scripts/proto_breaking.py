"""Fail when the wire contract breaks what the previous commit promised; see `buf breaking`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Compare with HEAD, and with the commit before it when there is one."""
    for ref in ("HEAD", "HEAD~1"):
        known = subprocess.run(
            ["git", "cat-file", "-e", f"{ref}:proto/buf.yaml"], cwd=ROOT, capture_output=True, check=False
        )
        if known.returncode:
            print(f"no wire contract at {ref} to compare with", file=sys.stderr)
            continue
        against = f".git#ref={ref},subdir=proto"
        if subprocess.run(
            ["buf", "breaking", "proto", "--against", against], cwd=ROOT, check=False
        ).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
