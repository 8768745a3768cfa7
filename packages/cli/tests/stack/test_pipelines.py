import stat
import tomllib

import pytest

from handlers_cli.stack import pipelines


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in (
        "PIPELINES_FILE",
        "PIPELINE_ENGINES",
        "ARGO_HOST",
        "KUBEFLOW_HOST",
        "LOCAL_RUNS",
        "EMBEDDINGS_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)


def test_pipelines_run_on_this_machine_by_default(tmp_path) -> None:
    assert pipelines.settings(tmp_path) == {
        "PIPELINE_ENGINES": "local",
        "PIPELINES_FILE": f"{tmp_path}/pipelines.toml",
        "LOCAL_RUNS": f"{tmp_path}/runs",
    }


@pytest.mark.parametrize(
    ("environ", "engines"),
    [
        ({"ARGO_HOST": "http://argo"}, "local,argo"),
        ({"KUBEFLOW_HOST": "http://kfp"}, "local,kubeflow"),
        ({"PIPELINE_ENGINES": "kubeflow, argo,local"}, "local,kubeflow,argo"),
        ({"ARGO_HOST": "http://argo", "PIPELINE_ENGINES": "argo"}, "local,argo"),
    ],
)
def test_engines_elsewhere_are_added(tmp_path, monkeypatch, environ, engines) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert pipelines.settings(tmp_path)["PIPELINE_ENGINES"] == engines


def test_catalogues_of_ones_own_are_laid_over_the_stacks(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PIPELINES_FILE", "mine.toml,more")
    monkeypatch.setenv("LOCAL_RUNS", "/elsewhere")
    found = pipelines.settings(tmp_path)
    assert found["PIPELINES_FILE"] == f"{tmp_path}/pipelines.toml,mine.toml,more"
    assert found["LOCAL_RUNS"] == "/elsewhere"


def test_an_ingestion_is_given_what_the_bridge_does_not_pass_on_and_nobody_else_reads_it(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("EMBEDDINGS_API_KEY", 'se"cret\\')
    monkeypatch.setenv("EMBEDDINGS_URL", "http://elsewhere")
    monkeypatch.setenv("SOMETHING_ELSE", "x")
    for _ in range(2):
        pipelines.write_catalogue(tmp_path, {"EMBEDDINGS_URL": "http://here", "INGEST_BASE": "/döcs"})
    file = tmp_path / "pipelines.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ingestion = tomllib.loads(file.read_text())["document-ingestion"]
    assert ingestion["engine"] == "local"
    environment = ingestion["environment"]
    assert environment["EMBEDDINGS_API_KEY"] == 'se"cret\\'
    assert environment["EMBEDDINGS_URL"] == "http://here"
    assert environment["INGEST_BASE"] == "/döcs"
    assert "SOMETHING_ELSE" not in environment
