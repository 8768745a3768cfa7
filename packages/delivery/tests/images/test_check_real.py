"""Real images with real defects: each is found, and told in words."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from handler_delivery.images import check as room, container
from handler_delivery.images.archive import Archive
from handler_delivery.images.buildah import Buildah
from handler_delivery.images.check import check

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Yard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PYTHON = '"/usr/bin/python3", "-ESs", "-c"'
DEAF = (
    "import runpy, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); "
    "sys.path[0] = '/app'; runpy.run_path('/app/__main__.pyc', run_name='__main__')"
)
READY_AND_NO_MORE = (
    "import http.server as s, os, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    "H = type('H', (s.BaseHTTPRequestHandler,), {'do_GET': lambda h: (h.send_response(200), h.end_headers())}); "
    "s.HTTPServer(('127.0.0.1', int(os.environ['HEALTH_PORT'])), H).serve_forever()"
)


class Spoilt:
    """A service's image, and what is made of it."""

    def __init__(self, yard: Yard, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.yard, self.folder = yard, folder
        self._machine = Buildah(folder, cache=yard.machine._cache)
        # The spoilt image has another name in the store, and is checked as the service it was made from.
        monkeypatch.setattr(room, "name_of", lambda member, debug: "spoilt")

    def find(self, service: str, ending: str) -> str:
        """Return where a file is in the image of a service."""
        with Archive(self.yard.folder / f"{service}.tar") as archive:
            return next(entry.name for _, entry in archive.files() if entry.isfile() and ending in entry.name)

    def check(self, *lines: str, service: str = "chat-handler") -> list[str]:
        """Put lines below `FROM` the image of the service, build that and check it."""
        self.yard.build(service)
        (self.folder / "Dockerfile").write_text("\n".join(["ARG RUNTIME", "FROM ${RUNTIME}", *lines, ""]))
        member = self.yard.member(service)
        self._machine.write("spoilt", "Dockerfile", self.folder / f"{service}.tar", runtime=service)
        return check(self._machine, member, self.folder)

    def overlaid(self, ending: str) -> tuple[str, list[str]]:
        """Return where a file is, and what check says when it is an empty one."""
        self.yard.build("chat-handler")
        path = self.find("chat-handler", ending)
        (self.folder / "empty").touch()
        return path, self.check(f"COPY empty /{path.removeprefix('./')}")


@pytest.fixture
def spoilt(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spoilt:
    monkeypatch.setattr(container, "GRACE", 3)
    return Spoilt(yard, tmp_path, monkeypatch)


def test_an_image_with_nothing_changed_has_no_problem(spoilt: Spoilt) -> None:
    assert spoilt.check() == []


def test_a_service_that_runs_as_root_is_found_from_outside_and_inside(spoilt: Spoilt) -> None:
    assert spoilt.check("USER 0") == [
        "the user is '0', not 10001:10001",
        "runs as 0:0, not as 10001:10001",
    ]


def test_a_source_that_is_left_is_found_from_outside_and_inside(spoilt: Spoilt) -> None:
    (spoilt.folder / "left.py").touch()
    found = spoilt.check("COPY left.py /app/handler_base/left.py")
    assert "app/handler_base/left.py is not needed at run time" in found
    assert any(problem.startswith("sources in the image, for instance ") for problem in found)
    assert "handler_base.left comes from source: /app/handler_base/left.py" not in found, "nobody imports it"


def test_files_that_anybody_may_write_or_that_change_who_runs_them_are_found(spoilt: Spoilt) -> None:
    (spoilt.folder / "data").touch()
    found = spoilt.check(
        "COPY --chmod=666 data /app/data",
        "COPY --chmod=4755 data /usr/bin/tool",
        "COPY --chown=10001 data /etc/own",
    )
    assert {
        "app/data has the mode 666",
        "usr/bin/tool has the mode 4755",
        "/app/data can be written",
        "/etc/own can be written",
        "set-uid files: ['/usr/bin/tool']",
    } <= set(found)


def test_a_system_library_that_is_broken_is_found(spoilt: Spoilt) -> None:
    _, found = spoilt.overlaid("/libz.so")
    assert any("libz.so.1: file too short" in problem for problem in found), found


def test_an_extension_that_finds_its_library_only_after_another_loaded_it_is_found(spoilt: Spoilt) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    for name, source, options in (
        ("alone", "int alone(void) { return 1; }", []),
        ("user", "int alone(void); int user(void) { return alone(); }", [f"-L{spoilt.folder}", "-lalone"]),
    ):
        text = spoilt.folder / f"{name}.c"
        text.write_text(source)
        target = spoilt.folder / f"lib{name}.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(target), str(text), *options], check=True)
    found = spoilt.check("COPY --chmod=644 libalone.so /app/aaa/", "COPY --chmod=644 libuser.so /app/zzz/")
    assert [problem for problem in found if "cannot be loaded" in problem] == [
        "/app/zzz/libuser.so cannot be loaded: libalone.so: cannot open shared object file: No such file or directory"
    ]


def test_protobuf_without_its_extension_is_found(spoilt: Spoilt) -> None:
    path, found = spoilt.overlaid("google/_upb/_message")
    assert any(f"{path} cannot be loaded: " in problem for problem in found)
    assert any(
        "protobuf runs on python, not on upb" in problem or problem.startswith("protobuf: ")
        for problem in found
    )


def test_a_module_that_cannot_be_imported_is_named(spoilt: Spoilt) -> None:
    _, found = spoilt.overlaid("app/handler_base/telemetry/__init__.pyc")
    assert any(problem.startswith("handler_base.telemetry cannot be imported: ") for problem in found)


def test_an_image_without_certificate_authorities_is_found(spoilt: Spoilt) -> None:
    _, found = spoilt.overlaid("etc/ssl/certs/ca-certificates.crt")
    assert any("certificate" in problem and "two layers" not in problem for problem in found), found


def test_the_image_of_another_service_is_found(spoilt: Spoilt) -> None:
    spoilt.yard.build("chat-handler")
    member = spoilt.yard.member("document-ingestion")
    (spoilt.folder / "Dockerfile").write_text("ARG RUNTIME\nFROM ${RUNTIME}\n")
    spoilt._machine.write(
        "spoilt", "Dockerfile", spoilt.folder / f"{member.name}.tar", runtime="chat-handler"
    )
    found = check(spoilt._machine, member, spoilt.folder)
    assert "there is no document_ingestion" in found


def test_a_service_that_ignores_its_stop_signal_is_found(spoilt: Spoilt) -> None:
    (found,) = spoilt.check(f'ENTRYPOINT [{PYTHON}, "{DEAF}"]')
    assert found.startswith("it exits with 137 on its stop signal:")


def test_a_service_that_ends_at_once_is_found_with_what_it_said(spoilt: Spoilt) -> None:
    found = spoilt.check(f"ENTRYPOINT [{PYTHON}, \"import sys; sys.exit('no such model')\"]")
    assert [problem.split(":")[0] for problem in found] == [
        "it does not become ready",
        "it exits with 1 on its stop signal",
    ]
    assert all("no such model" in problem for problem in found)


def test_a_service_that_is_ready_and_answers_nobody_is_found(spoilt: Spoilt) -> None:
    (found,) = spoilt.check(f'ENTRYPOINT [{PYTHON}, "{READY_AND_NO_MORE}"]')
    assert found == "NotFound: no service listens on ai.chat.request"


@pytest.mark.parametrize("said", ['{"added": 0}', '"added"', "no JSON"])
def test_an_ingestion_that_adds_nothing_is_found(spoilt: Spoilt, said: str) -> None:
    (spoilt.folder / "said").write_text(said)
    shows = "print(open('/said').read())"
    (found,) = spoilt.check(
        "COPY said /said", f'ENTRYPOINT [{PYTHON}, "{shows}"]', service="document-ingestion"
    )
    assert found == f"it ends with 0 and does not say that it added one document: {said}\n"


ADDS = (
    "import json, os, signal, sys, urllib.request; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    "once = os.environ['EMBEDDINGS_URL'].endswith('/embeddings'); {asks}; print(json.dumps(dict(added=1)))"
)


@pytest.mark.parametrize(
    ("asks", "problem"),
    [
        (
            "once or urllib.request.urlopen(os.environ['EMBEDDINGS_URL'])",
            "told to stop while it waits, it exits with 0",
        ),
        ("once", 'it does not ask for embeddings: {"added": 1}\n'),
    ],
)
def test_an_ingestion_that_is_stopped_half_way_and_says_it_is_done_is_found(
    spoilt: Spoilt, asks: str, problem: str
) -> None:
    code = ADDS.format(asks=asks)
    assert spoilt.check(f'ENTRYPOINT [{PYTHON}, "{code}"]', service="document-ingestion") == [problem]
