"""The scripted Argo Server: what it shares with the real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from handler_base.errors import UpstreamError
from handler_base.http import HttpPool, HttpSettings
from handler_testkit._argo_workflows import Workflow, cleaned, selecting
from handler_testkit.argo import DISASTERS, ArgoServer, Fault, Faults
from handler_testkit.openapi import FOLDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from handler_base.http import Endpoint

Json = dict[str, Any]
NAMESPACE = "/api/v1/workflows/argo"
EVENTS = "/api/v1/workflow-events/argo"


@pytest.fixture
async def server() -> AsyncIterator[ArgoServer]:
    async with ArgoServer({"ingest": {"source": None}}) as server:
        yield server


@pytest.fixture
async def client(server: ArgoServer) -> AsyncIterator[Endpoint]:
    pool = HttpPool(HttpSettings(retries=0))
    yield pool.endpoint("argo", server.url, timeout=5)
    await pool.aclose()


async def submit(client: Endpoint, name: str, **options: object) -> Json:
    body = {
        "resourceKind": "WorkflowTemplate",
        "resourceName": "ingest",
        "submitOptions": {"name": name, "parameters": ["source=a"], **options},
    }
    return await client.post_json(f"{NAMESPACE}/submit", body, Json)


async def events(client: Endpoint, query: str, count: int) -> list[tuple[str, str]]:
    """Return the first events of a watch: what happened to which workflow."""
    heard: list[tuple[str, str]] = []
    async with client.stream("GET", f"{EVENTS}?{query}") as response:
        rest = b""
        async for piece in response:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                event = json.loads(line)["result"]
                heard.append((event["type"], event["object"]["metadata"]["name"]))
            if len(heard) >= count:
                break
    return heard


async def test_a_watch_goes_on_after_a_version_and_tells_what_its_selector_fits(
    server: ArgoServer, client: Endpoint
) -> None:
    await submit(client, "other")
    version = server.workflows.version
    await submit(client, "run-1", labels="owner=me")
    server.move("run-1", "Running")
    server.move("run-1", "Succeeded")
    selector = "listOptions.labelSelector=owner%3Dme%2Cworkflows.argoproj.io/completed!%3Dtrue"
    heard = await events(client, f"{selector}&listOptions.resourceVersion={version}", 3)
    assert heard == [("ADDED", "run-1"), ("MODIFIED", "run-1"), ("DELETED", "run-1")]


async def test_a_watch_without_a_version_begins_with_what_there_is(
    server: ArgoServer, client: Endpoint
) -> None:
    for name in ("run-1", "run-2"):
        await submit(client, name)
    assert await events(client, "", 2) == [("ADDED", "run-1"), ("ADDED", "run-2")]


async def test_a_version_that_is_forgotten_is_refused(server: ArgoServer, client: Endpoint) -> None:
    await submit(client, "run-1")
    version = server.workflows.version
    server.workflows.forget()
    with pytest.raises(UpstreamError, match="too old resource version") as caught:
        await events(client, f"listOptions.resourceVersion={version}", 1)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{NAMESPACE}/gone", 404, 'workflows.argoproj.io "gone" not found'),
        ("/api/v1/workflows/elsewhere", 403, "workflows.argoproj.io is forbidden"),
    ],
)
async def test_refusals_are_those_of_argo(client: Endpoint, path: str, status: int, words: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await client.request("GET", path)
    assert caught.value.status == status
    assert words in caught.value.said


async def test_stopping_what_has_ended_is_a_500(server: ArgoServer, client: Endpoint) -> None:
    await submit(client, "run-1")
    server.move("run-1", "Failed")
    with pytest.raises(UpstreamError, match="cannot shutdown a completed workflow") as caught:
        await client.request("PUT", f"{NAMESPACE}/run-1/terminate", content=b"{}")
    assert caught.value.status == 500


async def test_what_does_not_fit_the_description_fails_the_test() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"{FOLDER} is not here")
    pool = HttpPool(HttpSettings(retries=0))
    with pytest.raises(AssertionError, match="there is no query parameter limit"):
        async with ArgoServer() as server:
            await pool.endpoint("argo", server.url, timeout=5).request("GET", f"{NAMESPACE}?limit=5")
    await pool.aclose()


def test_faults_come_one_by_one_every_nth_time_and_at_random() -> None:
    faults = Faults(every=3, kinds=(Fault("503"),))
    faults.tell("submit", Fault("cut"))
    assert [faults.next("submit") for _ in range(4)] == [Fault("cut"), None, None, Fault("503")]
    assert faults.next("watch") is None
    dice = Faults(share=0.5), Faults(share=0.5)
    drawn = [[die.next("get") for _ in range(200)] for die in dice]
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {None, *DISASTERS}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("", True),
        ("owner=me", True),
        ("owner==you", False),
        ("owner!=you,kind", True),
        ("!kind", False),
        ("missing!=x", True),
        ("owner in (me, you),kind notin (b,c)", True),
        ("owner in (you)", False),
    ],
)
def test_label_selectors(selector: str, fits: bool) -> None:
    workflow = Workflow("run-1", "ingest", False, {}, {"owner": "me", "kind": "a"}, {})
    assert selecting(selector, "")(workflow) is fits
    assert selecting(selector, "metadata.name=run-2")(workflow) is False


def test_selectors_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="unable to parse requirement"):
        selecting("a b", "")
    with pytest.raises(ValueError, match="field label not supported"):
        selecting("", "status.phase=Running")


def test_fields_are_picked_or_left_out() -> None:
    value = {"metadata": {"name": "a", "uid": "b"}, "items": [{"status": {"phase": "c", "nodes": {}}}]}
    assert cleaned(value, "metadata.name,items.status.phase") == {
        "metadata": {"name": "a"},
        "items": [{"status": {"phase": "c"}}],
    }
    assert cleaned(value, "-items") == {"metadata": {"name": "a", "uid": "b"}}
    assert cleaned(value, "") == value
