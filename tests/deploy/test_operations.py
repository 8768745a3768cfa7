"""docs/operations.md: each step is a command that works, as far as that can be told without a cluster."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from handler_base.messaging.streams import STREAMS
from handler_delivery.errors import DeliveryError
from handler_delivery.manifests.check import Checker
from handler_delivery.manifests.kubectl import kubectl
from handler_delivery.manifests.references import FROM_OUTSIDE
from handler_delivery.manifests.render import Rendering, dig, items, render
from handler_delivery.workspace import Workspace
from handlers_cli.__main__ import _parser

from .conftest import ROOT, USERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GUIDE = (ROOT / "docs" / "operations.md").read_text()
MIB = 1024 * 1024
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
FIRST = GUIDE[: GUIDE.index("## Upgrading")]
STEPS = [block.strip() for block in BLOCK.findall(FIRST)]
REST = [line.strip() for block in BLOCK.findall(GUIDE[len(FIRST) :]) for line in block.splitlines()]
COMMANDS = [*STEPS, *REST]

# Stands in for a program of the cluster: writes down its arguments; a Secret's password is `p` and the name in hex.
RECORDER = """#!/bin/bash
printf '%s' "$(basename "$0")" >> "$RECORD"
printf '\\t%s' "$@" >> "$RECORD"
printf '\\n' >> "$RECORD"
if [[ "$*" == *"get secret"* ]]; then printf cGFzc3dvcmQ=; fi
"""


@pytest.fixture(scope="module")
def tool() -> Path:
    try:
        return kubectl(ROOT / ".cache" / "tools")
    except DeliveryError as error:
        pytest.skip(f"kubectl cannot be had here: {error}")


@pytest.fixture(scope="module")
def home(tool: Path) -> Rendering:
    return render(tool, ROOT / "deploy" / "overlays" / "home")


@pytest.fixture(scope="module")
def flux(tool: Path) -> Rendering:
    return render(tool, ROOT / "deploy" / "flux" / "home")


class Walk:
    """What the steps did, on a copy of the repository and with recorders in place of the cluster's programs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "handlers"
        for name in ("deploy", "docs"):
            shutil.copytree(ROOT / name, self.root / name)
        programs = folder / "bin"
        programs.mkdir()
        for name in ("kubectl", "flux", "git", "make"):
            (programs / name).write_text(RECORDER)
            (programs / name).chmod(0o755)
        (self.root / ".venv" / "bin").mkdir(parents=True)
        (self.root / ".venv" / "bin" / "handlers").write_text(
            RECORDER + 'printf "$NATS_USER\\t$NATS_PASSWORD\\t$NATS_INBOX_PREFIX\\n" >> "$RECORD"\n'
        )
        (self.root / ".venv" / "bin" / "handlers").chmod(0o755)
        record = folder / "record"
        environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "RECORD": str(record)}
        script = "set -eu\n" + "\n".join(STEPS).replace("&& cd handlers", "")
        done = subprocess.run(
            ["bash", "-c", f"{script}\nwait"], cwd=self.root, env=environ, input="ada\nt0ken\n",
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.calls = [line.split("\t") for line in record.read_text().splitlines()]

    def of(self, *words: str) -> list[list[str]]:
        """Return the calls that have all these words."""
        return [call for call in self.calls if set(words) <= set(call)]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    return Walk(tmp_path_factory.mktemp("walk"))


def test_there_are_fewer_than_twenty_steps_each_one_command() -> None:
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", FIRST, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(STEPS) == len(numbers) < 20
    for step in STEPS:
        assert "\n" not in step, step


def test_the_steps_make_every_secret_and_configmap_that_is_needed_and_no_other(
    walk: Walk, home: Rendering, flux: Rendering
) -> None:
    made = {
        ("Secret", call[call.index("secret") + 2], call[call.index("-n") + 1])
        for call in walk.of("secret", "create")
    }
    made |= {
        ("ConfigMap", call[call.index("configmap") + 1], call[call.index("-n") + 1])
        for call in walk.of("configmap")
    }
    needed = {(kind, name, "ai") for kind, name in _needed(home)}
    needed |= {("Secret", name, "flux-system") for name in _secret_refs(flux)}
    needed |= {("Secret", f"nats-{user}", "ai") for user in USERS}
    assert made == needed


def _needed(rendering: Rendering) -> Iterator[tuple[str, str]]:
    """Yield what the pods need and the rendering does not hold, optional things left out."""
    for item in rendering.objects:
        for found in _walk(item.body):
            optional = found.get("optional")
            for kind, names in FROM_OUTSIDE.items():
                for name in (found.get("name"), found.get("secretName")):
                    if name in names and not optional and rendering.find(kind, str(name)) is None:
                        yield kind, str(name)


def _walk(body: Any) -> Iterator[dict[str, Any]]:
    if isinstance(body, dict):
        yield body
        for value in body.values():
            yield from _walk(value)
    elif isinstance(body, list):
        for value in body:
            yield from _walk(value)


def _secret_refs(rendering: Rendering) -> set[str]:
    found = {dig(item.body, "spec", "secretRef", "name") for item in rendering.objects}
    return {str(name) for name in found if name}


def test_passwords_are_all_different_and_nats_reads_them_as_text(walk: Walk) -> None:
    passwords = {
        word.partition("=")[2].removeprefix("password=")
        for call in walk.of("secret", "create", "generic", "ai")
        for word in call
        if word.startswith("--from-literal=password=")
    }
    assert len(passwords) == len(USERS)
    for password in passwords:
        assert re.fullmatch(r"p[0-9a-f]{48}", password)


def test_the_documents_fit_into_a_configmap(walk: Walk) -> None:
    (call,) = walk.of("configmap")
    folders = [word.partition("=")[2] for word in call if word.startswith("--from-file=")]
    files = [file for folder in folders for file in (ROOT / folder).iterdir() if file.is_file()]
    assert len({file.name for file in files}) == len(files) > 5
    assert sum(file.stat().st_size for file in files) < 1024 * 1024


def test_one_command_names_another_registry_everywhere_and_all_checks_still_hold(
    walk: Walk, tool: Path
) -> None:
    text = "".join(file.read_text() for file in (walk.root / "deploy").rglob("*.yaml"))
    assert "git.example.com" not in text
    assert "url: https://git.home.lan/ada/handlers.git" in text
    assert "newName: git.home.lan/ada/chat-handler #" in text
    contracts = ROOT / ".." / "shared" / "contracts"
    checker = Checker(
        workspace=Workspace(ROOT),
        deploy=walk.root / "deploy",
        contracts=contracts if contracts.is_dir() else None,
        tool=tool,
    )
    assert checker.problems() == []


def example(word: str) -> str:
    """Return the one example of an overlay that has a word in it."""
    blocks: list[str] = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


@pytest.mark.parametrize("volume", ["ConfigMap", "PersistentVolumeClaim"])
def test_an_overlay_may_bring_voices_as_the_guide_says(tmp_path: Path, tool: Path, volume: str) -> None:
    block = example("VOICES_DIR")
    if volume == "PersistentVolumeClaim":
        assert "`persistentVolumeClaim: { claimName: voices }`" in GUIDE
        before, _, rest = block.partition("          configMap:\n")
        after = rest[rest.index("      - op: add") :]
        block = f"{before}          persistentVolumeClaim: {{ claimName: voices }}\n{after}"
    rendering = laid_over_home(tmp_path, tool, block)
    speaking = rendering.find("Deployment", "tts-module")
    assert speaking
    assert {"name": "voices", "mountPath": "/voices", "readOnly": True} in speaking.containers[0][
        "volumeMounts"
    ]


def test_an_overlay_may_show_kubeflow_a_token_as_the_guide_says(tmp_path: Path, tool: Path) -> None:
    rendering = laid_over_home(tmp_path, tool, example("KUBEFLOW_TOKEN_FILE"))
    bridge = rendering.find("Deployment", "pipeline-bridge")
    assert bridge
    (volume,) = [one for one in items(bridge.pod, "volumes") if one["name"] == "kubeflow"]
    (source,) = items(volume, "projected", "sources")
    assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"


def laid_over_home(folder: Path, tool: Path, block: str) -> Rendering:
    """Render an overlay that adds to `home`, and see that nothing is wrong with it."""
    deploy = folder / "deploy"
    shutil.copytree(ROOT / "deploy", deploy)
    overlay = deploy / "overlays" / "mine"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(f"namespace: ai\nresources: [../home]\n{block}")
    assert Checker(workspace=Workspace(ROOT), deploy=deploy, contracts=None, tool=tool).problems() == []
    return render(tool, overlay)


def test_the_last_step_asks_as_frontend_with_its_password(walk: Walk) -> None:
    (asked,) = [call for call in walk.calls if call[:2] == ["handlers", "ask"]]
    assert asked[2].startswith("Which subject")
    assert ["frontend", base64.b64decode("cGFzc3dvcmQ=").decode(), "_INBOX_frontend"] in walk.calls


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_sound(command: str, tool: Path, home: Rendering, flux: Rendering) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True, timeout=10)
    for path in re.findall(r"(?<![\w/.])(?:deploy|docs)/[\w./-]+", command):
        assert (ROOT / path).exists(), path
    for folder in re.findall(r"-k (\S+)", command):
        assert render(tool, ROOT / folder).objects
    for target in re.findall(r"^make ([\w-]+)", command):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for kind, name in re.findall(
        r"\b(cronjob|service|statefulset|deployment|kustomization|imagepolicy)[/ ]([\w-]+)", command
    ):
        found = [o for o in (*home.objects, *flux.objects) if (o.kind.lower(), o.name) == (kind, name)]
        assert found, f"there is no {kind} {name}"
    for label in re.findall(r"app\.kubernetes\.io/name=([\w-]+)", command):
        assert home.find("Deployment", label)
    for namespace in re.findall(r"-n (\S+)", command):
        assert namespace in {"ai", "flux-system", '"$namespace"'}
    for ports in re.findall(r"port-forward service/nats (\d+):(\d+)", command):
        service = home.find("Service", "nats")
        assert service
        assert {int(port) for port in ports} <= {
            port["port"] for port in items(service.body, "spec", "ports")
        }
    if match := re.search(r"\.venv/bin/handlers (.*)$", command):
        _parser().parse_args(shlex.split(match[1]))


