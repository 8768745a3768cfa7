"""A scripted Argo Server: it keeps workflows, tells of their changes, and fails as it is told to.

    async with ArgoServer({"document-ingestion": {"source-url": None}}) as server:
        ...                                              # a client of server.url submits and watches
        server.move("run-1", "Running", progress="1/3")
        server.cut_watches()
        assert server.workflows.created["run-1"] == 1

What it answers is what Argo's sources say (server/workflow/workflow_server.go, server/utils/errors.go, the gRPC
gateway v1): among it a 500 for stopping what has ended, 400 for a watch from a version that is forgotten, and an error
object `EOF` at the end of every watch that Kubernetes lets run out. As there, the head of a watch is sent with its
first event. Every request and reply is held against the published description where that is at hand; leaving the block
fails if there was a violation.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from handler_testkit._argo_faults import DISASTERS, Fault, Faults
from handler_testkit._argo_pace import paced
from handler_testkit._argo_submit import Refused, submitted
from handler_testkit._argo_workflows import Workflow, Workflows, cleaned, filled, selecting
from handler_testkit.endpoints import Exchange, HttpEndpoint
from handler_testkit.openapi import described

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from handler_testkit.endpoints import Request

__all__ = ["DISASTERS", "ArgoServer", "Fault", "Faults", "Workflow", "paced"]

Json = dict[str, Any]

NULLABLE = (
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "io.argoproj.workflow.v1alpha1.WorkflowList.items",
)
"""What Go writes as null: a time that is not set, and a list without items."""

_HTTP = {3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401}
_REASON = {400: "Bad Request", 429: "Too Many Requests", 403: "Forbidden", 500: "Internal Server Error"}
_STOPPED = "Stopped with strategy '{}'"


class ArgoServer:
    """The server.

    Args:
        templates: WorkflowTemplates: their parameters with the defaults, None where there is none.
        cluster_templates: ClusterWorkflowTemplates, likewise.
        namespace: Where workflows are.
        token: The bearer token it wants; None to let everyone in.
        tls: Context for `https`.
        on_submit: Called with every new workflow, for instance to make it advance.
        check: Whether to hold everything against the description.

    Attributes:
        workflows: All workflows, and how many were ever made.
        faults: What goes wrong.
        endpoint: Counts connections, requests and disconnects.
        calls: Calls by operation: submit, get, list, watch, stop, terminate.
        violations: Requests and replies that do not fit the description.
        watches: Watches that are open.
        forbidden: Operations that the token may not do.
        obeys: Whether the controller ends a workflow that is told to stop.
        eager: Whether the head of a watch is sent before its first event, as some proxies in front do.
        empty_version: Whether a list without live workflows has no resource version, as before Argo 3.6.
    """

    def __init__(
        self,
        templates: Mapping[str, Mapping[str, str | None]] | None = None,
        *,
        cluster_templates: Mapping[str, Mapping[str, str | None]] | None = None,
        namespace: str = "argo",
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        on_submit: Callable[[Workflow], object] | None = None,
        check: bool = True,
    ) -> None:
        self.templates: dict[bool, dict[str, Mapping[str, str | None]]] = {
            False: dict(templates or {}),
            True: dict(cluster_templates or {}),
        }
        self.namespace = namespace
        self.token = token
        self.on_submit = on_submit
        self.workflows = Workflows()
        self.faults = Faults()
        self.endpoint = HttpEndpoint(self._serve, tls=tls)
        self.calls: Counter[str] = Counter()
        self.violations: list[str] = []
        self.watches: set[Exchange] = set()
        self.forbidden: set[str] = set()
        self.obeys = True
        self.eager = False
        self._mute = False
        self.empty_version = False
        self._ending: set[Exchange] = set()
        self._contract = described("argo-workflows", NULLABLE) if check else None
        self._lines: dict[tuple[int, str, str], bytes] = {}

    @property
    def url(self) -> str:
        """Base address."""
        return self.endpoint.url

    async def __aenter__(self) -> Self:
        await self.endpoint.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self.endpoint.stop()
        if error is None:
            if self.endpoint.errors:
                raise ExceptionGroup("the scripted Argo Server failed", self.endpoint.errors)
            assert not self.violations, "\n".join(self.violations)

    async def down(self) -> None:
        """Stop listening and cut every connection; workflows stay."""
        await self.endpoint.stop()

    async def up(self) -> None:
        """Listen again, on the same port."""
        await self.endpoint.start(self.endpoint.port)

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, within the deadline of endpoints."""
        await self.endpoint.wait(condition)

    # What a test does to workflows and watches

    def move(self, name: str, phase: str | None = None, **fields: object) -> Workflow:
        """Let the controller change a workflow.

        Args:
            name: Which.
            phase: Its phase from now on; as before when None.
            fields: Others that change: `progress`, `message`, `outputs`.
        """
        if phase is not None:
            fields["phase"] = phase
        try:
            return self.workflows.change(name, **fields)
        finally:
            self.endpoint.changed()

    def remove(self, name: str, *, archive: bool = False) -> None:
        """Delete a workflow, or leave it to the archive, as its time to live has it."""
        self.workflows.remove(name, archive=archive)
        self.endpoint.changed()

    def cut_watches(self) -> None:
        """Cut every watch in the middle."""
        for exchange in list(self.watches):
            exchange.reset()

    def end_watches(self) -> None:
        """End every watch as Kubernetes does after a while."""
        self._ending |= self.watches
        self.workflows.wake()

    def mute(self, *, on: bool = True) -> None:
        """Let watches tell nothing, as behind a proxy that keeps what it should pass on; or let them tell again."""
        self._mute = on
        self.workflows.wake()

    # Calls

    async def _serve(self, exchange: Exchange) -> None:
        request = exchange.request
        if self._contract is not None:
            self.violations += self._contract.request(request.method, request.target, request.body)
        operation, name = self._operation(request)
        self.calls[operation] += 1
        fault = self.faults.next(operation)
        try:
            if fault is not None and not fault.after:
                await self._fail(exchange, fault)
                return
            self._admit(request, operation)
            if operation == "watch":
                await self._watch(exchange)
                return
            value = self._answer(operation, name, request)
        except Refused as error:
            await self._reply(exchange, {"code": error.code, "message": str(error)}, _HTTP[error.code])
            return
        finally:
            self.endpoint.changed()
        if fault is not None:
            await self._fail(exchange, fault)
        else:
            await self._reply(exchange, value)

    def _operation(self, request: Request) -> tuple[str, str]:
        match request.method, request.path.strip("/").split("/")[2:]:
            case "GET", ["workflow-events", namespace]:
                found, name = "watch", ""
            case "POST", ["workflows", namespace, "submit"]:
                found, name = "submit", ""
            case "GET", ["workflows", namespace]:
                found, name = "list", ""
            case "GET", ["workflows", namespace, name]:
                found = "get"
            case "PUT", ["workflows", namespace, name, ("stop" | "terminate") as found]:
                pass
            case _:
                return "unknown", ""
        return (found, name) if namespace == self.namespace else ("elsewhere", name)

    def _admit(self, request: Request, operation: str) -> None:
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refused(16, "token not valid. see https://argo-workflows.readthedocs.io/en/latest/faq/")
        if operation in self.forbidden or operation == "elsewhere":
            raise Refused(
                7,
                f'workflows.argoproj.io is forbidden: User "bridge" cannot {operation} resource "workflows"',
            )
        if operation == "unknown":
            raise Refused(5, "Not Found")

    def _answer(self, operation: str, name: str, request: Request) -> Json:
        if operation == "submit":
            return self._submit(request.json()).object(self.namespace)
        if operation == "list":
            return self._list(request.query)
        if operation == "get":
            return self._shown(self._known(self.workflows.find(name), name), request.query.get("fields", ""))
        return self._shut(operation, name).object(self.namespace)

    def _known(self, found: Workflow | None, name: str) -> Workflow:
        if found is None:
            raise Refused(5, f'workflows.argoproj.io "{name}" not found')
        return found

    def _list(self, query: Mapping[str, str]) -> Json:
        fits = self._selecting(query)
        live = [one for one in self.workflows.live.values() if fits(one)]
        found = [*live, *(one for one in self.workflows.archived.values() if fits(one))]
        version = "" if self.empty_version and not live else str(self.workflows.version)
        value: Json = {
            "metadata": {"resourceVersion": version} if version else {},
            "items": [one.object(self.namespace) for one in found],
        }
        picked = cleaned(value, query.get("fields", ""))
        items: list[Json] = picked.get("items", [])
        return {"metadata": picked.get("metadata", {}), "items": [filled(one) for one in items] or None}

    def _submit(self, body: Json) -> Workflow:
        workflow = submitted(body, self.templates)
        if workflow.name in self.workflows.live:
            raise Refused(6, f'workflows.argoproj.io "{workflow.name}" already exists')
        added = self.workflows.add(workflow)
        if self.on_submit is not None:
            self.on_submit(added)
        return added

    def _shut(self, operation: str, name: str) -> Workflow:
        self._known(self.workflows.find(name), name)
        found = self._known(self.workflows.live.get(name), name)
        if found.ended:
            raise Refused(
                13,
                f'cannot shutdown a completed workflow: workflow: "{name}", namespace: "{self.namespace}"',
            )
        strategy = operation.capitalize()
        shut = self.workflows.change(name, shutdown=strategy)
        if self.obeys:
            self.workflows.change(name, phase="Failed", message=_STOPPED.format(strategy))
        return shut

    # Watches

    async def _watch(self, exchange: Exchange) -> None:
        query = exchange.request.query
        fits, fields = self._selecting(query), query.get("fields", "")
        version = query.get("listOptions.resourceVersion", "")
        if version not in {"", "0"} and int(version) < self.workflows.oldest:
            await self._end_watch(
                exchange, 3, f"too old resource version: {version} ({self.workflows.oldest})"
            )
            return
        self.watches.add(exchange)
        self.endpoint.changed()
        try:
            if self.eager:
                await exchange.head(200, {"content-type": "application/json"})
            await self._tell(exchange, version, fits, fields)
        finally:
            self.watches.discard(exchange)
            self._ending.discard(exchange)
            self.endpoint.changed()

    async def _tell(
        self, exchange: Exchange, version: str, fits: Callable[[Workflow], bool], fields: str
    ) -> None:
        at = self.workflows.version
        pending: list[tuple[str, Workflow]] = []
        if version in {"", "0"}:
            pending = [("ADDED", one) for one in self.workflows.live.values() if fits(one)]
        else:
            at = int(version)
        while True:
            if not self._mute:
                for change in self.workflows.since(at):
                    at = change.version
                    if (told := change.told(fits)) is not None:
                        pending.append(told)
                while pending:
                    kind, workflow = pending.pop(0)
                    await self._event(exchange, self._line(kind, workflow, fields))
                    if self.faults.cuts():
                        exchange.reset()
                        return
            if exchange in self._ending:
                await self._end_watch(exchange, 8, "EOF")
                return
            if self._mute or not self.workflows.since(at):
                await self.workflows.moved()

    def _line(self, kind: str, workflow: Workflow, fields: str) -> bytes:
        """Return an event, made and checked once for all watches."""
        key = workflow.version, kind, fields
        line = self._lines.get(key)
        if line is None:
            shown = self._shown(workflow, fields, "result.object.")
            line = self._lines[key] = json.dumps({"result": {"type": kind, "object": shown}}).encode()
            self._check_line(line)
        return line

    async def _event(self, exchange: Exchange, line: bytes) -> None:
        if not exchange.started:
            await exchange.head(200, {"content-type": "application/json"})
        await exchange.send(line + b"\n")

    async def _end_watch(self, exchange: Exchange, code: int, message: str) -> None:
        """End a watch by an error: in the stream, or as the status of a stream that has not begun."""
        status = _HTTP[code]
        reason = _REASON[status]
        error = {"grpc_code": code, "http_code": status, "http_status": reason, "message": message}
        line = json.dumps({"error": error}).encode()
        self._check_line(line)
        if exchange.started:
            await exchange.send(line + b"\n")
            await exchange.end()
        else:
            await exchange.answer(line + b"\n", status, {"content-type": "application/json"})

    # Replies

    async def _fail(self, exchange: Exchange, fault: Fault) -> None:
        match fault.how:
            case "500":
                await self._reply(exchange, {"code": 13, "message": "etcdserver: leader changed"}, 500)
            case "503":
                await self._reply(exchange, {"code": 14, "message": "transport is closing"}, 503)
            case "cut":
                exchange.reset()
            case "stall":
                await exchange.stall()

    async def _reply(self, exchange: Exchange, value: Json, status: int = 200) -> None:
        body = json.dumps(value).encode()
        request = exchange.request
        if self._contract is not None:
            self.violations += self._contract.reply(request.method, request.target, status, body)
        await exchange.answer(body, status, {"content-type": "application/json"})

    def _check_line(self, line: bytes) -> None:
        if self._contract is not None:
            path = f"/api/v1/workflow-events/{self.namespace}"
            self.violations += self._contract.streamed("GET", path, line)

    def _shown(self, workflow: Workflow, fields: str, prefix: str = "") -> Json:
        return filled(cleaned(workflow.object(self.namespace), fields, prefix))

    def _selecting(self, query: Mapping[str, str]) -> Callable[[Workflow], bool]:
        try:
            return selecting(
                query.get("listOptions.labelSelector", ""), query.get("listOptions.fieldSelector", "")
            )
        except ValueError as error:
            raise Refused(3, str(error)) from None
