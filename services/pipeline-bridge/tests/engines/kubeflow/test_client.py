"""Kubeflow's own generated client reads from the scripted server what the engine made there, and is understood by it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import kfp_server_api
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Bench


@pytest.fixture
def client(bench: Bench) -> Iterator[kfp_server_api.ApiClient]:
    configuration = kfp_server_api.Configuration(host=bench.server.url)
    configuration.retries = False
    with kfp_server_api.ApiClient(configuration) as client:
        yield client


async def called(call: Callable[..., Any], *args: str, **more: Any) -> Any:
    return await asyncio.to_thread(call, *args, _request_timeout=10, **more)


async def test_a_run_is_read_by_its_id(bench: Bench, client: kfp_server_api.ApiClient) -> None:
    bench.server.steps = ("retrieve", "answer")
    runs = kfp_server_api.RunServiceApi(client)
    run_id = await bench.engine().submit(bench.order(top_k="7", rerank="on"))
    bench.server.advance(run_id, "RUNNING", done=1)
    run = await called(runs.run_service_get_run, run_id)
    assert run.run_id == run_id
    assert run.display_name == "order-r-1"
    assert run.description == "request r-1"
    assert run.state == "RUNNING"
    assert run.storage_state == "AVAILABLE"
    assert run.runtime_config.parameters == {
        "query": "why?", "collection": "documents", "top_k": 7, "rerank": True,
    }  # fmt: skip
    version = kfp_server_api.PipelineServiceApi(client).pipeline_service_get_pipeline_version
    reference = run.pipeline_version_reference
    made_of = await called(version, reference.pipeline_id, reference.pipeline_version_id)
    assert made_of.display_name == "v2"
    assert run.created_at.tzinfo is not None
    assert run.finished_at == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert [status.state for status in run.state_history] == ["PENDING", "RUNNING"]
    assert {task.display_name for task in run.run_details.task_details} >= {"retrieve", "answer", "root"}


async def test_runs_are_listed_by_a_filter_and_in_pages(
    bench: Bench, client: kfp_server_api.ApiClient
) -> None:
    runs = kfp_server_api.RunServiceApi(client)
    engine = bench.engine()
    ids = [await engine.submit(bench.order(f"r-{number}")) for number in range(5)]
    wanted = {"key": "display_name", "operation": "EQUALS", "string_value": "order-r-3"}
    found = await called(runs.run_service_list_runs, filter=json.dumps({"predicates": [wanted]}))
    assert [run.run_id for run in found.runs] == [ids[3]]
    listed: list[str] = []
    token = ""
    while True:
        page = await called(runs.run_service_list_runs, page_size=2, page_token=token, sort_by="run_id desc")
        assert page.total_size == 5
        listed += [run.run_id for run in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert listed == sorted(ids, reverse=True)


async def test_what_it_makes_and_ends_is_the_engines_too(
    bench: Bench, client: kfp_server_api.ApiClient
) -> None:
    runs = kfp_server_api.RunServiceApi(client)
    pipeline = await called(
        kfp_server_api.PipelineServiceApi(client).pipeline_service_get_pipeline_by_name, "rag-query"
    )
    made = await called(
        runs.run_service_create_run,
        kfp_server_api.V2beta1Run(
            display_name="order-r-1",
            pipeline_version_reference=kfp_server_api.V2beta1PipelineVersionReference(
                pipeline_id=pipeline.pipeline_id, pipeline_version_id=next(iter(bench.server.versions))
            ),
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(
                parameters={"query": "why?", "collection": "documents", "top_k": 5}
            ),
        ),
    )
    engine, order = bench.engine(), bench.order()
    assert await engine.submit(order) == made.run_id
    await called(runs.run_service_terminate_run, made.run_id)
    states = [one.message async for one in engine.follow(order, made.run_id)]
    assert states == ["being cancelled", "cancelled in Kubeflow"]
    with pytest.raises(kfp_server_api.ApiException) as caught:
        await called(runs.run_service_terminate_run, made.run_id)
    assert caught.value.status == 400
    assert json.loads(caught.value.body)["code"] == 3


async def test_it_is_told_what_is_not_there(bench: Bench, client: kfp_server_api.ApiClient) -> None:
    with pytest.raises(kfp_server_api.ApiException) as caught:
        await called(kfp_server_api.RunServiceApi(client).run_service_get_run, "gone")
    assert caught.value.status == 404
    assert json.loads(caught.value.body) == {
        "code": 5,
        "message": "ResourceNotFoundError: Run gone not found",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.Status", "code": 5, "message": "Run gone not found"}
        ],
    }
