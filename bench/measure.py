"""What `run.py`, `budgets.py` and `services.py` share: the machine, the processes, and one round of measurements.

All programs run against the same nats-server and the same scripted endpoint, one at a time, in turn, each round in a
fresh process; the figure of a run is the median over its rounds, of a start the fastest: other work on the machine only
ever adds to it. Ratios are of figures from the same run.
"""

import compileall
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from handler_testkit.nats import NatsServer, free_port, nats_server, server_binary

HERE = Path(__file__).parent
ROOT = HERE.parent

# Program → environment (see the Makefile) and arguments of its interpreter.
PROGRAMS = {
    "chat-handler": ("handler", ("-m", "chat_handler")),
    "FastStream + httpx": ("peer", ("-m", "peer_faststream")),
    "stock httpx relay": ("peer", ("-m", "peer_relay")),
    "`faststream run`": ("peer", ("-m", "faststream", "run", "peer_faststream:app")),
}
HANDLER, PEER, RELAY, PEER_COMMAND = PROGRAMS
SERVICES = ("pipeline-bridge", "stt-module", "tts-module", "voice-assistant")
PROGRAMS |= {service: (service, ("-m", service.replace("-", "_"))) for service in SERVICES}
VERSIONS = {"handler": ("nats-py", "protobuf", "msgspec", "uvloop"), "peer": ("faststream", "httpx")}

STARTS = ("subscribed_ms", "answered_ms")

Figures = dict[str, dict[str, list[float]]]
"""Program → figure → one value per round."""


@dataclass
class Plan:
    """What one round measures.

    Attributes:
        rounds: How often everything is done.
        unary: Requests in flight, one measurement each.
        streams: Streams side by side, one measurement each.
        seconds: Length of one measurement.
        starts: Further starts of each program per round, in turn, for start-up alone.
    """

    rounds: int
    unary: tuple[int, ...]
    streams: tuple[int, ...]
    seconds: float
    starts: int


@dataclass
class Bench:
    nats: NatsServer
    llm_url: str
    environ: dict[str, str] = field(default_factory=dict)
    starts: dict[str, dict[str, object]] = field(default_factory=dict)
    """Program → the job of the load that waits for its start, where it is another than that of `load.py`."""

    def launch(self, program: str) -> tuple[subprocess.Popen[bytes], dict[str, float]]:
        """Start a program and return it with the times until it was subscribed and until it answered."""
        load = self.load(self.starts.get(program, {"mode": "start"}))
        assert load.stdout
        assert load.stdin
        assert load.stdout.readline() == b"polling\n"
        log = (ROOT / ".cache" / "bench.log").open("ab")
        spawned = time.monotonic_ns()
        process = subprocess.Popen(command(program), env=self.environ, cwd=HERE, stdout=log, stderr=log)
        log.close()
        try:
            load.stdin.write(b"%d\n" % spawned)
            load.stdin.close()
            while load.poll() is None:
                if process.poll() is not None:
                    raise RuntimeError(f"{program} ended at once; see .cache/bench.log")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    load.wait(0.2)
            if load.returncode:
                raise RuntimeError(f"{program} did not answer; see .cache/bench.log")
            return process, json.loads(load.stdout.read())
        except BaseException:
            end(process)
            end(load)
            raise

    def load(self, job: dict[str, object]) -> subprocess.Popen[bytes]:
        job = {"nats": self.nats.url, **job}
        script = str(job.pop("script", "load.py"))
        return subprocess.Popen(
            [sys.executable, str(HERE / script), json.dumps(job)],
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, process: subprocess.Popen[bytes], **job: object) -> dict[str, float]:
        load = self.load({"pid": process.pid, **job})
        out, _ = load.communicate(timeout=120)
        if load.returncode:
            raise RuntimeError(f"the load failed: {job}; see above and .cache/bench.log")
        return json.loads(out)

    def round(self, program: str, plan: Plan) -> dict[str, float]:
        """Measure one program once. The relay only streams."""
        process, times = self.launch(program)
        try:
            time.sleep(0.5)
            found = {**times, "rss_ready_mb": rss_mb(process.pid)}
            if program == RELAY:
                found = {}
            else:
                self.ask(process, mode="unary", in_flight=16, requests=1000)
                time.sleep(0.2)
                found["rss_1000_mb"] = rss_mb(process.pid)
                for number in plan.unary:
                    result = self.ask(
                        process, mode="unary", in_flight=number, warm_up=0.4, seconds=plan.seconds
                    )
                    found[f"unary_{number}_cpu_us"] = result["cpu_us"]
                    found[f"unary_{number}_per_second"] = result["per_second"]
                    found[f"unary_{number}_p99_ms"] = result["p99_ms"]
            for number in plan.streams:
                result = self.ask(process, mode="stream", in_flight=number, warm_up=0.5, seconds=plan.seconds)
                for name in ("cpu_us", "p50_ms", "p99_ms"):
                    found[f"stream_{number}_{name}"] = result[name]
            return found
        finally:
            end(process)


