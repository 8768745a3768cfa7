"""The scripted Kubeflow: lists, refusals in the words of the real one, faults, and what it tells a test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from handler_base.errors import UpstreamRejected, UpstreamUnavailable
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.kubeflow import Fault, KubeflowServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from handler_base.http import Endpoint

NEW = {
    "display_name": "one",
    "pipeline_version_reference": {"pipeline_id": "pipeline-2", "pipeline_version_id": "version-3"},
}


@pytest.fixture
async def server() -> AsyncIterator[KubeflowServer]:
    async with KubeflowServer() as server:
        server.add_pipeline("rag", "v1", parameters={"query": "STRING?", "count": "NUMBER_INTEGER?"})
        yield server


@pytest.fixture
async def api(server: KubeflowServer) -> AsyncIterator[Endpoint]:
    pool = HttpPool(HttpSettings())
    yield pool.endpoint("kubeflow", f"{server.url}/apis/v2beta1", timeout=10)
    await pool.aclose()


async def call(api: Endpoint, method: str, path: str, body: Any = None, **params: str) -> Any:
    content = b"" if body is None else json.dumps(body).encode()
    return json.loads((await api.request(method, path, content=content, params=params)).content)


def predicate(operation: str, key: str, **value: Any) -> str:
    return json.dumps({"predicates": [{"operation": operation, "key": key, **value}]})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", "abcd"),
        (predicate("EQUALS", "display_name", string_value="A"), "a"),
        (predicate("EQUALS", "name", string_value="a"), "a"),
        (predicate("NOT_EQUALS", "state", string_value="PENDING"), "bd"),
        (predicate("IN", "state", string_values={"values": ["RUNNING", "FAILED"]}), "bd"),
        (predicate("IS_SUBSTRING", "state", string_value="runn"), "b"),
        (predicate("GREATER_THAN", "created_at", timestamp_value="2027-01-15T08:00:01Z"), "cd"),
        (predicate("LESS_THAN_EQUALS", "created_at", timestamp_value="2027-01-15T08:00:01Z"), "ab"),
        (quote(predicate("EQUALS", "display_name", string_value="a")), "a"),
    ],
)
async def test_a_filter_picks(server: KubeflowServer, api: Endpoint, asked: str, found: str) -> None:
    for number, (name, state) in enumerate(
        zip("abcd", ("PENDING", "RUNNING", "PENDING", "FAILED"), strict=True)
    ):
        server.now = lambda number=number: 1_800_000_000 + number
        server.add_run(name, state)
    page = await call(api, "GET", "/runs", **({"filter": asked} if asked else {}))
    assert "".join(run["display_name"] for run in page["runs"]) == found
    assert page["total_size"] == len(found)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"filter": "{"}, "failed to parse valid filter"),
        ({"filter": '{"predicate": []}'}, "failed to parse valid filter"),
        ({"filter": predicate("EQUALS", "colour", string_value="red")}, "unrecognized field 'colour'"),
        ({"filter": predicate("LIKE", "state", string_value="RUNNING")}, "invalid predicate operation"),
        ({"filter": predicate("IN", "state", string_value="RUNNING")}, "cannot use operator IN"),
        ({"filter": predicate("EQUALS", "state")}, "failed to parse valid filter"),
        ({"sort_by": "created_at down"}, "invalid sort by format"),
        ({"sort_by": "colour"}, "Invalid sorting field"),
        ({"page_token": "???"}, "Invalid page token"),
        ({"page_size": "-1"}, "page size should be greater"),
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(
    api: Endpoint, params: dict[str, str], words: str
) -> None:
    with pytest.raises(UpstreamRejected, match=words) as caught:
        await call(api, "GET", "/runs", **params)
    assert caught.value.status == 400


async def test_pages_follow_each_other_though_runs_are_added(server: KubeflowServer, api: Endpoint) -> None:
    server.now = lambda: 1_800_000_000
    for _ in range(5):
        server.add_run("x")
    seen: list[str] = []
    params = {"page_size": "2", "sort_by": "created_at desc"}
    while True:
        page = await call(api, "GET", "/runs", **params)
        seen += [run["run_id"] for run in page["runs"]]
        if "next_page_token" not in page:
            break
        params["page_token"] = page["next_page_token"]
        server.now = lambda: 1_800_000_100
        server.add_run("late")
    assert len(seen) == len(set(seen)) == 5
    with pytest.raises(UpstreamRejected, match="page token does not match"):
        await call(api, "GET", "/runs", **params | {"sort_by": "run_id"})


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"display_name": ""}, 400, "run name is empty"),
        ({"state": "RUNNING"}, 400, "does not set state"),
        ({"experiment_id": "x"}, 404, "Experiment x not found"),
        ({"pipeline_version_reference": {"pipeline_id": "x"}}, 500, "error fetching manifest"),
        ({"runtime_config": {"parameters": {"n": 1}}}, 400, "not required by pipeline: n"),
        ({"runtime_config": {"parameters": {"count": "1"}}}, 400, "count requires type double or integer"),
        ({"runtime_config": {"parameters": {"count": True}}}, 400, "count requires type double or integer"),
    ],
)
async def test_a_run_that_cannot_be_is_refused(
    server: KubeflowServer, api: Endpoint, change: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises((UpstreamRejected, UpstreamUnavailable), match=words) as caught:
        await call(api, "POST", "/runs", NEW | change)
    assert caught.value.status == status
    assert not server.created


async def test_a_run_goes_through_its_life(server: KubeflowServer, api: Endpoint) -> None:
    run_id = (await call(api, "POST", "/runs", NEW))["run_id"]
    path = f"/runs/{run_id}"
    assert await call(api, "POST", f"{path}:terminate") == {}
    for state in ("CANCELING", "CANCELED", "CANCELED"):
        assert (await call(api, "GET", path))["state"] == state
    with pytest.raises(UpstreamRejected, match="Row not found"):
        await call(api, "POST", f"{path}:terminate")
    await call(api, "POST", f"{path}:archive")
    assert (await call(api, "GET", path))["storage_state"] == "ARCHIVED"
    await call(api, "POST", f"{path}:unarchive")
    await call(api, "DELETE", path)
    with pytest.raises(UpstreamRejected, match=f"Run {run_id} not found"):
        await call(api, "GET", path)
    assert server.created["one"] == 1
    assert server.alive("one") == []


async def test_what_does_not_fit_the_description_fails_the_test() -> None:
    if not KubeflowServer().checked:
        pytest.skip("the API's description is not at hand: ../shared/contracts")
    pool = HttpPool(HttpSettings())
    with pytest.raises(ExceptionGroup) as caught:
        async with KubeflowServer() as server:
            api = pool.endpoint("kubeflow", f"{server.url}/apis/v2beta1", timeout=10)
            await call(api, "GET", "/runs", colour="red")
            server.add_pipeline("rag", "v1")
            server.add_run("x").seen["colour"] = "red"
            await call(api, "GET", "/runs")
    await pool.aclose()
    assert [str(error).split(":")[0] for error in caught.value.exceptions] == [
        "GET /apis/v2beta1/runs",
        "GET /apis/v2beta1/runs, reply 200",
    ]


@pytest.mark.parametrize(("effect", "made"), [("none", 0), ("done", 1), ("later", 0)])
@pytest.mark.parametrize("status", [0, 500, 503])
async def test_a_call_fails_before_or_after_its_effect(
    server: KubeflowServer, api: Endpoint, status: int, effect: Any, made: int
) -> None:
    server.faults.add("create_run", Fault(status, effect))
    with pytest.raises(UpstreamUnavailable) as caught:
        await call(api, "POST", "/runs", NEW)
    assert caught.value.status == status
    assert server.created["one"] == made
    assert server.faults.left == 0
    server.faults.release()
    assert server.created["one"] == (0 if effect == "none" else 1)


async def test_an_effect_comes_after_so_many_further_requests(server: KubeflowServer, api: Endpoint) -> None:
    server.faults.add("create_run", Fault(503, "later", requests=2))
    with pytest.raises(UpstreamUnavailable):
        await call(api, "POST", "/runs", NEW)
    assert "runs" not in await call(api, "GET", "/runs")
    assert len((await call(api, "GET", "/runs"))["runs"]) == 1


async def test_a_share_of_calls_fails_alike_for_every_seed(server: KubeflowServer, api: Endpoint) -> None:
    async def outcomes(seed: int) -> list[int]:
        server.faults.draw(0.5, seed, {"list_runs"})
        found = []
        for _ in range(40):
            try:
                await call(api, "GET", "/runs")
                found.append(200)
            except UpstreamUnavailable as error:
                found.append(error.status)
        return found

    first = await outcomes(1)
    assert set(first) == {200, 0, 500, 503}
    assert await outcomes(1) == first
    assert await outcomes(2) != first
    await call(api, "GET", "/experiments")


async def test_who_is_not_known_has_no_effect(server: KubeflowServer, api: Endpoint) -> None:
    server.token = "secret"
    with pytest.raises(UpstreamRejected) as caught:
        await call(api, "POST", "/runs", NEW)
    assert caught.value.status == 401
    server.token, server.forbidden = "", True
    with pytest.raises(UpstreamRejected) as caught:
        await call(api, "POST", "/runs", NEW)
    assert caught.value.status == 403
    assert not server.created


async def test_it_is_away_and_comes_back_with_what_it_knew(server: KubeflowServer, api: Endpoint) -> None:
    await call(api, "POST", "/runs", NEW)
    await server.down()
    with pytest.raises(UpstreamUnavailable):
        await call(api, "GET", "/runs")
    await server.up()
    server.delay = 0.001
    assert len((await call(api, "GET", "/runs"))["runs"]) == 1
