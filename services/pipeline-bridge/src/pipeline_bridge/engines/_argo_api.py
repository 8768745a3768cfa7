"""The Argo Server's HTTP API: the calls that we make, what of its answers we read, its errors in our words.

Paths and shapes are those of https://argo-workflows.readthedocs.io/en/latest/swagger/. Answers are trimmed to the
fields that we read (`fields=`): a workflow with its nodes can be a megabyte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from handler_base.errors import UpstreamProtocol, UpstreamRejected, UpstreamUnavailable
from pipeline_bridge.engines._token import Token

if TYPE_CHECKING:
    from handler_base.errors import UpstreamError
    from handler_base.http import Endpoint, HttpPool, Repeat, StreamedResponse
    from pipeline_bridge.config import ArgoSettings

OURS = "app.kubernetes.io/managed-by=pipeline-bridge"
"""Label of the workflows that a bridge submitted, and the selector for them."""

ACTIVE = f"{OURS},workflows.argoproj.io/completed!=true"
"""Selector for those of them that have not ended: the others may be many, for they are kept for a while."""

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longest line of a watch."""

_FIELDS = (
    "metadata.name", "metadata.resourceVersion", "status.phase", "status.message", "status.progress",
    "status.startedAt", "status.outputs.parameters",
)  # fmt: skip
_OF_ONE = ",".join(_FIELDS)
_OF_LIST = ",".join(("metadata.resourceVersion", *(f"items.{field}" for field in _FIELDS)))
_OF_EVENT = ",".join(("result.type", *(f"result.object.{field}" for field in _FIELDS)))

_JSON = {"Content-Type": "application/json"}


class Metadata(msgspec.Struct, rename="camel"):
    """What a workflow or a list is called, and its version.

    Attributes:
        name: Its name.
        resource_version: Of a list, where a watch can begin.
    """

    name: str = ""
    resource_version: str | None = ""


class OutputParameter(msgspec.Struct):
    """A result.

    Attributes:
        name: Its name.
        value: Its value, as text.
    """

    name: str = ""
    value: str | None = ""


class Outputs(msgspec.Struct):
    """Global outputs.

    Attributes:
        parameters: Those that are text.
    """

    parameters: list[OutputParameter] | None = None


class Status(msgspec.Struct, rename="camel"):
    """How far a workflow is. Go writes null for what is not set.

    Attributes:
        phase: "", Pending, Running, Succeeded, Failed or Error.
        message: Why.
        progress: Completed and all tasks: `2/5`.
        started_at: When the controller took it up.
        outputs: Global outputs.
    """

    phase: str | None = ""
    message: str | None = ""
    progress: str | None = ""
    started_at: str | None = None
    outputs: Outputs | None = None


class Workflow(msgspec.Struct):
    """A workflow.

    Attributes:
        metadata: Its name and version.
        status: How far it is.
    """

    metadata: Metadata
    status: Status | None = None


class WorkflowList(msgspec.Struct):
    """Some workflows.

    Attributes:
        metadata: The version of the list.
        items: The workflows.
    """

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    items: list[Workflow] | None = None


class Event(msgspec.Struct):
    """A change of a workflow.

    Attributes:
        type: ADDED, MODIFIED or DELETED.
        object: The workflow; as it was last if it is deleted.
    """

    type: str
    object: Workflow


class StreamError(msgspec.Struct):
    """Why a watch ends.

    Attributes:
        grpc_code: A code of gRPC.
        message: In words.
    """

    grpc_code: int = 0
    message: str = ""


class Line(msgspec.Struct):
    """One line of a watch.

    Attributes:
        result: A change.
        error: The end of the stream.
    """

    result: Event | None = None
    error: StreamError | None = None


class SubmitOptions(msgspec.Struct, rename="camel", omit_defaults=True):
    """How to submit.

    Attributes:
        name: The workflow's name.
        parameters: `name=value` each.
        labels: `name=value` with commas between.
        annotations: Likewise.
        service_account: What its pods run as.
    """

    name: str
    parameters: list[str]
    labels: str
    annotations: str = ""
    service_account: str = ""


class Submission(msgspec.Struct, rename="camel"):
    """What to submit.

    Attributes:
        resource_kind: WorkflowTemplate or ClusterWorkflowTemplate.
        resource_name: The template's name.
        submit_options: How.
    """

    resource_kind: str
    resource_name: str
    submit_options: SubmitOptions