def add(figures: Figures, more: Figures) -> None:
    """Put the rounds of another run to those of this one."""
    for program, found in more.items():
        mine = figures.setdefault(program, {})
        for name, values in found.items():
            mine.setdefault(name, []).extend(values)


@dataclass(frozen=True)
class Row:
    """One budget.

    Attributes:
        what: What is bounded.
        budget: The bound, in words.
        measured: The figure, in words.
        share: The figure divided by the bound; up to 1 it holds.
        timed: Whether other work on the machine can change it.
    """

    what: str
    budget: str
    measured: str
    share: float
    timed: bool = True

    def verdict(self, *, noisy: bool) -> str:
        if self.share <= 1:
            return "pass"
        return "noise" if noisy and self.timed and self.share <= NOISE_SHARE else "FAIL"


QUIET_SPREAD = 1.12
"""Median ÷ fastest start of the peer: 1.04 to 1.06 on a quiet machine, 1.3 to 1.4 on one that others use as well."""
NOISE_SHARE = 1.5
"""How far a timed figure may be over its bound on a machine that is not quiet before it counts as missed all the same."""


def is_noisy(starts: list[float]) -> bool:
    """Whether the machine had other work; told from the peer's starts, which no change of ours can slow down."""
    return statistics.median(starts) / min(starts) > QUIET_SPREAD


def show(checked: list[Row], *, noisy: bool) -> int:
    """Print every budget with its figure and whether it holds; return 1 when one is missed."""
    verdicts = [row.verdict(noisy=noisy) for row in checked]
    wide = [max(len(getattr(row, name)) for row in checked) for name in ("what", "budget")]
    for row, verdict in zip(checked, verdicts, strict=True):
        print(f"{verdict:<5}  {row.what:<{wide[0]}}  {row.budget:<{wide[1]}}  {row.measured}")
    failed, unsure = verdicts.count("FAIL"), verdicts.count("noise")
    if unsure:
        print(
            f"{unsure} of {len(checked)} cannot be told: the machine is busy with other work, see QUIET_SPREAD"
        )
    if failed:
        print(f"{failed} of {len(checked)} budgets are missed")
    elif not unsure:
        print(f"all {len(checked)} budgets hold")
    return 1 if failed else 0


