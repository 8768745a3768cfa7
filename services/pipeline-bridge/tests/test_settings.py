"""Settings that cannot work are said at the start, not at the first run."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def refused(**environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline_bridge"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("name", ["ARGO_HOST", "KUBEFLOW_HOST"])
def test_an_address_that_is_none(name: str) -> None:
    assert f"{name}" in refused(**{name: "argo-server:2746"})


def test_an_engine_that_nobody_knows() -> None:
    assert "expected one of argo, kubeflow, local" in refused(PIPELINE_ENGINES="argo,airflow")


def test_a_catalogue_that_is_not_there_or_not_right(tmp_path: Path) -> None:
    assert "no-such.toml" in refused(PIPELINES_FILE="no-such.toml")
    file = tmp_path / "mine.toml"
    file.write_text('[Work]\nengine = "argo"\n[other]\nengine = "cron"\n[third]\nengine = "local"\n')
    said = refused(PIPELINES_FILE=str(file))
    assert "pipeline Work: its name" in said
    assert "pipeline other: Invalid enum value 'cron'" in said
    assert "pipeline third: a local pipeline needs a command" in said
