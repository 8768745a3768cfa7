"""One trace from the trigger through its submission to the engine and every status, and no parameter in the logs."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from handler_testkit.argo import ArgoServer, paced
from handler_testkit.otlp import otlp_collector
from handler_testkit.services import ServiceProcess

if TYPE_CHECKING:
    from conftest import Stack

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "the password is swordfish"
SUBJECT = "ai.pipeline.trigger"


async def test_a_run_is_seen_from_outside_and_what_it_is_told_is_not(stack: Stack) -> None:
    argo = ArgoServer({"work": {"what": None, "often": "1"}})
    argo.on_submit = paced(argo, lambda: 0.0, [("Running", {}), ("Succeeded", {})])
    with otlp_collector() as collector:
        async with argo:
            environ = stack.environ(
                ARGO_HOST=argo.url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, LOG_FORMAT="json"
            )
            del environ["HEALTH_PORT"]
            process = ServiceProcess("pipeline_bridge", environ)
            try:
                await asyncio.to_thread(process.start)
                told = await stack.listen("r1")
                request = stack.request("r1", what=SECRET)
                await stack.client.send(SUBJECT, request, traceparent=f"00-{TRACE}-{CALLER}-01")
                assert (await told.ended())[-1].status == "succeeded"
                refused = await stack.trigger("r2", what=SECRET, often=SECRET)
                assert (await refused.ended())[-1].status == "error"
                process.signal(signal.SIGTERM)  # delivers what is recorded
                assert await asyncio.to_thread(process.wait) == 0
                log = process.log()
            finally:
                await asyncio.to_thread(process.close)
        spans = [span for span in collector.spans if span.trace_id == TRACE]
        (processed,) = [span for span in spans if span.name == f"{SUBJECT} process"]
        (submitted,) = [span for span in spans if span.name == "pipeline submit"]
        assert (processed.parent_id, submitted.parent_id) == (CALLER, processed.span_id)
        assert submitted.attributes["pipeline.name"] == "work"
        assert submitted.attributes["pipeline.engine"] == "argo"
        assert [span.parent_id for span in spans if span.name == "POST argo"] == [submitted.span_id]
        for message in told.heard.all:
            assert (message.headers or {})["traceparent"].split("-")[1] == TRACE
        point = collector.metric("pipeline.runs").point(pipeline="work", engine="argo", status="succeeded")
        assert point is not None
        assert int(point["asInt"]) == 1
        point = collector.metric("handler.request.duration").point(subject=SUBJECT, error="invalid_request")
        assert point is not None
        assert int(point["count"]) == 1
        assert "work ended: succeeded" in log
        assert SECRET not in log
        assert SECRET not in repr((collector.spans, collector.metrics))
