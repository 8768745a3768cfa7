"""What a step is told and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.outputs import hand_on, matrix, switched_on

if TYPE_CHECKING:
    from pathlib import Path


def test_values_are_added_to_the_file_that_the_runner_names(outputs: Path) -> None:
    outputs.write_text("first=1\n")
    hand_on(services='["a", "b"]', any="true")
    assert outputs.read_text() == 'first=1\nservices=["a", "b"]\nany=true\n'


def test_a_value_cannot_smuggle_in_another_output(outputs: Path) -> None:
    with pytest.raises(DeliveryError, match="more than one line"):
        hand_on(any="false\nreleased=true")
    assert outputs.read_text() == ""


def test_outside_a_workflow_nothing_is_handed_on() -> None:
    hand_on(any="true")


@pytest.mark.parametrize(
    ("value", "on"), [("true", True), ("1", True), ("false", False), ("", False), ("0", False)]
)
def test_a_switch_of_a_workflow_is_text(value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRY_RUN", value)
    assert switched_on("DRY_RUN") is on


def test_a_matrix_has_an_entry_per_service_or_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert matrix(["a", "b"]) == ["a", "b"]
    monkeypatch.setenv("IMAGES_TOGETHER", "true")
    assert matrix(["a", "b"]) == ["a b"]
    assert matrix([]) == []