def load_average() -> float:
    """How busy the machine is with other work, in cores; says so when that spoils the figures."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is not quiet (load {load:.1f}); figures will be noisy", file=sys.stderr)
    return load


def measure(plan: Plan) -> Figures:
    """Run the plan; tells on standard error where it is."""
    figures: Figures = {program: {} for program in (HANDLER, PEER, RELAY, PEER_COMMAND)}

    def note(program: str, found: dict[str, float]) -> None:
        for name, value in found.items():
            figures[program].setdefault(name, []).append(value)

    with bench() as running:
        for number in range(1, plan.rounds + 1):
            for program in (HANDLER, PEER, RELAY):
                tell(f"round {number} of {plan.rounds}: {program}")
                note(program, running.round(program, plan))
            tell(f"round {number} of {plan.rounds}: starts")
            for _ in range(plan.starts):
                for program in (HANDLER, PEER, PEER_COMMAND):
                    note(program, start_only(running, program))
    tell("")
    return figures


def tell(text: str) -> None:
    """Say on standard error where the run is; nothing clears the line."""
    print(f"\r{text:<60}" if text else f"\r{'':<60}\r", end="", file=sys.stderr, flush=True)


def start_only(running: Bench, program: str) -> dict[str, float]:
    process, times = running.launch(program)
    end(process)
    return times


@contextlib.contextmanager
def bench() -> Generator[Bench]:
    """Byte-compile, then run nats-server and the endpoint for the length of a `with` block."""
    for folder in (HERE, ROOT / "packages", ROOT / "services"):
        compileall.compile_dir(folder, quiet=2)
    (ROOT / ".cache").mkdir(exist_ok=True)
    (ROOT / ".cache" / "bench.log").write_bytes(b"")
    port = free_port()
    # Byte code is part of what we compare, and nothing of the caller's settings is.
    ours = (
        "OTEL_", "NATS_", "LLM_", "VLLM_", "LOG_", "PYTHON", "EMBEDDINGS_", "RERANKER_", "WHISPER_", "STT_", "TTS_",
        "ARGO_", "KUBEFLOW_", "PIPELINE",
    )  # fmt: skip
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    with nats_server() as nats:
        environ |= {
            "NATS_URL": nats.url,
            "LLM_URL": f"http://127.0.0.1:{port}",
            "LLM_MODEL": "bench",
            "HEALTH_PORT": "0",
            "MAX_IN_FLIGHT": "256",
        }
        upstream = subprocess.Popen(
            [sys.executable, str(HERE / "upstream.py"), str(port)], env=environ, stdout=subprocess.PIPE
        )
        try:
            assert upstream.stdout
            assert upstream.stdout.readline() == b"listening\n"
            yield Bench(nats, environ["LLM_URL"], environ)
        finally:
            end(upstream)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


def summary(name: str, values: list[float]) -> float:
    """One figure for many rounds."""
    return min(values) if name in STARTS else statistics.median(values)


def figure(figures: Figures, program: str, name: str) -> float:
    return summary(name, figures[program][name])


IN_IMAGES: dict[str, list[str]] = {}
"""Program → command that runs it inside the file system of its image; see `images.py`."""


def command(program: str) -> list[str]:
    if program in IN_IMAGES:
        return IN_IMAGES[program]
    environment, arguments = PROGRAMS[program]
    return [python(environment), *arguments]


def python(environment: str) -> str:
    return str(ROOT / ".cache" / "bench" / environment / "bin" / "python")


def versions(environment: str) -> dict[str, str]:
    code = f"""
import importlib.metadata, json
print(json.dumps({{name: importlib.metadata.version(name) for name in {VERSIONS[environment]!r}}}))
"""
    done = subprocess.run([python(environment), "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def facts(load: float) -> dict[str, object]:
    """The machine and the versions that a figure is worth nothing without; `load` as it was before the run."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model,
        "load before": round(load, 2),
        "python": platform.python_version(),
        "nats-server": subprocess.run([server_binary(), "-v"], capture_output=True, text=True, check=True)
        .stdout.strip()
        .rsplit("v", 1)[-1],
        **versions("handler"),
        **versions("peer"),
    }


def save(name: str, figures: Figures, known: dict[str, object]) -> None:
    """Write a run to `results/`, its figures first; older runs are in the history of the repository."""
    file = HERE / "results" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    summaries = {
        program: {key: round(summary(key, values), 2) for key, values in found.items()}
        for program, found in figures.items()
    }
    rounds = {
        program: {key: [round(value, 2) for value in values] for key, values in found.items()}
        for program, found in figures.items()
    }
    file.write_text(json.dumps({"facts": known, "figures": summaries, "rounds": rounds}, indent=1) + "\n")


def write_readme(text: str, section: str) -> None:
    """Replace what stands between the two marks of a section in README.md."""
    readme = HERE / "README.md"
    before, begin, rest = readme.read_text().partition(f"<!-- {section}:")
    mark, _, rest = rest.partition("-->")
    _, finish, after = rest.partition(f"<!-- end of {section} -->")
    readme.write_text(f"{before}{begin}{mark}-->\n\n{text}\n\n{finish}{after}")