class Lines:
    """Reads the lines of one stream.

    Args:
        endpoint: Where it comes from.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._rest = b""

    def feed(self, piece: bytes) -> list[Line]:
        """Return the lines that a piece completes, perhaps none.

        Raises:
            UpstreamProtocol: If a line is not what it should be, or too long.
        """
        *whole, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise self._endpoint.unreadable(f"a line of more than {MAX_LINE_BYTES} bytes")
        return [self._endpoint.decode(line, Line) for line in whole if line.strip()]


class ArgoApi:
    """The Argo Server.

    Every call may raise an `UpstreamError` or `Overloaded`. A refused token is one that may pass, as is an answer that
    is not Argo's: a 404 that does not name what is missing, a page to log in, a way to one.

    Args:
        pool: Where its connections come from.
        settings: Where it is.
    """

    def __init__(self, pool: HttpPool, settings: ArgoSettings) -> None:
        self.namespace = settings.namespace
        self._token = Token("the Argo Server", "ARGO_TOKEN", settings.token, settings.token_file)
        self._endpoint = pool.endpoint("argo", settings.host, timeout=settings.timeout, setting="ARGO_HOST")
        self._idle = settings.watch_idle
        self._workflows = f"/api/v1/workflows/{quote(settings.namespace, safe='')}"
        self._events = f"/api/v1/workflow-events/{quote(settings.namespace, safe='')}"
        self._encoder = msgspec.json.Encoder()

    async def submit(self, submission: Submission) -> None:
        """Submit a workflow of a template.

        Raises:
            UpstreamRejected: If the Argo Server will not run it.
        """
        body = self._encoder.encode(submission)
        try:
            content = await self._call("POST", f"{self._workflows}/submit", body=body, repeat="always")
            self._one(submission.submit_options.name, content)
        except UpstreamProtocol as error:
            raise self._elsewhere(error) from error
        except UpstreamRejected as error:
            if error.status != 409:  # it exists: a call before this one was answered to nobody
                raise self._not_submitted(error, submission) from error

    async def get(self, name: str) -> Workflow | None:
        """Return a workflow, from the archive if need be; None if there is none."""
        path = f"{self._workflows}/{name}"
        try:
            return self._one(name, await self._call("GET", path, params={"fields": _OF_ONE}, repeat="always"))
        except (UpstreamRejected, UpstreamProtocol) as error:
            if self.missing(error, name):
                return None
            raise self._elsewhere(error) from error

    async def active(self) -> WorkflowList:
        """Return our workflows that have not ended."""
        params = {"listOptions.labelSelector": ACTIVE, "fields": _OF_LIST}
        try:
            content = await self._call("GET", self._workflows, params=params, repeat="always")
            return self._endpoint.decode(content, WorkflowList)
        except (UpstreamRejected, UpstreamProtocol) as error:
            raise self._elsewhere(error) from error

    async def stop(self, name: str, reason: str) -> None:
        """Tell a workflow to stop. One that has ended is an error, of status 500 in most versions."""
        body = self._encoder.encode({"name": name, "namespace": self.namespace, "message": reason})
        try:
            content = await self._call("PUT", f"{self._workflows}/{name}/stop", body=body, repeat="unstarted")
            self._one(name, content)
        except UpstreamProtocol as error:
            raise self._elsewhere(error) from error

    def watch(self, version: str) -> StreamedResponse:
        """Return the stream of changes of our workflows after a version, to be entered and read by lines.

        The Argo Server may not send as much as the head of it before the first change.
        """
        params = {"listOptions.labelSelector": OURS, "fields": _OF_EVENT}
        if version:
            params["listOptions.resourceVersion"] = version
        return self._endpoint.stream(
            "GET",
            self._events,
            headers=self._token.headers(),
            params=params,
            timeout=self._idle,
            idle_timeout=self._idle,
        )

    def lines(self) -> Lines:
        """Return what reads the lines of one watch."""
        return Lines(self._endpoint)

    def missing(self, error: UpstreamError, name: str) -> bool:
        """Whether the Argo Server says that there is nothing of that name."""
        return error.status == 404 and name in error.said

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        params: dict[str, str] | None = None,
        repeat: Repeat,
    ) -> bytes:
        headers = _JSON if body else {}
        return await self._token.call(
            self._endpoint, method, path, content=body, headers=headers, params=params, repeat=repeat
        )

    def _one(self, name: str, content: bytes) -> Workflow:
        """Read a workflow, which must be the one that was spoken of."""
        workflow = self._endpoint.decode(content, Workflow)
        if workflow.metadata.name != name:
            raise self._endpoint.unreadable(f"another workflow than {name}")
        return workflow

    def _not_submitted(self, error: UpstreamRejected, submission: Submission) -> UpstreamError:
        kind, name = submission.resource_kind, submission.resource_name
        if error.status != 404:
            return error
        if not self.missing(error, name):
            return self._elsewhere(error)
        where = "" if kind == "ClusterWorkflowTemplate" else f" in namespace {self.namespace}"
        return UpstreamRejected(
            f"the Argo Server has no {kind} {name}{where}; install it, or correct the pipeline's `template`",
            endpoint=error.endpoint,
            status=error.status,
            said=error.said,
        )

    def _elsewhere(self, error: UpstreamError) -> UpstreamError:
        """Return the error for an answer that the Argo Server would not give."""
        return UpstreamUnavailable(
            f"{error.message.partition('; check')[0]}; that is no answer of an Argo Server: check ARGO_HOST",
            endpoint=error.endpoint,
            status=error.status,
            said=error.said,
        )
