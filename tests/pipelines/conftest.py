"""Steps of the Argo pipelines as their pods run them, with files and an LLM on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from handler_testkit.endpoints import HttpEndpoint
from handler_testkit.nats import free_port
from handler_testkit.services import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from handler_testkit.endpoints import Exchange, Script

ROOT = Path(__file__).resolve().parent.parent.parent
PIPELINES = ROOT / "deploy" / "pipelines"
STEPS = PIPELINES / "steps"

_PARAMETER = re.compile(r"\{\{inputs\.parameters\.([a-z-]+)\}\}")


async def finished(process: asyncio.subprocess.Process, seconds: float) -> str:
    """Wait for a process, and return what it said; one that takes longer is killed."""
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode()


def template(name: str) -> dict[str, Any]:
    """Return the `spec` of a WorkflowTemplate as it is in the repository."""
    return yaml.safe_load((PIPELINES / "argo" / f"{name}.yaml").read_text())["spec"]


@dataclass
class Done:
    """How a step ended."""

    code: int
    said: str
    out: Path

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the objects of a JSON Lines file that it left."""
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]

    def parameters(self) -> dict[str, str]:
        """Return the small files that it left: Argo makes parameters of them."""
        return {file.name: file.read_text() for file in self.out.iterdir() if not file.suffix}


@dataclass
class Bench:
    """Runs a step with the command and the environment that its WorkflowTemplate gives it.

    Attributes:
        out: The folder that is /out in its pod.
        web: Serves files and takes those that are PUT, by path; also the LLM, below /llm.
        files: What is there.
        uploads: What was PUT.
        llm: What the LLM does with a question.
    """

    out: Path
    files: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    llm: Script | None = None
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.web = HttpEndpoint(self._serve)

    async def _serve(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.path == "/llm/v1/models":
            await exchange.json({"data": [{"id": "first"}, {"id": "second"}]})
        elif request.path.startswith("/llm"):
            assert self.llm
            await self.llm(exchange)
        elif request.method == "PUT":
            self.uploads[request.path] = request.body
            await exchange.answer(status=201)
        elif request.path in self.files:
            await exchange.answer(self.files[request.path])
        else:
            await exchange.answer(b"no such file", 404)

    def serve(self, path: str, *records: object) -> str:
        """Serve a JSON Lines file; returns its address. A text is a line as it is."""
        lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
        self.files[path] = "".join(f"{line}\n" for line in lines).encode()
        return f"{self.web.url}{path}"

    def asked(self) -> list[dict[str, Any]]:
        """Return what the LLM was asked."""
        return [r.json() for r in self.web.requests if r.path == "/llm/v1/chat/completions"]

    def environment(self, name: str, **given: str) -> dict[str, str]:
        """Return what the container of a pipeline is told, `source_url` standing for source-url."""
        spec = template(name)
        (step,) = spec["templates"]
        values = {one["name"]: one.get("value") for one in spec["arguments"]["parameters"]}
        values |= {key.replace("_", "-"): value for key, value in given.items()}
        told = {"LLM_URL": f"{self.web.url}/llm", "LLM_PATIENCE": "10", "OUT": str(self.out), **self.environ}
        for variable in step["container"]["env"]:
            if "value" in variable:
                told[variable["name"]] = _PARAMETER.sub(lambda match: values[match[1]], variable["value"])
        return told

    async def run(self, name: str, **given: str) -> Done:
        """Run a pipeline's step to its end."""
        (step,) = template(name)["templates"]
        _, flags, program = step["container"]["command"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, flags, str(STEPS / Path(program).name),
            env={"PATH": os.environ["PATH"], **self.environment(name, **given)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said = await finished(process, 60)
        assert process.returncode is not None
        return Done(process.returncode, said, self.out)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Files, an LLM and a folder."""
    out = tmp_path / "out"
    out.mkdir()
    bench = Bench(out)
    async with bench.web:
        yield bench


@pytest.fixture(scope="session")
def inference() -> Iterator[str]:
    """The embedded inference endpoints, in a process of their own; their base address."""
    port = free_port()
    process = ServiceProcess("local_inference", {"PORT": str(port), "HOST": "127.0.0.1"})
    process.health_port = port
    try:
        process.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.close()


@pytest.fixture
def step_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Return a function that imports a step; its folder is on the path for the length of the test."""
    import importlib

    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(STEPS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (STEPS / f"{name}.py").exists():
            del sys.modules[name]
