"""What the local stack consists of: parts, ports, folders."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from handler_base.errors import ConfigError
from handlers_cli.stack import pipelines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOST = "127.0.0.1"


VOICE = ("stt-module", "tts-module", "voice-assistant")
"""Those that `--no-voice` leaves out."""

SERVICES = ("chat-handler", *VOICE, "pipeline-bridge")
"""In the order of their ports."""

# A minute of speech fits into one request; more than 8 MB the server does not recommend.
_SERVER_SETTINGS = """# Written by `handlers up` each time it starts.
max_payload: 8MB
"""


class Claim(NamedTuple):
    """A port, who listens there, and the option that moves it."""

    port: int
    owner: str
    option: str


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the parts listen, all on the loopback interface.

    Attributes:
        nats: nats-server.
        inference: local-inference.
        health: The probes of the first service; those of the others follow.
    """

    nats: int = 4222
    inference: int = 8000
    health: int = 8080

    def probes(self, service: str) -> int:
        """Return where a service's probes are."""
        return self.health + SERVICES.index(service)

    def claims(self, services: Sequence[str]) -> list[Claim]:
        """Return what listens where when these services run."""
        return [
            Claim(self.nats, "nats-server", "--nats-port"),
            Claim(self.inference, "local-inference", "--inference-port"),
            *(Claim(self.probes(name), f"{name}'s probes", "--health-port") for name in services),
        ]


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
        voice: Whether the services that hear and speak are part of it.
    """

    ports: Ports = field(default_factory=Ports)
    docs: tuple[str, ...] | None = None
    data: Path | None = None
    verbose: bool = False
    question: str = ""
    stay: bool = False
    voice: bool = True

    @property
    def services(self) -> tuple[str, ...]:
        """The services that run: one written question needs nobody but who answers it."""
        if self.one_question:
            return SERVICES[:1]
        return tuple(name for name in SERVICES if self.voice or name not in VOICE)

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
    endpoints = _endpoints(options)
    logs = {"LOG_FORMAT": os.environ.get("LOG_FORMAT") or "console"}
    parts = [
        Part(
            "nats-server",
            (
                *(_nats_server(), "-a", HOST, "-p", str(ports.nats), "-js", "-sd", str(data / "nats")),
                *("-c", str(_server_settings(data))),
            ),
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
        parts.append(
            Part(
                "documents",
                (sys.executable, "-m", "document_ingestion", *paths),
                ingestion(options),
                "exit",
                after=("local-inference",),
                partial=1,
            )
        )
    own = {"pipeline-bridge": pipelines.settings(data)}
    shared = {**logs, **endpoints, "NATS_URL": f"nats://{HOST}:{ports.nats}", "HEALTH_HOST": HOST}
    parts += [
        Part(
            name,
            (sys.executable, "-m", name.replace("-", "_")),
            shared | {"HEALTH_PORT": str(ports.probes(name))} | own.get(name, {}),
            "readyz",
            ports.probes(name),
            after=("nats-server",),
        )
        for name in options.services
    ]
    return parts


def ingestion(options: StackOptions) -> dict[str, str]:
    """Return what the environment of an ingestion adds to ours.

    The repository's own documents are named from its root: so they are the same ones however and from wherever they are
    ingested.
    """
    root = repository()
    return _endpoints(options) | ({"INGEST_BASE": str(root)} if root and options.docs is None else {})


def write_settings(options: StackOptions) -> None:
    """Write what nats-server and pipeline-bridge are told by files."""
    data = data_folder(options)
    _server_settings(data).write_text(_SERVER_SETTINGS)
    if "pipeline-bridge" in options.services:
        pipelines.write_catalogue(data, ingestion(options))


def can_speak(options: StackOptions) -> bool:
    """Whether what the stack needs for its voice is here."""
    silent = not set(VOICE) & set(options.services)
    return silent or bool(os.environ.get("TTS_URL")) or shutil.which("flite") is not None


def check_ports(options: StackOptions) -> None:
    """Make sure that every port is free.

    Raises:
        ConfigError: With a sentence for each one that is taken.
    """
    problems: list[str] = []
    claimed: dict[int, Claim] = {}
    for claim in options.ports.claims(options.services):
        advice = f"choose another one with {claim.option}"
        if other := claimed.get(claim.port):
            problems.append(f"port {claim.port} is for {other.owner} and for {claim.owner}; {advice}")
            continue
        claimed[claim.port] = claim
        with socket.socket() as probe:
            # As the servers do; else a port is refused for a minute after its last user left.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, claim.port))
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                problems.append(
                    f"port {claim.port} for {claim.owner} cannot be had ({reason}); stop what uses it, or {advice}, or "
                    "with --port-offset for all"
                )
    if problems:
        raise ConfigError(problems)


def _endpoints(options: StackOptions) -> dict[str, str]:
    """Return where each model and the knowledge base is: as the environment says, else here."""
    inference = f"http://{HOST}:{options.ports.inference}"
    endpoints = {
        names[0]: next(filter(None, map(os.environ.get, names)), f"{inference}/{path}")
        for path, names in (
            ("llm", ("LLM_URL", "VLLM_URL")),
            ("embeddings", ("EMBEDDINGS_URL",)),
            ("reranker", ("RERANKER_URL",)),
            ("whisper", ("WHISPER_URL", "STT_URL")),
            ("tts", ("TTS_URL",)),
        )
    }
    store = os.environ.get("SQLITE_PATH") or str(data_folder(options) / "knowledge.db")
    return endpoints | {"SQLITE_PATH": store}


def _server_settings(data: Path) -> Path:
    return data / "nats.conf"


def _nats_server() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ConfigError(["nats-server is not installed; `handlers up` needs handlers-cli[stack]"])
    return found