def test_paths_and_names_in_the_text_exist(tool: Path) -> None:
    del tool
    for page in (GUIDE, (ROOT / "deploy" / "README.md").read_text()):
        for path in re.findall(r"`(deploy/[\w./-]+)`", page):
            assert (ROOT / path).exists(), path
    readme = (ROOT / "deploy" / "README.md").read_text()
    for path in re.findall(r"^\| `([\w/.-]+)`", readme, re.MULTILINE):
        assert (ROOT / "deploy" / path).exists(), path
    for overlay in (ROOT / "deploy" / "overlays").iterdir():
        assert f"`overlays/{overlay.name}`" in readme


def test_the_metrics_that_the_guide_names_are_measured() -> None:
    source = "".join(
        file.read_text()
        for folder in ("packages", "services")
        for file in (ROOT / folder).glob("*/src/**/*.py")
    )
    names = re.findall(r"`(handler\.[a-z_.]+)`", GUIDE)
    assert len(names) > 5
    for name in names:
        assert f'"{name}"' in source, name


def test_the_helm_values_have_the_same_passwords_as_our_own_server() -> None:
    values = yaml.safe_load((ROOT / "deploy" / "nats-helm" / "values.yaml").read_text())
    (ours,) = yaml.safe_load_all((ROOT / "deploy" / "base" / "nats" / "statefulset.yaml").read_text())
    container = ours["spec"]["template"]["spec"]["containers"][0]
    passwords = {
        e["name"]: {"valueFrom": e["valueFrom"]} for e in container["env"] if e["name"].endswith("_PASSWORD")
    }
    assert values["container"]["env"] == passwords
    assert values["config"]["merge"]["$include"] == "./accounts.conf"


