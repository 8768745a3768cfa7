"""The catalogue of pipeline-bridge and what is deployed say the same, both ways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pipeline_bridge.catalogue import load

from .conftest import PIPELINES, ROOT, STEPS

if TYPE_CHECKING:
    from pipeline_bridge.catalogue import Pipeline

CATALOGUE = load((), ("argo", "kubeflow")).pipelines
ARGO = {name: one for name, one in CATALOGUE.items() if one.engine == "argo"}
KUBEFLOW = {name: one for name, one in CATALOGUE.items() if one.engine == "kubeflow"}
KINDS = {
    "string": "STRING",
    "integer": "NUMBER_INTEGER",
    "number": "NUMBER_DOUBLE",
    "boolean": "BOOLEAN",
}


def workflow_templates() -> dict[str, dict[str, Any]]:
    found = {}
    for file in (PIPELINES / "argo").glob("*.yaml"):
        for body in yaml.safe_load_all(file.read_text()):
            if body.get("kind") == "WorkflowTemplate" and file.stem != "every-pipeline":
                found[body["metadata"]["name"]] = body
    return found


def compiled(pipeline: Pipeline) -> dict[str, Any]:
    """Return the first document of a compiled pipeline; the second is for Kubernetes."""
    file = PIPELINES / "kubeflow" / f"{pipeline.pipeline}.yaml"
    return next(yaml.safe_load_all(file.read_text()))


def test_what_the_catalogue_calls_is_deployed_and_nothing_else() -> None:
    assert {one.template for one in ARGO.values()} == workflow_templates().keys()
    files = {file.stem for file in (PIPELINES / "kubeflow").glob("*.yaml")}
    assert {one.pipeline for one in KUBEFLOW.values()} == files


@pytest.mark.parametrize("pipeline", ARGO.values(), ids=ARGO)
def test_a_workflow_template_takes_what_the_catalogue_says(pipeline: Pipeline) -> None:
    body = workflow_templates()[pipeline.template]
    parameters = {one["name"]: one for one in body["spec"]["arguments"]["parameters"]}
    assert list(parameters) == list(pipeline.parameters)
    for name, parameter in pipeline.parameters.items():
        there = parameters[name]
        assert there["description"] == parameter.description
        assert there.get("value") == (None if parameter.required else parameter.default), name
        assert tuple(there.get("enum", ())) == parameter.allowed, name
    assert body["metadata"]["annotations"]["workflows.argoproj.io/description"] == pipeline.description
    # A run that nobody follows any more ends when its follower would have ended it.
    assert body["spec"]["activeDeadlineSeconds"] == pipeline.timeout


@pytest.mark.parametrize("pipeline", KUBEFLOW.values(), ids=KUBEFLOW)
def test_a_kubeflow_pipeline_takes_what_the_catalogue_says(pipeline: Pipeline) -> None:
    body = compiled(pipeline)
    assert body["pipelineInfo"] == {"name": pipeline.pipeline, "description": pipeline.description}
    inputs: dict[str, dict[str, Any]] = body["root"]["inputDefinitions"]["parameters"]
    # Kubeflow's parameters are those of a Python function: pipeline-bridge writes top_k for top-k.
    ours = {name.replace("-", "_"): parameter for name, parameter in pipeline.parameters.items()}
    assert ours.keys() <= inputs.keys()
    for name, there in inputs.items():
        if name not in ours:
            assert there["isOptional"], f"{name} would have to be given, and the catalogue does not have it"
            assert re.fullmatch(r"\w+_url", name), f"{name} is no address: the catalogue must have it"
            continue
        parameter = ours[name]
        assert there["parameterType"] == KINDS[parameter.type]
        assert there["description"] == parameter.description
        assert there.get("isOptional", False) is not parameter.required
        if not parameter.required:
            assert there["defaultValue"] == (
                parameter.default if parameter.type == "string" else float(parameter.default)
            )


def test_addresses_of_kubeflow_are_those_of_the_overlay_cluster() -> None:
    told = (ROOT / "deploy" / "components" / "ray-serve" / "kustomization.yaml").read_text()
    told += (ROOT / "deploy" / "components" / "milvus" / "kustomization.yaml").read_text()
    known = set(re.findall(r"_URL=(\S+)", told))
    known |= {f"http://{host}:19530" for host in re.findall(r"MILVUS_HOST=(\S+)", told)}
    for pipeline in KUBEFLOW.values():
        inputs = compiled(pipeline)["root"]["inputDefinitions"]["parameters"]
        defaults = {
            one["defaultValue"] for name, one in inputs.items() if "://" in str(one.get("defaultValue"))
        }
        assert defaults
        assert defaults <= known
    settings = (PIPELINES / "argo" / "kustomization.yaml").read_text()
    assert set(re.findall(r"_URL=(\S+)", settings)) <= known


def test_an_argo_pipeline_names_the_entrypoint_that_its_image_has() -> None:
    dockerfile = (ROOT / "images" / "Dockerfile").read_text()
    entrypoint = yaml.safe_load(re.findall(r"^ENTRYPOINT (\[.*\])$", dockerfile, re.MULTILINE)[0])
    (step,) = workflow_templates()["document-ingestion"]["spec"]["templates"]
    assert step["container"]["command"] == entrypoint


def test_every_program_of_a_step_is_in_the_config_map_that_is_mounted() -> None:
    (generated,) = yaml.safe_load((STEPS / "kustomization.yaml").read_text())["configMapGenerator"]
    needed = set()
    for body in workflow_templates().values():
        for step in body["spec"]["templates"]:
            needed |= {
                word.removeprefix("/steps/") for word in step["container"]["command"] if "/steps/" in word
            }
    imported = {
        f"{module}.py"
        for name in needed
        for module in re.findall(r"^(?:from|import) (\w+)", (STEPS / name).read_text(), re.MULTILINE)
        if (STEPS / f"{module}.py").exists()
    }
    assert set(generated["files"]) == needed | imported
