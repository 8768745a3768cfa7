"""The real Milvus 2.3.5 (PyPI `milvus`), which speaks REST v1, as something a test can use.

It listens on every interface and on etcd's fixed ports, so it runs in a network namespace of its own; see `_netns`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import lzma
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

START_TIMEOUT = 90.0
"""Seconds to wait for the server to answer."""

_PROXY_PORT = 19530
_SETTING = re.compile(r"\{\{\s*(\w+)(?:\(\w+\))?\s*(?::\s*(.*?))?\s*\}\}")


class MilvusUnavailable(Exception):
    """This machine cannot run Milvus; the message says why."""


class MilvusServer:
    """One Milvus process on a free port of 127.0.0.1 that asks for a token.

    Attributes:
        host: Where it listens.
        port: Its port for REST.
        token: The token of its administrator, `user:password`.
    """

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.token = "root:Milvus"
        self.home = Path(tempfile.mkdtemp(prefix="milvus-"))
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            MilvusUnavailable: If the package is not installed or no network namespace may be made.
            RuntimeError: If it ends or does not answer in time; the message holds the end of its log.
        """
        data = _package_data()
        libraries = _unpack(data)
        self._configure(data)
        unshare = [*_unshare(), sys.executable, "-m", "handler_testkit._netns"]
        command = [str(libraries / "milvus"), "run", "standalone"]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*unshare, str(self._listener.fileno()), str(_PROXY_PORT), "--", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.home,
                pass_fds=[self._listener.fileno()],
                env=os.environ
                | {
                    "DEPLOY_MODE": "STANDALONE",
                    "LD_LIBRARY_PATH": str(libraries),
                    "MILVUSCONF": str(self.home / "configs"),
                    "MILVUS_RUN_DIR": str(self.home / "run"),
                },
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.1)
        tail = self.log()[-4000:]
        self.close()
        raise RuntimeError(f"Milvus did not start:\n{tail}")

    def log(self) -> str:
        """Return what the server has logged so far."""
        path = self.home / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """Kill it and remove its files."""
        self._listener.close()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None
        shutil.rmtree(self.home, ignore_errors=True)

    def _configure(self, data: Path) -> None:
        values = {
            "authorization_enabled": "true",
            "etcd_data_dir": str(self.home / "data" / "etcd"),
            "etcd_log_path": str(self.home / "etcd.log"),
            "local_storage_dir": str(self.home / "data"),
            "rocksmq_data_dir": str(self.home / "data" / "rocksmq"),
            "system_log_path": str(self.home / "logs"),
        }

        def value(match: re.Match[str]) -> str:
            return values.get(match[1], match[2] or "")

        template = (data / "config.yaml.template").read_text()
        text = re.sub(r"(?m)^  ip:.*$", "  ip: 127.0.0.1", _SETTING.sub(value, template))
        (self.home / "configs").mkdir()
        (self.home / "configs" / "milvus.yaml").write_text(text)
        shutil.copy(data / "glog.conf", self.home / "configs")

    def _answers(self) -> bool:
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}/v1/vector/collections",
            headers={"Authorization": f"Bearer {self.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return json.load(response).get("code") == 200
        except (OSError, ValueError):
            return False


@contextlib.contextmanager
def milvus_server() -> Generator[MilvusServer]:
    """Run a Milvus for the length of a `with` block.

    Raises:
        MilvusUnavailable: If this machine cannot run it.
    """
    server = MilvusServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


def _package_data() -> Path:
    found = importlib.util.find_spec("milvus")
    if found is None or not found.submodule_search_locations:
        raise MilvusUnavailable("the package milvus is not installed; `make test` installs it")
    return Path(found.submodule_search_locations[0]) / "data"


def _unpack(data: Path) -> Path:
    """Unpack the binaries once per environment, beside the interpreter that runs the tests."""
    target = Path(sys.prefix) / ".cache" / "milvus"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=target.parent))
        for packed in (data / "bin").glob("*.lzma"):
            with lzma.open(packed) as source, (fresh / packed.stem).open("wb") as unpacked:
                shutil.copyfileobj(source, unpacked)
            (fresh / packed.stem).chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:  # another test run was quicker
            shutil.rmtree(fresh, ignore_errors=True)
    return target


def _unshare() -> list[str]:
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MilvusUnavailable(f"no network namespace may be made here: {error}") from error
    return command