def test_the_helm_values_have_the_same_limits_as_our_own_server() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "nats-helm" / "values.yaml").read_text())["config"]
    ours = (ROOT / "deploy" / "base" / "nats" / "nats.conf").read_text()
    (payload,) = re.findall(r"^max_payload: (\d+)MB$", ours, re.MULTILINE)
    (memory,) = re.findall(r"^ +max_memory_store: (\d+)MB$", ours, re.MULTILINE)
    assert config["merge"]["max_payload"] == int(payload) * MIB
    assert config["jetstream"]["memoryStore"]["maxSize"] == f"{memory}Mi"


def test_the_streams_in_memory_fit_into_the_server_and_the_server_into_its_container() -> None:
    ours = (ROOT / "deploy" / "base" / "nats" / "nats.conf").read_text()
    (memory,) = re.findall(r"^ +max_memory_store: (\d+)MB$", ours, re.MULTILINE)
    (server,) = yaml.safe_load_all((ROOT / "deploy" / "base" / "nats" / "statefulset.yaml").read_text())
    container = server["spec"]["template"]["spec"]["containers"][0]
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    goal = next(int(e["value"].removesuffix("MiB")) for e in container["env"] if e["name"] == "GOMEMLIMIT")
    needed = sum(stream.max_bytes for stream in STREAMS.values() if stream.memory)
    assert needed <= int(memory) * MIB
    assert int(memory) < goal < limit
