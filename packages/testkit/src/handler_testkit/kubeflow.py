"""A scripted Kubeflow Pipelines API v2beta1, which keeps state and can be told to fail.

    async with KubeflowServer() as kubeflow:
        kubeflow.add_pipeline("rag-query", "v1", parameters={"query": "STRING"})
        kubeflow.faults.add("create_run", Fault(status=0, effect="done"))     # a run, and no word of it
        ...                                                                    # call kubeflow.url
        assert kubeflow.created["my-run"] == 1

It does what the API's own server does (kubeflow/pipelines, backend/src/apiserver): what it refuses and in which words,
what it leaves out, whole seconds, and 500 where a pipeline's version does not exist. Every request and reply is held
against the API's description where that is at hand; what does not fit it fails the test.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import unquote

from handler_testkit import _kubeflow_lists as lists
from handler_testkit._kubeflow_faults import Fault, Faults
from handler_testkit._kubeflow_pipelines import Pipelines
from handler_testkit._kubeflow_runs import ENDED, Run
from handler_testkit._kubeflow_specs import refusal
from handler_testkit.endpoints import HttpEndpoint
from handler_testkit.openapi import described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from handler_testkit.endpoints import Exchange, Request

__all__ = ["Fault", "KubeflowServer", "Run"]

Json = dict[str, Any]

_BASE = "/apis/v2beta1"
_ROUTES = {
    "list_pipelines": ("GET", "/pipelines"),
    "get_pipeline_by_name": ("GET", "/pipelines/names/([^/]+)"),
    "get_pipeline": ("GET", "/pipelines/([^/]+)"),
    "list_versions": ("GET", "/pipelines/([^/]+)/versions"),
    "get_version": ("GET", "/pipelines/([^/]+)/versions/([^/]+)"),
    "list_experiments": ("GET", "/experiments"),
    "get_experiment": ("GET", "/experiments/([^/:]+)"),
    "list_runs": ("GET", "/runs"),
    "create_run": ("POST", "/runs"),
    "get_run": ("GET", "/runs/([^/:]+)"),
    "delete_run": ("DELETE", "/runs/([^/:]+)"),
    "terminate_run": ("POST", "/runs/([^/:]+):terminate"),
    "archive_run": ("POST", "/runs/([^/:]+):archive"),
    "unarchive_run": ("POST", "/runs/([^/:]+):unarchive"),
}
_STATUS = {3: 400, 5: 404, 7: 403, 13: 500, 14: 503, 16: 401}
_CODES = {status: code for code, status in _STATUS.items()}
_IN_RUN = {
    "display_name",
    "description",
    "experiment_id",
    "pipeline_version_reference",
    "runtime_config",
    "service_account",
}


class _Refused(Exception):
    def __init__(self, code: int, message: str, said: str = "") -> None:
        super().__init__(message)
        self.status = _STATUS[code]
        self.body: Json = {
            "code": code,
            "message": message,
            "details": [
                {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": said or message}
            ],
        }


class _Called(NamedTuple):
    operation: str
    names: tuple[str, ...]
    request: Request


class KubeflowServer(Pipelines):
    """The server. Enter it with `async with`.

    Args:
        namespace: Where Kubeflow has many users: the one whose pipelines, experiments and runs these are; "" for one
            that has not.
        token: Bearer token that every call must bring; "" for none.

    Attributes:
        endpoint: What it listens with: its requests, and who hung up.
        runs: All that are there, by id, in the order of their making.
        created: How many were ever made, by display name.
        faults: What is to go wrong.
        token: As above; may be changed.
        forbidden: Whether whoever comes may do nothing.
        delay: Seconds before each answer.
        page_size: Most items of a page, whatever is asked for.
        plan: States that new runs go through after PENDING, one per look (`get_run`) at them.
        steps: Names of the steps of new runs.
        cancelled: What a terminated run becomes at the next look; "" for nothing.
    """

    def __init__(self, namespace: str = "", token: str = "") -> None:
        super().__init__(namespace)
        self.endpoint = HttpEndpoint(self._script)
        self.namespace = namespace
        self.token = token
        self.runs: dict[str, Run] = {}
        self.created: Counter[str] = Counter()
        self.faults = Faults()
        self.forbidden = False
        self.delay = 0.0
        self.page_size = lists.MAX_PAGE
        self.plan: tuple[str, ...] = ()
        self.steps: tuple[str, ...] = ()
        self.cancelled = "CANCELED"
        self._contract = described("kubeflow-pipelines-v2beta1")
        self._meetings: dict[str, asyncio.Barrier] = {}
        self._default = self.add_experiment("Default") if not namespace else ""

    @property
    def url(self) -> str:
        """Base address."""
        return self.endpoint.url

    @property
    def checked(self) -> bool:
        """Whether requests and replies are held against the API's description."""
        return self._contract is not None

    async def __aenter__(self) -> Self:
        await self.endpoint.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.endpoint.__aexit__(*exc)

    # What a test arranges

    def add_run(self, display_name: str, state: str = "PENDING", age: int = 0) -> Run:
        """Add a run that somebody else made, so many seconds ago."""
        version = next(iter(self.versions.values()))
        run = self._make(
            {
                "display_name": display_name,
                "experiment_id": next(iter(self.experiments)),
                "pipeline_version_reference": {
                    key: version[key] for key in ("pipeline_id", "pipeline_version_id")
                },
            },
            self.now() - age,
        )
        run.advance(state, self.now())
        return run

    def advance(self, run_id: str, state: str, *, error: str = "", done: int | None = None) -> None:
        """Bring a run into a state; see `Run.advance`."""
        self.runs[run_id].advance(state, self.now(), error, done)

    def named(self, display_name: str) -> list[Run]:
        """Return the runs of that name, in the order of their making."""
        return [run for run in self.runs.values() if run.seen["display_name"] == display_name]

    def alive(self, display_name: str) -> list[Run]:
        """Return those of them that nobody has terminated."""
        return [run for run in self.named(display_name) if not run.told_to_end]

    def together(self, operation: str, parties: int) -> None:
        """Let calls of an operation go on only when so many are there."""
        self._meetings[operation] = asyncio.Barrier(parties)

    def calls(self, operation: str) -> list[Request]:
        """Return the requests of an operation so far."""
        return [request for request in self.endpoint.requests if _called(request).operation == operation]

    async def down(self) -> None:
        """Be out of reach, with all that is known."""
        await self.endpoint.stop()

    async def up(self) -> None:
        """Be there again, at the same address."""
        await self.endpoint.start(self.endpoint.port)

    # Serving

    async def _script(self, exchange: Exchange) -> None:
        called = _called(exchange.request)
        self.faults.passed()
        if meeting := self._meetings.get(called.operation):
            await meeting.wait()
            self._meetings.pop(called.operation, None)
        if self.delay:
            await asyncio.sleep(self.delay)
        self._check_request(called.request)
        fault = self.faults.next(called.operation)
        if fault is not None:
            await self._fail(exchange, called, fault)
            return
        status, body = self._answer(called)
        await exchange.json(body, status)
        if self._contract is not None:
            request, content = called.request, json.dumps(body).encode()
            self._complain(self._contract.reply(request.method, request.target, status, content))

    async def _fail(self, exchange: Exchange, called: _Called, fault: Fault) -> None:
        if fault.effect == "done":
            self._answer(called)
        elif fault.effect == "later":
            self.faults.later(fault, lambda: self._answer(called))
        if fault.status is None:
            await exchange.stall()
        elif fault.status == 0:
            exchange.reset()
        else:
            refused = _Refused(_CODES.get(fault.status, 13), "told to fail")
            await exchange.json(refused.body, fault.status)

    def _check_request(self, request: Request) -> None:
        if self._contract is not None:
            self._complain(self._contract.request(request.method, request.target, request.body))

    def _complain(self, problems: Iterable[str]) -> None:
        self.endpoint.errors.extend(AssertionError(problem) for problem in problems)

    def _answer(self, called: _Called) -> tuple[int, Json]:
        try:
            self._authorize(called.request)
            if called.operation == "none":
                raise _Refused(5, "Not Found")
            serve: Callable[[_Called], Json] = getattr(self, f"_{called.operation}")
            return 200, serve(called)
        except _Refused as refused:
            return refused.status, refused.body
        except lists.ListRefused as refused:
            body = _Refused(3, f"Failed to create list options: Invalid input error: {refused}").body
            return 400, body

    def _authorize(self, request: Request) -> None:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            raise _Refused(16, "Unauthenticated: Request header error: there is no user identity header")
        if self.forbidden:
            raise _Refused(7, "PermissionDenied: User 'bridge' is not authorized with reason: ")

    # Pipelines and experiments

    def _list_pipelines(self, called: _Called) -> Json:
        return self._listed(lists.PIPELINES, "pipelines", self.pipelines.values(), called)

    def _get_pipeline_by_name(self, called: _Called) -> Json:
        (name,) = called.names
        namespace = called.request.query.get("namespace", "")
        for found in self.pipelines.values():
            if found["name"] == name and self._is_here(namespace):
                return found
        raise _not_found("Namespace/Pipeline", f"{namespace}/{name}")

    def _get_pipeline(self, called: _Called) -> Json:
        return _found(self.pipelines, called.names[0], "Pipeline")

    def _list_versions(self, called: _Called) -> Json:
        (pipeline_id,) = called.names
        _found(self.pipelines, pipeline_id, "Pipeline")
        versions = [one for one in self.versions.values() if one["pipeline_id"] == pipeline_id]
        return self._listed(lists.VERSIONS, "pipeline_versions", versions, called)

    def _get_version(self, called: _Called) -> Json:
        return _found(self.versions, called.names[1], "PipelineVersion")

    def _list_experiments(self, called: _Called) -> Json:
        return self._listed(lists.EXPERIMENTS, "experiments", self.experiments.values(), called)

    def _get_experiment(self, called: _Called) -> Json:
        return _found(self.experiments, called.names[0], "Experiment")

    # Runs

    def _list_runs(self, called: _Called) -> Json:
        return self._listed(lists.RUNS, "runs", [run.seen for run in self.runs.values()], called)

    def _get_run(self, called: _Called) -> Json:
        run = self._run(called)
        seen = copy.deepcopy(run.seen)
        if run.looks:
            run.advance(run.looks.pop(0), self.now())
        return seen

    def _create_run(self, called: _Called) -> Json:
        body: Json = called.request.json()
        if unknown := set(body) - _IN_RUN:
            raise _Refused(3, f"the client does not set {', '.join(sorted(unknown))}")
        if not body.get("display_name"):
            raise _Refused(3, "The run name is empty. Please specify a valid name")
        if not body.get("experiment_id"):
            if self.namespace:
                raise _Refused(3, "Experiment id can not be empty in multi-user mode")
            body["experiment_id"] = self._default
        _found(self.experiments, body["experiment_id"], "Experiment")
        reference = body.get("pipeline_version_reference", {})
        version = self.versions.get(reference.get("pipeline_version_id", ""))
        if version is None or version["pipeline_id"] != reference.get("pipeline_id"):
            raise _Refused(
                13,
                "Failed to create a new run: InternalServerError: Failed to create a run due to error fetching "
                f"manifest: PipelineVersion {reference.get('pipeline_version_id')} not found",
                "Internal Server Error",
            )
        given: Json = body.get("runtime_config", {}).get("parameters", {})
        if "pipeline_spec" in version and (why := refusal(version["pipeline_spec"], given)):
            words = "Failed to generate the ExecutionSpec: invalid pipeline job inputs: Invalid input error"
            raise _Refused(3, f"Failed to create a new run: {words}: {why}", why)
        body.setdefault("service_account", "pipeline-runner")
        return self._make(body, self.now()).seen

    def _delete_run(self, called: _Called) -> Json:
        run = self._run(called)
        run.told_to_end = True
        del self.runs[run.run_id]
        return {}

    def _terminate_run(self, called: _Called) -> Json:
        run = self._run(called)
        if run.state in ENDED or run.state == "CANCELING":
            raise _Refused(3, f"Failed to terminate a run {run.run_id}. Row not found")
        run.told_to_end = True
        run.advance("CANCELING", self.now())
        run.looks = [self.cancelled] if self.cancelled else []
        return {}

    def _archive_run(self, called: _Called) -> Json:
        self._run(called).seen["storage_state"] = "ARCHIVED"
        return {}

    def _unarchive_run(self, called: _Called) -> Json:
        self._run(called).seen["storage_state"] = "AVAILABLE"
        return {}

    def _run(self, called: _Called) -> Run:
        run = self.runs.get(called.names[0])
        if run is None:
            raise _not_found("Run", called.names[0])
        return run

    def _make(self, body: Json, now: float) -> Run:
        run = Run(body, self.namespace, now, self.steps)
        run.looks = list(self.plan)
        self.runs[run.run_id] = run
        self.created[body["display_name"]] += 1
        return run

    def _listed(self, kind: lists.Kind, name: str, items: Iterable[Json], called: _Called) -> Json:
        query = called.request.query
        here = kind is lists.VERSIONS or "experiment_id" in query or self._is_here(query.get("namespace", ""))
        if experiment := query.get("experiment_id"):
            items = [item for item in items if item["experiment_id"] == experiment]
        found = lists.page(kind, items if here else (), query, self.page_size)
        answer: Json = {name: found.items, "total_size": found.total, "next_page_token": found.token}
        return {key: value for key, value in answer.items() if value}

    def _is_here(self, namespace: str) -> bool:
        return not self.namespace or namespace == self.namespace


def _called(request: Request) -> _Called:
    for operation, (method, path) in _ROUTES.items():
        if method == request.method and (match := re.fullmatch(_BASE + path, request.path)):
            return _Called(operation, tuple(map(unquote, match.groups())), request)
    return _Called("none", (), request)


def _found(things: Mapping[str, Json], key: str, kind: str) -> Json:
    if key not in things:
        raise _not_found(kind, key)
    return things[key]


def _not_found(kind: str, key: str) -> _Refused:
    return _Refused(5, f"ResourceNotFoundError: {kind} {key} not found", f"{kind} {key} not found")
