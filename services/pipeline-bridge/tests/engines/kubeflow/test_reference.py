"""What the catalogue's names stand for: the right version, on whatever page, and words about what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from pipeline_bridge.engines.kubeflow.reference import REMEMBERED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline_bridge.catalogue import Pipeline

    from .conftest import Bench


def made_of(bench: Bench) -> str:
    """Return the version that the last run was made of."""
    reference = bench.server.calls("create_run")[-1].json()["pipeline_version_reference"]
    return bench.server.versions[reference["pipeline_version_id"]]["name"]


async def test_the_newest_version_is_run_where_none_is_named(bench: Bench) -> None:
    await bench.engine().submit(bench.order())
    assert made_of(bench) == "v2"


async def test_versions_that_kubeflow_cannot_read_are_passed_over_page_by_page(bench: Bench) -> None:
    bench.server.page_size = 1
    for _ in range(3):
        broken = bench.server.versions[bench.server.add_version("rag-query", "broken")]
        broken["created_at"] = "1970-01-01T00:00:00Z"
        del broken["name"], broken["display_name"]
        broken["error"] = {"code": 13, "message": "cannot parse"}
    await bench.engine().submit(bench.order())
    assert made_of(bench) == "v2"


async def test_a_version_is_found_by_name(bench: Bench, pipeline: Callable[..., Pipeline]) -> None:
    bench.server.page_size = 1
    await bench.engine().submit(bench.order(pipeline=pipeline(version="v1")))
    assert made_of(bench) == "v1"


async def test_a_version_is_found_by_the_name_that_people_see(
    bench: Bench, pipeline: Callable[..., Pipeline]
) -> None:
    version = bench.server.versions[bench.server.add_version("rag-query", "v2.1")]
    version["display_name"] = "Better & faster (100 % + 1)"
    version.pop("pipeline_spec", None)
    await bench.engine().submit(bench.order(pipeline=pipeline(version="Better & faster (100 % + 1)")))
    assert made_of(bench) == "v2.1"


async def test_an_unknown_pipeline_is_answered_with_those_there_are(
    bench: Bench, pipeline: Callable[..., Pipeline]
) -> None:
    bench.server.add_pipeline("voice-pipeline", "v1")
    with pytest.raises(
        UpstreamRejected, match=r"Kubeflow has no pipeline rag/2; there are: \S+, \S+$"
    ) as caught:
        await bench.engine().submit(bench.order(pipeline=pipeline(pipeline="rag/2")))
    assert {"rag-query", "voice-pipeline"} <= set(str(caught.value).replace(",", "").split())
    assert not caught.value.retryable


async def test_only_some_of_many_are_named(bench: Bench, pipeline: Callable[..., Pipeline]) -> None:
    for number in range(24):
        bench.server.add_pipeline(f"p{number}")
    with pytest.raises(UpstreamRejected, match=r"there are: .* and 5 more$"):
        await bench.engine().submit(bench.order(pipeline=pipeline(pipeline="none")))


async def test_an_unknown_version_is_answered_with_those_there_are(
    bench: Bench, pipeline: Callable[..., Pipeline]
) -> None:
    with pytest.raises(
        UpstreamRejected, match=r"no version of the pipeline rag-query called v9; there are: v2, v1$"
    ):
        await bench.engine().submit(bench.order(pipeline=pipeline(version="v9")))


async def test_a_pipeline_without_a_version_is_not_run(
    bench: Bench, pipeline: Callable[..., Pipeline]
) -> None:
    bench.server.add_pipeline("bare")
    with pytest.raises(UpstreamRejected, match="Kubeflow's pipeline bare has no version"):
        await bench.engine().submit(bench.order(pipeline=pipeline(pipeline="bare")))
    with pytest.raises(UpstreamRejected, match="called v1; there are: none"):
        await bench.engine().submit(bench.order(pipeline=pipeline(pipeline="bare", version="v1")))


async def test_an_unknown_experiment_is_answered_with_those_there_are(
    bench: Bench, pipeline: Callable[..., Pipeline]
) -> None:
    with pytest.raises(UpstreamRejected, match="no experiment nightly; there are: Default"):
        await bench.engine().submit(bench.order(pipeline=pipeline(experiment="nightly")))


async def test_among_many_users_everything_is_looked_for_in_our_namespace(shared: Bench) -> None:
    shared.server.add_experiment("Default")
    engine = shared.engine(namespace="team")
    run_id = await engine.submit(shared.order())
    assert await engine.submit(shared.order()) == run_id
    assert shared.server.calls("create_run")[0].json()["experiment_id"] == "experiment-3"
    with pytest.raises(UpstreamRejected, match="no pipeline rag-query in other; there are: none"):
        await shared.engine(namespace="other").submit(shared.order())


async def test_among_many_users_an_experiment_must_be_there(shared: Bench) -> None:
    shared.server.add_experiment("nightly")
    with pytest.raises(UpstreamRejected, match="no experiment Default in team; there are: nightly"):
        await shared.engine(namespace="team").submit(shared.order())


async def test_ids_are_remembered_for_a_while(bench: Bench) -> None:
    engine = bench.engine()
    await engine.submit(bench.order("r-1"))
    await engine.submit(bench.order("r-2"))
    assert len(bench.server.calls("get_pipeline_by_name")) == 1
    bench.server.add_version("rag-query", "v3")
    bench.now = REMEMBERED + 1
    await engine.submit(bench.order("r-3", rerank=""))
    assert made_of(bench) == "v3"


async def test_ids_that_are_no_longer_right_are_asked_for_anew(bench: Bench) -> None:
    engine = bench.engine()
    await engine.submit(bench.order("r-1"))
    bench.server.remove_pipeline("rag-query")
    bench.server.add_pipeline("rag-query", "again")
    with pytest.raises(UpstreamUnavailable, match="PipelineVersion version-4 not found"):
        await engine.submit(bench.order("r-2"))
    await engine.submit(bench.order("r-2"))
    assert made_of(bench) == "again"
    assert bench.server.created["order-r-2"] == 1
