"""Each member works with its declared dependencies alone, and importing the base is cheap."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = sorted([*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
HEAVY = {"nats", "httptools", "opentelemetry", "apsw", "uvloop", "ssl", "google.protobuf", "msgspec"}


def _uv() -> str:
    own = ROOT / ".uv" / "bin" / "uv"
    return shutil.which("uv") or str(own)


@pytest.mark.parametrize("path", PROJECTS, ids=lambda p: p.parent.name)
def test_a_member_can_be_imported_with_only_its_declared_dependencies(path: Path, tmp_path: Path) -> None:
    distribution = tomllib.loads(path.read_text())["project"]["name"]
    folder = path.parent / "src"
    package = next(p for p in folder.iterdir() if (p / "__init__.py").exists())
    modules = sorted(
        ".".join(f.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        for f in package.rglob("*.py")
    )
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules!r}]"
    if distribution == "handler-base":  # what its extras bring is imported where it is used
        code = f"import importlib; [importlib.import_module(m) for m in {modules!r} if '._' not in m]"
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("COV", "COVERAGE", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        [_uv(), "run", "--isolated", "--frozen", "--quiet", "--no-default-groups", "--package", distribution,
         "--python", sys.executable, "python", "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_importing_handler_base_pulls_in_nothing_heavy() -> None:
    code = "import sys, handler_base; print('\\n'.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not HEAVY & set(loaded.stdout.split())


def test_starting_a_service_loads_neither_telemetry_nor_tls_nor_stores_it_does_not_use() -> None:
    code = "import sys, chat_handler.__main__; print('\\n'.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"opentelemetry", "apsw", "sqlite_vec", "httptools", "google.protobuf.json_format"} & set(
        loaded.stdout.split()
    )
