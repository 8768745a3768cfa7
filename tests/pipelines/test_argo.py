"""An Argo Server would take the WorkflowTemplates as the overlay has them."""

from __future__ import annotations

import json

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.manifests.kubectl import kubectl
from handler_delivery.manifests.render import WORKFLOW, Object, render
from handler_testkit.openapi import described

from .conftest import ROOT


@pytest.fixture(scope="module")
def templates() -> list[Object]:
    try:
        rendered = render(kubectl(ROOT / ".cache" / "tools"), ROOT / "deploy" / "overlays" / "cluster")
    except DeliveryError as error:
        pytest.skip(f"kubectl cannot be had here: {error}")
    return list(rendered.of_kind(WORKFLOW))


def test_argo_takes_every_workflow_template(templates: list[Object]) -> None:
    contract = described("argo-workflows")
    if contract is None:
        pytest.skip("the description of Argo's API is not here")
    assert len(templates) == 3
    for item in templates:
        body = json.dumps({"namespace": item.namespace, "template": item.body}).encode()
        assert contract.request("POST", f"/api/v1/workflow-templates/{item.namespace}", body) == []


def test_a_pipeline_runs_on_the_image_that_flux_moves_on(templates: list[Object]) -> None:
    overlay = (ROOT / "deploy" / "overlays" / "cluster" / "kustomization.yaml").read_text()
    line = next(one for one in overlay.splitlines() if "flux-system:document-ingestion:tag" in one)
    tag = line.split()[1]
    images = {container["image"] for item in templates for container in item.containers}
    assert images == {f"git.example.com/ai/document-ingestion:{tag}"}
