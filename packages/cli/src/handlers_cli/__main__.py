"""`handlers`: the commands and their options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from handlers_cli import __doc__ as description, __version__
from handlers_cli.pipelines.arguments import add_runs, add_trigger
from handlers_cli.running import add_nats, add_timeout, run
from handlers_cli.terminal import EXIT_INTERRUPTED, EXIT_USAGE, Terminal
from handlers_cli.voice.arguments import add_say, add_talk, add_transcribe, add_voices

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parsed(arguments)
    terminal = Terminal()
    try:
        return options.run(options, terminal)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, left = parser.parse_known_args(arguments)
    # Before Python 3.13 argparse does not take what comes after an option as one more of the words before it.
    words: list[str] | None = getattr(options, "parameters", None)
    if left and (words is None or any(word.startswith("-") for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if words is not None:
        options.parameters = [*words, *left]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="handlers", description=description)
    parser.add_argument("--version", action="version", version=f"handlers {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_ask(commands.add_parser("ask", help="ask a question, see the answer as it is made"))
    add_say(commands.add_parser("say", help="say a text, to a loudspeaker or a file"))
    add_transcribe(commands.add_parser("transcribe", help="write down what is said in an audio file"))
    add_talk(commands.add_parser("talk", help="ask a spoken question, hear the answer"))
    add_voices(commands.add_parser("voices", help="list the voices that can speak"))
    add_trigger(commands.add_parser("trigger", help="run a pipeline, follow it to its end"))
    add_runs(commands.add_parser("runs", help="list the runs of pipelines, follow or cancel one"))
    _add_watch(commands.add_parser("watch", help="show the traffic of the bus, decoded"))
    _add_up(commands.add_parser("up", help="run the local stack: NATS, inference, documents, services"))
    return parser


def _add_ask(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_ask)
    parser.add_argument("question", nargs="+", help="the question; - reads it from standard input")
    add_nats(parser)
    _add_question(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print one JSON object")
    form.add_argument(
        "--jsonl",
        dest="form",
        action="store_const",
        const="jsonl",
        help="print chunks as they come, as JSON lines",
    )
    parser.set_defaults(form="text")


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", default="", metavar="ID", help="ask as a user, on the durable subject")
    parser.add_argument("--session", default="", metavar="ID", help="conversation to go on with")
    parser.add_argument("--system", default="", metavar="TEXT", help="system prompt")
    parser.add_argument("--collection", default="", metavar="NAME", help="knowledge base to search")
    parser.add_argument("--top-k", type=int, default=0, metavar="N", help="passages for the prompt")
    parser.add_argument("--no-rag", dest="rag", action="store_false", help="leave the knowledge base out")
    parser.add_argument("--no-rerank", dest="rerank", action="store_false", help="leave the reranker out")
    parser.add_argument(
        "--language", default="", metavar="TAG", help="language of the answer, for instance de"
    )
    add_timeout(parser)


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_watch)
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="SUBJECT",
        help="what to watch (default: ai.> voice.>)",
    )
    add_nats(parser)
    parser.add_argument("--full", action="store_true", help="do not cut long texts")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON lines")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="stop after N messages")


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_up)
    parser.add_argument(
        "--docs",
        nargs="+",
        metavar="PATH",
        help="files, folders or URLs to ingest (default: this repository's own)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="where data and logs are kept (default: .local)"
    )
    parser.add_argument("--port-offset", type=int, default=0, metavar="N", help="added to every port")
    parser.add_argument("--nats-port", type=int, default=4222, metavar="PORT", help="default: 4222")
    parser.add_argument("--inference-port", type=int, default=8000, metavar="PORT", help="default: 8000")
    parser.add_argument(
        "--health-port",
        type=int,
        default=8080,
        metavar="PORT",
        help="probes of chat-handler; those of the other services take the ports after it (default: 8080)",
    )
    parser.add_argument(
        "--no-voice", dest="voice", action="store_false", help="leave the services that hear and speak out"
    )
    parser.add_argument("--verbose", action="store_true", help="print what the parts log")
    parser.add_argument("--ask", metavar="QUESTION", help="ask one question, print the answer, stop")
    parser.add_argument("--stay", action="store_true", help="stay up after the question of --ask")


def _ask(options: argparse.Namespace, terminal: Terminal) -> int:
    from handlers_cli.ask import Question, ask

    text = " ".join(options.question)
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        terminal.error("the question is empty")
        return EXIT_USAGE
    question = Question(
        text=text,
        nats_url=options.nats_url,
        user=options.user,
        session=options.session,
        system=options.system,
        collection=options.collection,
        top_k=options.top_k,
        rag=options.rag,
        rerank=options.rerank,
        language=options.language,
        timeout=options.timeout,
        form=options.form,
    )
    return run(lambda interrupt: ask(question, terminal, interrupt))


def _watch(options: argparse.Namespace, terminal: Terminal) -> int:
    from handlers_cli.watch import DEFAULT_SUBJECTS, Watch, watch

    what = Watch(
        subjects=tuple(options.subjects) or DEFAULT_SUBJECTS,
        nats_url=options.nats_url,
        full=options.full,
        as_json=options.as_json,
        count=options.count,
    )
    return run(lambda interrupt: watch(what, terminal, interrupt))


def _up(options: argparse.Namespace, terminal: Terminal) -> int:
    from handlers_cli.stack.layout import Ports, StackOptions
    from handlers_cli.stack.up import up

    offset = options.port_offset
    stack = StackOptions(
        ports=Ports(
            nats=options.nats_port + offset,
            inference=options.inference_port + offset,
            health=options.health_port + offset,
        ),
        docs=tuple(options.docs) if options.docs else None,
        data=options.data,
        verbose=options.verbose,
        question=options.ask or "",
        stay=options.stay,
        voice=options.voice,
    )
    return run(lambda interrupt: up(stack, terminal, interrupt))


if __name__ == "__main__":
    sys.exit(main())
