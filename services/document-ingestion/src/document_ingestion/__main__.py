"""`document-ingestion`: the command line."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from document_ingestion import __doc__ as description, __version__
from document_ingestion.config import IngestionSettings
from handler_base.config import help_text, load
from handler_base.errors import HandlerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from document_ingestion.report import Progress

_FAILED, _IMPOSSIBLE, _INTERRUPTED = 1, 2, 130

_PLAIN_SECONDS = 1.0
"""Shortest time between two lines of progress that are not drawn over."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: 0 when all is stored, 1 when documents failed, 2 when nothing can be done."""
    options = _parser().parse_args(arguments)
    # As the first process of a container we would not hear SIGTERM otherwise; Ctrl-C and it mean the same.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    sys.exit(_run(options))


def _run(options: argparse.Namespace) -> int:
    from document_ingestion.pipeline import ingest

    line = _Line(plain=options.progress)
    try:
        settings = load(IngestionSettings)
        if options.collection:
            vectors = msgspec.structs.replace(settings.vectors, collection=options.collection)
            settings = msgspec.structs.replace(settings, vectors=vectors)
        if options.base:
            settings = msgspec.structs.replace(settings, base=options.base)
        report = asyncio.run(ingest(options.source, settings, progress=line.show, dry_run=options.dry_run))
    except HandlerError as error:
        line.clear()
        _say(error.message)
        return _IMPOSSIBLE
    except KeyboardInterrupt:
        line.clear()
        _say("stopped; what was stored stays, and the next run goes on from there")
        return _INTERRUPTED
    line.clear()
    if options.json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        sys.stdout.writelines(f"{text}\n" for text in report.lines())
    return _FAILED if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="document-ingestion",
        description=description,
        epilog=f"Settings (environment variables):\n{help_text(IngestionSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", nargs="+", help="file, folder (Markdown, text, HTML, PDF) or http(s) URL")
    parser.add_argument("--collection", default="", help="where to, instead of COLLECTION_NAME")
    parser.add_argument("--base", default="", help="folder that paths are named from, instead of INGEST_BASE")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--json", action="store_true", help="report as one line of JSON")
    parser.add_argument(
        "--progress", action="store_true", help="tell the progress in lines where there is no terminal, too"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


class _Line:
    """The progress on standard error: one line that is drawn over on a terminal, elsewhere lines if they are wanted.

    Args:
        plain: Whether lines are wanted where there is no terminal.
    """

    def __init__(self, *, plain: bool) -> None:
        self._drawn = sys.stderr.isatty()
        self._plain = plain and not self._drawn
        self._told = float("-inf")

    def show(self, progress: Progress) -> None:
        text = f"{progress.done}/{progress.total} {progress.uri[:100]}"
        if self._drawn:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif self._plain and time.monotonic() - self._told >= _PLAIN_SECONDS:
            self._told = time.monotonic()
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")


def _say(text: str) -> None:
    sys.stderr.write(f"document-ingestion: {text}\n")


if __name__ == "__main__":
    main()
