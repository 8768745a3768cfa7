"""The catalogue in README.md is one, and shows every field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from handler_base.config import settings_of
from pipeline_bridge.catalogue import Parameter, Pipeline, load
from pipeline_bridge.config import PipelineBridgeSettings

README = (Path(__file__).parent.parent / "README.md").read_text()
(EXAMPLE,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def example(folder: Path) -> dict[str, Pipeline]:
    (folder / "pipelines.toml").write_text(EXAMPLE)
    return load([str(folder)], ["argo", "kubeflow", "local"]).pipelines


def test_the_example_is_laid_over_what_is_shipped(tmp_path: Path) -> None:
    shipped = load([], ["argo", "kubeflow", "local"]).pipelines
    found = example(tmp_path)
    assert found.keys() == shipped.keys() - {"voice-pipeline"} | {
        "nightly-report",
        "compare-models",
        "reindex",
    }
    assert found["document-ingestion"].max_concurrent == 4
    assert found["document-ingestion"].parameters == shipped["document-ingestion"].parameters
    assert found["nightly-report"].limit == (4, 86400.0)


def test_the_example_says_all_that_there_is_to_say(tmp_path: Path) -> None:
    def changed(values: list[Any]) -> set[str]:
        return {
            name
            for value in values
            for name, default in zip(value.__struct_fields__[-len(value.__struct_defaults__) :], value.__struct_defaults__, strict=True)
            if getattr(value, name) != default
        }  # fmt: skip

    pipelines = list(example(tmp_path).values())
    assert changed(pipelines) | {"engine", "enabled"} == set(Pipeline.__struct_fields__)
    parameters = [parameter for pipeline in pipelines for parameter in pipeline.parameters.values()]
    assert changed(parameters) == set(Parameter.__struct_fields__)


def test_the_settings_that_it_names_are_settings() -> None:
    known = {name for setting in settings_of(PipelineBridgeSettings) for name in setting.names}
    table = README[README.index("## Settings") :]
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", table))
    assert len(named) > 15
    assert named <= known
