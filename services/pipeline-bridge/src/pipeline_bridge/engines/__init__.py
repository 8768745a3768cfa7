"""What runs pipelines, behind one small protocol: `argo`, `kubeflow`, `local`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from pipeline_bridge.catalogue import Pipeline  # noqa: TC001 - msgspec reads the annotation at run time

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

State = Literal["pending", "running", "succeeded", "failed"]
"""How far a run is, in the words of `PipelineStatus`; every engine's own words are mapped to these."""

RANKS: dict[State, int] = {"pending": 1, "running": 2, "succeeded": 3, "failed": 3}
"""The order of states; a run only goes forward."""

ENDS: frozenset[State] = frozenset({"succeeded", "failed"})


class Order(msgspec.Struct, frozen=True):
    """What an engine is to run.

    Attributes:
        request_id: Who is told.
        name: A name for the run, made of the request's id: a valid DNS label that no other request has.
        pipeline: The catalogue's entry.
        parameters: Checked values of all its parameters, defaults filled in, as text.
    """

    request_id: str
    name: str
    pipeline: Pipeline
    parameters: dict[str, str]


class Observation(msgspec.Struct, frozen=True):
    """What an engine says about a run.

    Attributes:
        state: How far it is.
        message: How far within that, what came out, or what went wrong; for a person.
        started: Whether it has ever run; one that failed may not have.
    """

    state: State
    message: str = ""
    started: bool = True


class Engine(Protocol):
    """Something that runs pipelines.

    Every method but `run_id` may raise an `UpstreamError` or `Overloaded`; the caller tries again after what may pass.
    Cancelling a call leaves the engine as it is.
    """

    name: str

    def run_id(self, order: Order) -> str:
        """Return what the engine will call the run, or "" if that is not known before it is there."""
        ...

    async def submit(self, order: Order) -> str:
        """Start the run unless it was started before; return what the engine calls it.

        However often it is called, and by whom, there is one run of an order.

        Raises:
            UpstreamRejected: If the engine will not run it; trying again does not help.
        """
        ...

    def follow(self, order: Order, run_id: str) -> AsyncGenerator[Observation]:
        """Yield how far a run is, then every change of it; ends after an end.

        Raises:
            UpstreamRejected: If the engine does not know the run (any more).
        """
        ...

    async def stop(self, order: Order, run_id: str, reason: str) -> bool:
        """Stop a run.

        Args:
            order: The order.
            run_id: What the engine calls it; "" if that never came back: then it is looked for.
            reason: Why, for the engine's records.

        Returns:
            False if it had ended already; True if it was told to stop, or does not exist.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what is open; runs go on."""
        ...
