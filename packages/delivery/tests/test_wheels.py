"""Wheels of the shared packages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.wheels import build, shared, uv

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Checkout


def hashes(wheels: list[Path]) -> dict[str, str]:
    return {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}


def test_what_services_stand_on_is_shared_and_tools_are_not(checkout: Checkout) -> None:
    assert [member.name for member in shared(checkout.workspace)] == ["handler-base", "handler-messages"]


def test_the_wheels_of_a_commit_are_the_same_bytes_each_time(checkout: Checkout, tmp_path: Path) -> None:
    first = build(checkout.workspace, tmp_path / "first")
    for file in checkout.root.rglob("src/**/*.py"):
        file.touch()
    second = build(checkout.workspace, tmp_path / "second")
    assert [wheel.name for wheel in first] == [
        "handler_base-0.1.0-py3-none-any.whl",
        "handler_messages-0.1.0-py3-none-any.whl",
    ]
    assert hashes(first) == hashes(second)


def test_a_wheel_of_an_earlier_build_does_not_stay(checkout: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "handler_base-0.0.1-py3-none-any.whl").touch()
    assert len(build(checkout.workspace, folder)) == 2


def test_without_uv_one_is_told_where_it_comes_from(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeliveryError, match="make setup"):
        uv(checkout.workspace)
    monkeypatch.setenv("UV", ".uv/bin/uv")
    checkout.write(".uv/bin/uv", "")
    assert uv(checkout.workspace) == str(checkout.root / ".uv/bin/uv")
