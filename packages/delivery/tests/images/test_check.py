"""What is read in an archive: a good image has no problem, a spoilt one is told in words."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.images import check as room
from handler_delivery.images.check import check, contents, shape

if TYPE_CHECKING:
    from conftest import Sample

TITLE = "org.opencontainers.image"


def test_an_image_with_nothing_wrong_has_no_problem(sample: Sample) -> None:
    with sample.archive() as archive:
        assert list(shape(archive, sample.member)) == []
        assert list(contents(archive, debug=False)) == []


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"User": "0"}, "the user is '0', not 10001:10001"),
        ({"User": ""}, "the user is '', not 10001:10001"),
        ({"User": "10001"}, "the user is '10001', not 10001:10001"),
        ({"StopSignal": "SIGKILL"}, "the stop signal is 'SIGKILL'"),
        ({"StopSignal": None}, "the stop signal is None"),
        ({"Entrypoint": None}, "the entry point is None"),
        ({"Entrypoint": ["/bin/sh", "-c", "serve"]}, "the entry point is ['/bin/sh', '-c', 'serve']"),
        ({"Entrypoint": ["bash", "-c", "serve"]}, "the entry point is ['bash', '-c', 'serve']"),
    ],
)
def test_a_wrong_configuration_is_told(sample: Sample, config: dict[str, Any], problem: str) -> None:
    with sample.archive(config=config) as archive:
        assert list(shape(archive, sample.member)) == [problem]


@pytest.mark.parametrize(
    ("label", "value", "problem"),
    [
        ("title", "other", f"the label {TITLE}.title is 'other', not 'chat-handler'"),
        ("title", None, f"the label {TITLE}.title is None, not 'chat-handler'"),
        ("version", "1.2.4", f"the label {TITLE}.version is '1.2.4', not '1.2.3'"),
        ("revision", "main", f"the label {TITLE}.revision is 'main', no commit"),
        ("revision", None, f"the label {TITLE}.revision is None, no commit"),
        ("revision", "-dirty", f"the label {TITLE}.revision is '-dirty', no commit"),
    ],
)
def test_a_wrong_label_is_told(sample: Sample, label: str, value: str | None, problem: str) -> None:
    labels = dict(sample.config["Labels"])
    del labels[f"{TITLE}.{label}"]
    if value is not None:
        labels[f"{TITLE}.{label}"] = value
    with sample.archive(config={"Labels": labels}) as archive:
        assert list(shape(archive, sample.member)) == [problem]


def test_an_image_of_uncommitted_work_may_be_checked(sample: Sample) -> None:
    labels = {**sample.config["Labels"], f"{TITLE}.revision": f"{'a' * 40}-dirty"}
    with sample.archive(config={"Labels": labels}) as archive:
        assert list(shape(archive, sample.member)) == []


def test_no_labels_at_all_are_three_problems(sample: Sample) -> None:
    with sample.archive(config={"Labels": None}) as archive:
        assert len(list(shape(archive, sample.member))) == 3


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"name": "app/handler_base/errors.py"}, "app/handler_base/errors.py is not needed at run time"),
        ({"name": "./app/errors.pyi"}, "app/errors.pyi is not needed at run time"),
        ({"name": "app/__pycache__/a.pyc"}, "app/__pycache__/a.pyc is not needed at run time"),
        ({"name": "usr/bin/tool", "mode": 0o4755}, "usr/bin/tool has the mode 4755"),
        ({"name": "usr/bin/tool", "mode": 0o2755}, "usr/bin/tool has the mode 2755"),
        ({"name": "app/data", "mode": 0o664}, "app/data has the mode 664"),
        ({"name": "app/data", "mode": 0o646}, "app/data has the mode 646"),
        ({"name": "app/folder", "mode": 0o777, "kind": tarfile.DIRTYPE}, "app/folder has the mode 777"),
        ({"name": "app/folder", "mode": 0o775, "kind": tarfile.DIRTYPE}, "app/folder has the mode 775"),
        ({"name": "app/data", "mtime": 1700000000}, "app/data carries the time it was made"),
        (
            {"name": "usr/bin/ping", "pax": (("SCHILY.xattr.security.capability", "x"),)},
            "usr/bin/ping carries capabilities",
        ),
        ({"name": "app/__main__.pyc"}, "app/__main__.pyc is in two layers"),
        ({"name": "./app/__main__.pyc"}, "app/__main__.pyc is in two layers"),
        ({"name": "bin/sh"}, "there is a shell: bin/sh"),
        ({"name": "usr/bin/busybox", "mode": 0o755}, "there is a shell: usr/bin/busybox"),
        (
            {"name": "usr/bin/bash", "kind": tarfile.SYMTYPE, "content": "other"},
            "there is a shell: usr/bin/bash",
        ),
    ],
)
def test_a_file_that_should_not_be_there_is_told(sample: Sample, entry: dict[str, Any], problem: str) -> None:
    with sample.archive(sample.oci.Entry(**entry)) as archive:
        assert list(contents(archive, debug=False)) == [problem]


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "tmp", "mode": 0o1777, "kind": tarfile.DIRTYPE},
        {"name": "app/link", "mode": 0o777, "kind": tarfile.SYMTYPE, "content": "other"},
        {"name": "app/.sh"},
        {"name": "app/finish"},
        {"name": "app/sh.pyc"},
        {"name": "app", "mode": 0o755, "kind": tarfile.DIRTYPE},
    ],
)
def test_what_only_looks_wrong_is_none(sample: Sample, entry: dict[str, Any]) -> None:
    with sample.archive(sample.oci.Entry(**entry)) as archive:
        assert list(contents(archive, debug=False)) == []


def test_a_name_that_begins_with_a_dot_is_another_name(sample: Sample) -> None:
    files = [*sample.files, sample.oci.Entry("sh.d/.x"), sample.oci.Entry("x"), sample.oci.Entry(".x")]
    with sample.archive(files=files) as archive:
        assert list(contents(archive, debug=False)) == []


@pytest.mark.parametrize(
    ("absent", "problem"),
    [
        ("ca-certificates.crt", "there are no certificates"),
        ("libc6", "scanners do not see the system's libraries: var/lib/dpkg/status.d is empty"),
        ("METADATA", "scanners do not see the distributions: their METADATA is missing"),
    ],
)
def test_a_file_that_should_be_there_is_missed(sample: Sample, absent: str, problem: str) -> None:
    files = [entry for entry in sample.files if not entry.name.endswith(absent)]
    assert len(files) == len(sample.files) - 1
    with sample.archive(files=files) as archive:
        assert list(contents(archive, debug=False)) == [problem]


def test_the_debug_image_is_the_one_with_a_shell(sample: Sample) -> None:
    with sample.archive() as archive:
        assert list(contents(archive, debug=True)) == ["there is no shell in the debug image"]
    with sample.archive(sample.oci.Entry("usr/bin/sh", "busybox", kind=tarfile.SYMTYPE)) as archive:
        assert list(contents(archive, debug=True)) == []


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (DeliveryError("podman said no"), "podman said no"),
        (ValueError("no JSON"), "ValueError: no JSON"),
        (TimeoutError(), "TimeoutError: "),
    ],
)
def test_a_check_that_fails_in_another_way_is_a_problem_beside_the_others(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    def fails(*arguments: object) -> str:
        raise error

    monkeypatch.setattr(room, "python", fails)
    with sample.archive(config={"User": "0"}) as archive:
        archive.path.rename(archive.path.with_name("chat-handler.tar"))
        found = check(None, sample.member, archive.path.parent)  # type: ignore[arg-type]
    assert found == ["the user is '0', not 10001:10001", problem]
