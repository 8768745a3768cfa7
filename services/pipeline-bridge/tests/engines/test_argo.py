"""Argo: workflows are submitted once, whatever happens on the way, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from handler_base.config import Secret
from handler_base.errors import UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.argo import DISASTERS, ArgoServer, Fault
from handler_testkit.endpoints import HttpEndpoint, answering, unanswered_port
from pipeline_bridge.catalogue import Pipeline
from pipeline_bridge.config import ArgoSettings
from pipeline_bridge.engines import Order
from pipeline_bridge.engines.argo import Argo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

TEMPLATES = {"ingest": {"source-url": None, "collection": ""}}


@pytest.fixture
async def server() -> AsyncIterator[ArgoServer]:
    async with ArgoServer(TEMPLATES, cluster_templates={"ingest-all": {}}) as server:
        yield server


async def no_pause(_: float) -> None:
    pass


@contextlib.asynccontextmanager
async def engine_of(
    url: str, *, http: HttpSettings | None = None, **settings: object
) -> AsyncGenerator[Argo]:
    pool = HttpPool(http or HttpSettings(), sleep=no_pause)
    engine = Argo(pool, ArgoSettings(host=url, **settings))  # pyright: ignore[reportArgumentType]
    try:
        yield engine
    finally:
        await engine.aclose()
        await pool.aclose()


@pytest.fixture
async def engine(server: ArgoServer) -> AsyncIterator[Argo]:
    async with engine_of(server.url) as engine:
        yield engine


def ordered(name: str = "run-1", *, request_id: str = "r-1", **pipeline: object) -> Order:
    entry = Pipeline(engine="argo", name="ingest", **pipeline)  # pyright: ignore[reportArgumentType]
    return Order(request_id, name, entry, {"source-url": "https://a.test/?q=1,2", "collection": ""})


# Submit


async def test_an_order_becomes_a_workflow_of_its_template(server: ArgoServer, engine: Argo) -> None:
    order = ordered(service_account="runner")
    assert engine.run_id(order) == "run-1"
    assert await engine.submit(order) == "run-1"
    workflow = server.workflows.live["run-1"]
    assert (workflow.template, workflow.cluster, workflow.service_account) == ("ingest", False, "runner")
    assert workflow.parameters == {"source-url": "https://a.test/?q=1,2", "collection": ""}
    assert workflow.labels["app.kubernetes.io/managed-by"] == "pipeline-bridge"
    assert workflow.labels["pipeline-bridge/pipeline"] == "ingest"
    assert workflow.annotations == {"pipeline-bridge/request-id": "r-1"}


async def test_a_pipeline_names_another_template_or_one_of_the_cluster(
    server: ArgoServer, engine: Argo
) -> None:
    await engine.submit(ordered(template="ingest-all", cluster_template=True))
    workflow = server.workflows.live["run-1"]
    assert (workflow.template, workflow.cluster) == ("ingest-all", True)
    assert workflow.labels["pipeline-bridge/pipeline"] == "ingest"


@pytest.mark.parametrize("request_id", ["a=b", "a,b", "a\nb", "", "x" * 300])
async def test_a_request_id_that_no_annotation_can_carry_is_left_out(
    server: ArgoServer, engine: Argo, request_id: str
) -> None:
    await engine.submit(ordered(request_id=request_id))
    assert server.workflows.live["run-1"].annotations == {}


async def test_a_parameter_that_the_template_does_not_have_is_taken_along_as_argo_does(
    server: ArgoServer, engine: Argo
) -> None:
    server.templates[False]["ingest"] = {"source-url": None}
    await engine.submit(ordered())
    assert server.workflows.created["run-1"] == 1


async def test_submitting_again_meets_the_first_workflow(server: ArgoServer, engine: Argo) -> None:
    for _ in range(3):
        assert await engine.submit(ordered()) == "run-1"
    assert server.workflows.created == {"run-1": 1}


async def test_bridges_that_submit_at_once_make_one_workflow(server: ArgoServer) -> None:
    async with asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            engine = await stack.enter_async_context(engine_of(server.url))
            tasks.create_task(engine.submit(ordered()))
        await server.wait(lambda: server.calls["submit"] > 1)
        await server.wait(lambda: not server.endpoint.busy)
    assert server.workflows.created == {"run-1": 1}


async def test_a_workflow_that_is_in_the_archive_alone_is_not_run_again(
    server: ArgoServer, engine: Argo
) -> None:
    await engine.submit(ordered())
    server.move("run-1", "Succeeded")
    server.remove("run-1", archive=True)
    await engine.submit(ordered())
    assert server.workflows.created == {"run-1": 1}


@pytest.mark.parametrize("fault", DISASTERS)
async def test_a_call_that_fails_is_made_again_and_still_makes_one_workflow(
    server: ArgoServer, engine: Argo, fault: Fault
) -> None:
    server.faults.tell("submit", fault)
    assert await engine.submit(ordered()) == "run-1"
    assert server.workflows.created == {"run-1": 1}
    assert server.calls["submit"] == 2


async def test_a_reply_that_never_comes_is_an_error_to_try_again_after(server: ArgoServer) -> None:
    server.faults.tell("submit", Fault("stall", after=True))
    async with engine_of(server.url, http=HttpSettings(retries=0), timeout=0.05) as engine:
        with pytest.raises(UpstreamTimeout) as caught:
            await engine.submit(ordered())
        assert caught.value.retryable
        assert await engine.submit(ordered()) == "run-1"
    assert server.workflows.created == {"run-1": 1}


async def test_an_argo_server_that_fails_every_other_call_runs_every_workflow_once(
    server: ArgoServer, engine: Argo
) -> None:
    server.faults.share = 0.3
    names = [f"run-{number}" for number in range(50)]
    for name in names:
        submitted = False
        while not submitted:
            try:
                submitted = await engine.submit(ordered(name)) == name
            except UpstreamUnavailable:
                continue
    assert server.workflows.created == dict.fromkeys(names, 1)
    assert server.faults.happened > 10


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ({"template": "gone"}, "the Argo Server has no WorkflowTemplate gone in namespace argo; install it,"),
        (
            {"template": "gone", "cluster_template": True},
            "the Argo Server has no ClusterWorkflowTemplate gone; install it,",
        ),
    ],
)
async def test_a_template_that_is_missing_is_named_and_where(
    server: ArgoServer, engine: Argo, pipeline: dict[str, object], words: str
) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        await engine.submit(ordered(**pipeline))
    assert caught.value.message.startswith(words)
    assert server.workflows.created == {}


async def test_what_argo_finds_wrong_is_told_in_its_words(server: ArgoServer, engine: Argo) -> None:
    server.templates[False]["ingest"] = {"tenant": None}
    with pytest.raises(UpstreamRejected, match=r"spec\.arguments\.tenant\.value or .* is required"):
        await engine.submit(ordered())


@pytest.mark.parametrize("operation", ["submit", "follow", "stop"])
@pytest.mark.parametrize(
    ("status", "headers"), [(404, {}), (200, {}), (302, {"location": "https://login.test/"})]
)
async def test_an_answer_that_is_not_argos_may_pass(
    operation: str, status: int, headers: dict[str, str]
) -> None:
    script = answering("default backend", status, headers)
    async with HttpEndpoint(script) as proxy, engine_of(proxy.url) as engine:
        with pytest.raises(UpstreamUnavailable, match="no answer of an Argo Server: check ARGO_HOST"):
            match operation:
                case "submit":
                    await engine.submit(ordered())
                case "follow":
                    await anext(engine.follow(ordered(), "run-1"))
                case _:
                    await engine.stop(ordered(), "run-1", "too late")


async def test_an_argo_server_that_is_down_is_an_error_to_try_again_after(
    server: ArgoServer, engine: Argo
) -> None:
    await server.down()
    with pytest.raises(UpstreamUnavailable, match="check that it runs and that ARGO_HOST is right"):
        await engine.submit(ordered())
    await server.up()
    assert await engine.submit(ordered()) == "run-1"


async def test_an_argo_server_out_of_reach_is_an_error_in_time() -> None:
    with unanswered_port() as port:
        http = HttpSettings(connect_timeout=0.05, retries=0)
        async with engine_of(f"http://127.0.0.1:{port}", http=http) as engine:
            with pytest.raises(UpstreamTimeout):
                await engine.submit(ordered())


# Who may


async def test_a_token_that_was_replaced_in_its_file_is_used_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    async with (
        ArgoServer(TEMPLATES, token="old") as server,
        engine_of(server.url, token_file=str(file)) as engine,
    ):
        await engine.submit(ordered("run-1"))
        server.token = "new"
        with pytest.raises(UpstreamUnavailable, match=r"refuses our token \(401\): token not valid.*_FILE"):
            await engine.submit(ordered("run-2"))
        file.write_text("newer\n")
        server.token = "newer"
        await engine.submit(ordered("run-2"))
        assert server.workflows.created == {"run-1": 1, "run-2": 1}


async def test_a_token_of_the_settings_is_sent() -> None:
    async with (
        ArgoServer(TEMPLATES, token="t1") as server,
        engine_of(server.url, token=Secret("t1")) as engine,
    ):
        await engine.submit(ordered())


async def test_what_the_token_may_not_do_may_be_allowed_later(server: ArgoServer, engine: Argo) -> None:
    server.forbidden.add("submit")
    with pytest.raises(UpstreamUnavailable, match=r"does not let us do this \(403\): .* cannot submit"):
        await engine.submit(ordered())
    server.forbidden.clear()
    await engine.submit(ordered())


async def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    async with ArgoServer(TEMPLATES, tls=context) as server:
        async with engine_of(server.url, http=HttpSettings(ca_file=str(file))) as engine:
            assert await engine.submit(ordered()) == "run-1"
            assert [one.state async for one in ending(server, engine, "run-1")] == ["succeeded"]
        async with engine_of(server.url) as stranger:
            with pytest.raises(UpstreamUnavailable, match="certificate"):
                await stranger.submit(ordered("run-2"))
    assert server.workflows.created == {"run-1": 1}


async def ending(server: ArgoServer, engine: Argo, name: str) -> AsyncGenerator[object]:
    server.move(name, "Succeeded")
    async for one in engine.follow(ordered(name), name):
        yield one


# Stop


@pytest.mark.parametrize("phase", ["", "Pending", "Running"])
async def test_a_workflow_that_goes_on_is_told_to_stop(server: ArgoServer, engine: Argo, phase: str) -> None:
    await engine.submit(ordered())
    server.move("run-1", phase)
    server.obeys = False
    assert await engine.stop(ordered(), "run-1", "it took longer than 1 s")
    assert server.workflows.live["run-1"].shutdown == "Stop"
    assert server.endpoint.requests[-1].json()["message"] == "it took longer than 1 s"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Error"])
@pytest.mark.parametrize("archived", [False, True])
async def test_a_workflow_that_has_ended_is_not_stopped(
    server: ArgoServer, engine: Argo, phase: str, archived: bool
) -> None:
    await engine.submit(ordered())
    server.move("run-1", phase)
    if archived:
        server.remove("run-1", archive=True)
    assert not await engine.stop(ordered(), "run-1", "too late")


async def test_a_workflow_that_does_not_exist_counts_as_stopped(engine: Argo) -> None:
    assert await engine.stop(ordered(), "", "cancelled")


async def test_a_workflow_whose_name_never_came_back_is_stopped(server: ArgoServer, engine: Argo) -> None:
    await engine.submit(ordered())
    assert await engine.stop(ordered(), "", "cancelled")
    assert server.workflows.live["run-1"].shutdown == "Stop"


async def test_a_stop_that_fails_while_the_workflow_goes_on_is_an_error(
    server: ArgoServer, engine: Argo
) -> None:
    await engine.submit(ordered())
    server.faults.tell("stop", Fault("500"))
    with pytest.raises(UpstreamUnavailable):
        await engine.stop(ordered(), "run-1", "cancelled")
    assert await engine.stop(ordered(), "run-1", "cancelled")


async def test_a_stop_that_was_dropped_on_the_way_is_made_again(server: ArgoServer, engine: Argo) -> None:
    await engine.submit(ordered())
    server.faults.tell("stop", Fault("cut"))
    assert await engine.stop(ordered(), "run-1", "cancelled")
    assert server.calls["stop"] == 2


async def test_a_stop_whose_reply_is_lost_is_made_again_and_finds_it_ended(
    server: ArgoServer, engine: Argo
) -> None:
    await engine.submit(ordered())
    server.faults.tell("stop", Fault("500", after=True))
    assert not await engine.stop(ordered(), "run-1", "cancelled")
    assert server.workflows.live["run-1"].phase == "Failed"
