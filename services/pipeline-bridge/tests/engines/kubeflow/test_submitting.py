"""What a run is made with, and that there is one of an order."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from handler_testkit.endpoints import replaced
from handler_testkit.kubeflow import Fault
from pipeline_bridge.engines.kubeflow.engine import _precedence
from pipeline_bridge.engines.kubeflow.wire import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from handler_testkit.endpoints import Exchange
    from handler_testkit.kubeflow import Run as KubeflowRun
    from pipeline_bridge.catalogue import Pipeline

    from .conftest import Bench


async def test_a_run_is_made_as_ordered(bench: Bench, pipeline: Callable[..., Pipeline]) -> None:
    bench.server.add_experiment("nightly")
    engine = bench.engine()
    order = bench.order(
        "0b5c-77",
        pipeline(service_account="runner", experiment="nightly"),
        query="what is 007?",
        top_k="7",
        threshold="0.5",
        rerank="yes",
        language="de",
    )
    assert engine.run_id(order) == ""
    run_id = await engine.submit(order)
    (made,) = bench.server.calls("create_run")
    assert made.json() == {
        "display_name": "order-0b5c-77",
        "description": "request 0b5c-77",
        "pipeline_version_reference": {"pipeline_id": "pipeline-2", "pipeline_version_id": "version-4"},
        "runtime_config": {
            "parameters": {
                "query": "what is 007?",
                "collection": "documents",
                "top_k": 7,
                "threshold": 0.5,
                "rerank": True,
                "language": "de",
            }
        },
        "experiment_id": "experiment-5",
        "service_account": "runner",
    }
    assert [run.run_id for run in bench.server.named("order-0b5c-77")] == [run_id]


async def test_empty_values_are_left_to_the_pipelines_own_defaults(bench: Bench) -> None:
    await bench.engine().submit(bench.order(threshold="", language=" ", rerank="off"))
    (made,) = bench.server.calls("create_run")
    assert made.json()["runtime_config"]["parameters"] == {
        "query": "why?", "collection": "documents", "top_k": 5, "language": " ", "rerank": False,
    }  # fmt: skip
    assert "experiment_id" not in made.json()
    assert "service_account" not in made.json()


@pytest.mark.parametrize("takes", [{"query": "STRING", "top-k": "NUMBER_INTEGER"}, None])
async def test_a_name_that_the_pipeline_has_or_does_not_tell_is_left_as_it_is(
    bench: Bench, pipeline: Callable[..., Pipeline], takes: dict[str, str] | None
) -> None:
    bench.server.add_pipeline("dashed", "v1", parameters=takes)
    rag = pipeline()
    parameters = {name: rag.parameters[name] for name in ("query", "top-k")}
    await bench.engine().submit(bench.order(pipeline=pipeline(pipeline="dashed", parameters=parameters)))
    (made,) = bench.server.calls("create_run")
    assert made.json()["runtime_config"]["parameters"] == {"query": "why?", "top-k": 5}


async def test_a_specification_with_a_platforms_beside_it_is_read_too(bench: Bench) -> None:
    (version,) = (one for one in bench.server.versions.values() if one["name"] == "v2")
    version["pipeline_spec"] = {"pipeline_spec": version["pipeline_spec"], "platform_spec": {"platforms": {}}}
    bench.server.faults.add("create_run", Fault(status=500))
    with pytest.raises(UpstreamUnavailable):
        await bench.engine().submit(bench.order())
    (tried,) = bench.server.calls("create_run")
    assert tried.json()["runtime_config"]["parameters"]["top_k"] == 5


async def test_what_kubeflow_will_not_run_is_refused_in_its_words(bench: Bench) -> None:
    bench.server.remove_pipeline("rag-query")
    bench.server.add_pipeline("rag-query", "v1", parameters={"question": "STRING?"})
    with pytest.raises(
        UpstreamRejected, match=r"kubeflow at .*provided are not required by pipeline: query"
    ) as caught:
        await bench.engine().submit(bench.order())
    assert not caught.value.retryable
    assert not bench.server.created


async def test_an_order_that_was_submitted_before_is_found(bench: Bench) -> None:
    run_id = await bench.engine().submit(bench.order())
    assert await bench.engine().submit(bench.order()) == run_id
    assert await bench.engine().submit(bench.order("r-2")) != run_id
    assert bench.server.created == {"order-r-1": 1, "order-r-2": 1}


async def test_a_run_that_has_ended_is_not_made_again(bench: Bench) -> None:
    run_id = await bench.engine().submit(bench.order())
    bench.server.advance(run_id, "FAILED")
    bench.server.runs[run_id].seen["storage_state"] = "ARCHIVED"
    assert await bench.engine().submit(bench.order()) == run_id
    assert bench.server.created["order-r-1"] == 1


async def test_a_run_that_only_differs_in_case_is_another(bench: Bench) -> None:
    bench.server.add_run("ORDER-R-1")
    await bench.engine().submit(bench.order())
    assert bench.server.created == {"ORDER-R-1": 1, "order-r-1": 1}


@pytest.mark.parametrize("page_size", [1, 2, 100])
async def test_the_oldest_of_several_is_the_run_on_whatever_page_it_is(bench: Bench, page_size: int) -> None:
    bench.server.page_size = page_size
    for age in (3, 9, 5, 1):
        bench.server.add_run("order-r-1", "RUNNING", age)
    oldest = bench.server.named("order-r-1")[1]
    assert await bench.engine().submit(bench.order()) == oldest.run_id
    assert bench.server.alive("order-r-1") == [oldest]
    assert [run.seen["storage_state"] for run in bench.server.named("order-r-1")] == [
        "ARCHIVED", "AVAILABLE", "ARCHIVED", "ARCHIVED",
    ]  # fmt: skip
    assert not bench.server.calls("create_run")


async def test_of_two_made_in_one_second_the_one_with_the_smaller_id_is_the_run(bench: Bench) -> None:
    bench.server.now = lambda: 1_800_000_000
    runs = [bench.server.add_run("order-r-1") for _ in range(4)]
    smallest = min(runs, key=lambda run: run.run_id)
    assert await bench.engine().submit(bench.order()) == smallest.run_id
    assert bench.server.alive("order-r-1") == [smallest]


async def test_one_that_has_succeeded_goes_before_older_ones(bench: Bench) -> None:
    bench.server.add_run("order-r-1", "RUNNING", age=9)
    done = bench.server.add_run("order-r-1", "SUCCEEDED", age=5)
    assert await bench.engine().submit(bench.order()) == done.run_id
    assert bench.server.alive("order-r-1") == [done]


def unreadable(run: KubeflowRun) -> None:
    """Let the server say of a run what it says of one that it cannot read."""
    for name in set(run.seen) - {"run_id", "experiment_id"}:
        del run.seen[name]
    run.seen["error"] = {"code": 13, "message": "cannot parse"}


async def test_a_run_that_kubeflow_cannot_read_is_a_run_all_the_same(bench: Bench) -> None:
    run = bench.server.add_run("order-r-1")

    async def listed(exchange: Exchange) -> None:
        await exchange.json({"runs": [run.seen], "total_size": 1})

    unreadable(run)
    async with replaced(bench.server.endpoint, listed):
        assert await bench.engine().submit(bench.order()) == run.run_id
    assert bench.server.created["order-r-1"] == 1


def test_every_replica_puts_the_same_run_first_in_whatever_order_they_are_listed() -> None:
    first, second = (datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC) for second in (0, 1))
    runs = [
        Run("c", state="SUCCEEDED", created_at=second),
        Run("b", state="RUNNING", created_at=first),
        Run("d", state="FAILED", created_at=first),
        Run("a", state="PENDING", created_at=second),
        Run("0"),  # one that Kubeflow itself cannot read
    ]
    for listed in itertools.permutations(runs):
        assert sorted(listed, key=_precedence) == runs


async def test_two_replicas_at_once_make_one_run_between_them(bench: Bench) -> None:
    bench.server.together("create_run", 2)
    order = bench.order()
    first, second = await asyncio.gather(bench.engine().submit(order), bench.engine().submit(order))
    assert bench.server.created["order-r-1"] == 2
    assert first == second
    assert [run.run_id for run in bench.server.alive("order-r-1")] == [first]
