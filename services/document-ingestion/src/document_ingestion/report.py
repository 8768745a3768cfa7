"""What an ingestion did, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Failure(msgspec.Struct, frozen=True):
    """A document that could not be ingested.

    Attributes:
        uri: Which.
        reason: Why, for a person.
    """

    uri: str
    reason: str


class Report(msgspec.Struct):
    """Counts of documents, by what became of them.

    Attributes:
        collection: Where they are.
        added: Stored for the first time.
        changed: Stored again, since they or the settings changed.
        unchanged: Left as they were.
        removed: Deleted, since they are gone from their folder.
        empty: Without any text, so not stored.
        failed: Not stored; what was stored of them before is kept.
        chunks: Chunks written.
        seconds: How long it took.
        dry_run: Whether this is only what would have been done.
    """

    collection: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    empty: int = 0
    failed: list[Failure] = msgspec.field(default_factory=list[Failure])
    chunks: int = 0
    seconds: float = 0.0
    dry_run: bool = False

    def lines(self) -> list[str]:
        """Return the report for a person; the last line says all that matters, since it may be the only one that is read."""
        why = f" ({self.failed[0].uri}: {self.failed[0].reason})" if self.failed else ""
        would = "would have been " if self.dry_run else ""
        return [
            *(f"failed: {failure.uri}: {failure.reason}" for failure in self.failed),
            (
                f"{self.collection}: {self.added} {would}added, {self.changed} {would}changed, {self.unchanged} "
                f"unchanged, {self.removed} {would}removed, {self.empty} empty, {len(self.failed)} failed{why}; "
                f"{self.chunks} chunks in {self.seconds:.1f} s"
            ),
        ]


class Progress(msgspec.Struct, frozen=True):
    """How far an ingestion is.

    Attributes:
        done: Documents done with.
        total: Documents in all.
        uri: The document at hand.
    """

    done: int
    total: int
    uri: str


OnProgress = Callable[[Progress], None]
