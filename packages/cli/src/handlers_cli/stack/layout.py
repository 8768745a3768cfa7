"""What the local stack consists of: parts, ports, folders."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from handler_base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the parts listen, all on the loopback interface."""

    nats: int = 4222
    inference: int = 8000
    chat_health: int = 8080

    def owners(self) -> dict[int, tuple[str, str]]:
        """Return the part and the option of each port."""
        return {
            self.nats: ("nats-server", "--nats-port"),
            self.inference: ("local-inference", "--inference-port"),
            self.chat_health: ("chat-handler's probes", "--health-port"),
        }


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What `handlers up` was asked for.

    Attributes:
        ports: Where the parts listen.
        docs: Paths and URLs to ingest; None for the repository's own documents.
        data: Where data and logs are kept; None for the default.
        verbose: Whether the logs of the parts are printed.
        question: Ask this when all is ready; "" for nothing.
        stay: Whether the stack stays up after the question.
    """

    ports: Ports = field(default_factory=Ports)
    docs: tuple[str, ...] | None = None
    data: Path | None = None
    verbose: bool = False
    question: str = ""
    stay: bool = False

    @property
    def one_question(self) -> bool:
        """Whether the stack is there for one question only."""
        return bool(self.question) and not self.stay


@dataclass(frozen=True, slots=True)
class Part:
    """A process of the stack.

    Attributes:
        name: What people call it.
        command: Program and arguments.
        environ: What is added to the environment.
        ready: How it tells that it is ready: a NATS greeting on `port`, `/readyz` on `port`, or by ending.
        port: Where it is asked.
        after: Parts that must be ready before it starts.
        partial: Exit code of a part that ended with some of its work undone; told, not fatal.
    """

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    ready: Literal["nats", "readyz", "exit"]
    port: int = 0
    after: tuple[str, ...] = ()
    partial: int = 0


def repository() -> Path | None:
    """Return the root of this repository when the current folder is inside it."""
    here = Path.cwd()
    return next(
        (
            folder
            for folder in (here, *here.parents)
            if (folder / "proto/messages/v1/messages.proto").is_file()
        ),
        None,
    )


def data_folder(options: StackOptions) -> Path:
    """Return where data and logs go: as asked, `.local` of the repository, or the user's data folder."""
    if options.data is not None:
        return options.data.absolute()
    root = repository()
    if root is not None:
        return root / ".local"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "handlers"


def documents(options: StackOptions) -> tuple[str, ...]:
    """Return the paths and URLs to ingest.

    Raises:
        ConfigError: If a path that was asked for is not there.
    """
    if options.docs is not None:
        missing = [doc for doc in options.docs if "://" not in doc and not Path(doc).exists()]
        if missing:
            raise ConfigError([f"--docs {doc}: there is no such file or folder" for doc in missing])
        return options.docs
    root = repository()
    return tuple(str(path) for name in ("README.md", "docs") if root and (path := root / name).exists())


def layout(options: StackOptions) -> list[Part]:
    """Return the parts in the order in which they are listed and, from the last to the first, stopped.

    Raises:
        ConfigError: If a program or a document is missing.
    """
    data, ports = data_folder(options), options.ports
    nats_url = f"nats://{HOST}:{ports.nats}"
    inference = f"http://{HOST}:{ports.inference}"
    endpoints = {
        "LLM_URL": os.environ.get("LLM_URL") or os.environ.get("VLLM_URL") or f"{inference}/llm",
        "EMBEDDINGS_URL": os.environ.get("EMBEDDINGS_URL") or f"{inference}/embeddings",
        "RERANKER_URL": os.environ.get("RERANKER_URL") or f"{inference}/reranker",
        "SQLITE_PATH": os.environ.get("SQLITE_PATH") or str(data / "knowledge.db"),
    }
    logs = {"LOG_FORMAT": os.environ.get("LOG_FORMAT") or "console"}
    parts = [
        Part(
            "nats-server",
            (_nats_server(), "-a", HOST, "-p", str(ports.nats), "-js", "-sd", str(data / "nats")),
            {},
            "nats",
            ports.nats,
        ),
        Part(
            "local-inference",
            (sys.executable, "-m", "local_inference"),
            logs | {"HOST": HOST, "PORT": str(ports.inference)},
            "readyz",
            ports.inference,
        ),
    ]
    if paths := documents(options):
        root = repository()
        parts.append(
            Part(
                "documents",
                (sys.executable, "-m", "document_ingestion", *paths),
                endpoints | ({"INGEST_BASE": str(root)} if root and options.docs is None else {}),
                "exit",
                after=("local-inference",),
                partial=1,
            )
        )
    parts.append(
        Part(
            "chat-handler",
            (sys.executable, "-m", "chat_handler"),
            {
                **logs,
                **endpoints,
                "NATS_URL": nats_url,
                "HEALTH_HOST": HOST,
                "HEALTH_PORT": str(ports.chat_health),
            },
            "readyz",
            ports.chat_health,
            after=("nats-server",),
        )
    )
    return parts


def check_ports(ports: Ports) -> None:
    """Make sure that every port is free.

    Raises:
        ConfigError: With a sentence for each one that is taken.
    """
    problems: list[str] = []
    for port, (owner, option) in ports.owners().items():
        with socket.socket() as probe:
            # As the servers do; else a port is refused for a minute after its last user left.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                problems.append(
                    f"port {port} for {owner} cannot be had ({reason}); stop what uses it, or choose another one "
                    f"with {option}, or with --port-offset for all"
                )
    if problems:
        raise ConfigError(problems)


def _nats_server() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ConfigError(["nats-server is not installed; `handlers up` needs handlers-cli[stack]"])
    return found
