"""The runs: one record per request in the `pipeline-runs` bucket, and who may change it.

A record is written before what it says is told, so whoever takes a run over knows what was told at most. Every change
needs the revision that was read: of two replicas that think a run theirs, one finds out.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from handler_base.messaging import wire
from handler_base.messaging.keyvalue import Conflict, key_of
from handler_messages.statuses import PIPELINE_ENDS
from pipeline_bridge import engines

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from handler_base.messaging.keyvalue import KeyValue
    from pipeline_bridge.catalogue import Pipeline

log = logging.getLogger(__name__)

PREFIX = "run"
"""First part of the keys of runs."""

MAX_MESSAGE_CHARS = 1000
"""How much of a message is kept."""

_NAME_CHARS = 40
_HASH_CHARS = 20


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a request.

    Attributes:
        request_id: The request.
        pipeline: What it triggered; "" for a request that was cancelled before it came.
        engine: What runs it.
        name: What the run is called at the engine.
        parameters: Checked values of all parameters.
        user_id: Who triggered it, as the trigger says.
        kind: Content type of the trigger, and so of the statuses.
        trace: Headers that make what follows part of the trigger's trace.
        created: Unix time in seconds when it was put on record.
        deadline: Unix time in seconds when it is stopped.
        owner: The replica that sees it through; "" for whoever comes first.
        status: Its status, in the words of `PipelineStatus`.
        message: What is told with the status.
        error: Type of the error, with `failed` and `error`.
        sequence: How many statuses there are, this one included.
        updated: Unix time in seconds of the status.
        placed: Whether it has its place among the pipeline's runs, so that the engine may know it.
        accepted: Whether the engine has said that it has it.
        run_id: What the engine calls it.
        cancel: Why it is to be cancelled, or None.
        closed: Whether its end was told and its place given back, so that nothing more is to be done.
    """

    request_id: str
    pipeline: str = ""
    engine: str = ""
    name: str = ""
    parameters: dict[str, str] = {}
    user_id: str = ""
    kind: str = wire.PROTOBUF
    trace: dict[str, str] = {}
    created: float = 0.0
    deadline: float = 0.0
    owner: str = ""
    status: str = ""
    message: str = ""
    error: str = ""
    sequence: int = 0
    updated: float = 0.0
    placed: bool = False
    accepted: bool = False
    run_id: str = ""
    cancel: str | None = None
    closed: bool = False

    @property
    def ended(self) -> bool:
        """Whether it has come to an end; it may not have been told yet."""
        return self.status in PIPELINE_ENDS

    @property
    def over(self) -> bool:
        """Whether nobody need see to it: it is closed, or only a cancellation that came before its request."""
        return self.closed or not self.pipeline

    def order(self, pipeline: Pipeline) -> engines.Order:
        """Return what the engine is asked for."""
        return engines.Order(
            request_id=self.request_id, name=self.name, pipeline=pipeline, parameters=self.parameters
        )


RANKS: dict[str, int] = {"submitted": 0, **engines.RANKS, "error": 3}
"""The order of statuses; a run only goes forward."""


def name_of(pipeline: str, request_id: str) -> str:
    """Return the name of a request's run: a DNS label of at most 61 characters, always the same one."""
    digest = hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{pipeline[:_NAME_CHARS].rstrip('-')}-{digest[:_HASH_CHARS]}"


class Stored(NamedTuple):
    """A run as it is on record.

    Attributes:
        run: The run.
        revision: What a change of it must name.
    """

    run: Run
    revision: int


class Runs:
    """The runs of all replicas.

    Args:
        values: The bucket.
    """

    def __init__(self, values: KeyValue) -> None:
        self._values = values
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Run)

    async def create(self, run: Run) -> int | None:
        """Put a new run on record.

        Returns:
            Its revision; None if the request has a record.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        try:
            return await self._values.put(_key(run.request_id), self._encoder.encode(run), 0)
        except Conflict:
            return None

    async def save(self, run: Run, revision: int) -> int:
        """Change a run.

        Args:
            run: As it shall be.
            revision: The one that was read.

        Returns:
            Its new revision.

        Raises:
            Conflict: If somebody changed it meanwhile.
            MessagingError: If the bucket does not answer.
        """
        return await self._values.put(_key(run.request_id), self._encoder.encode(run), revision)

    async def load(self, request_id: str) -> Stored | None:
        """Return a request's run, or None.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        value = await self._values.get(_key(request_id))
        run = None if value is None else self._decoded(value.data)
        return None if value is None or run is None else Stored(run, value.revision)

    async def all(self) -> list[Stored]:
        """Return every run, oldest change first.

        Raises:
            MessagingError: If the bucket does not answer.
        """
        values = await self._values.all(PREFIX)
        found = [(self._decoded(value.data), value.revision) for value in values.values()]
        return [Stored(run, revision) for run, revision in found if run is not None]

    async def listen(self, changed: Callable[[Run], Awaitable[None]]) -> None:
        """Call `changed` with what is written from now on; see `KeyValue.listen`."""

        async def heard(_: str, data: bytes) -> None:
            run = self._decoded(data)
            if run is not None:
                await changed(run)

        await self._values.listen(PREFIX, heard)

    def _decoded(self, data: bytes) -> Run | None:
        try:
            return self._decoder.decode(data)
        except msgspec.DecodeError as error:
            log.error("a record in the bucket is not a run: %s", error)
            return None


class Taken(Exception):
    """Another replica has the run now."""


class Changed(Exception):
    """The record was not as we knew it; it was read again, and what to write must be thought over."""


class Record:
    """A run that this replica sees through.

    Args:
        runs: Where it is.
        stored: As it was read or written last.

    Attributes:
        run: As it is on record, as far as we know.
    """

    def __init__(self, runs: Runs, stored: Stored) -> None:
        self._runs = runs
        self.run, self._revision = stored

    async def save(self, run: Run) -> None:
        """Change the run.

        Raises:
            Changed: If it was changed meanwhile, perhaps by a write of ours whose answer was lost; `run` is as it is now.
            Taken: If it is not ours any more.
            MessagingError: If the bucket does not answer.
        """
        try:
            self._revision = await self._runs.save(run, self._revision)
        except Conflict:
            await self.reload()
            raise Changed from None
        self.run = run

    async def reload(self) -> None:
        """Read the run again.

        Raises:
            Taken: If it is not ours any more.
            MessagingError: If the bucket does not answer.
        """
        stored = await self._runs.load(self.run.request_id)
        if stored is None:
            # The bucket was lost with its disk. We know what was in it.
            self._revision = 0
            return
        if stored.run.owner != self.run.owner:
            raise Taken
        self.run, self._revision = stored


def now() -> float:
    """Return Unix time in seconds."""
    return time.time()


def _key(request_id: str) -> str:
    return key_of(PREFIX, request_id)
