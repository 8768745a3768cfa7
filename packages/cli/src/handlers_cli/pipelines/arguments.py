"""The options of the pipeline commands."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from handler_messages.statuses import PIPELINE_STATUSES
from handlers_cli.running import add_nats, run, seconds
from handlers_cli.terminal import EXIT_USAGE

if TYPE_CHECKING:
    from handlers_cli.terminal import Terminal

STATUSES = ("active", *PIPELINE_STATUSES)


def add_trigger(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handlers trigger`."""
    parser.set_defaults(run=_trigger, form="text")
    parser.add_argument("pipeline", nargs="?", default="", help="what to run; without it, what there is")
    parser.add_argument(
        "parameters", nargs="*", default=[], metavar="NAME=VALUE", help="what the pipeline is told"
    )
    add_nats(parser)
    parser.add_argument("--user", default="", metavar="ID", help="on whose behalf it runs")
    parser.add_argument(
        "--id",
        default="",
        metavar="REQUEST",
        help="id of the request; one that was used before means that run",
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="seconds to follow the run (default: until its end)"
    )
    parser.add_argument("--detach", action="store_true", help="print the id of the request and end")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print one JSON object")
    form.add_argument(
        "--jsonl",
        dest="form",
        action="store_const",
        const="jsonl",
        help="print each status as it comes, as JSON lines",
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handlers runs`."""
    parser.set_defaults(run=_runs)
    parser.add_argument(
        "request", nargs="?", default="", metavar="ID", help="show one run and follow it to its end"
    )
    add_nats(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="list those that have ended, too")
    which.add_argument("--status", choices=STATUSES, help="list those with this status (default: active)")
    parser.add_argument("--pipeline", default="", metavar="NAME", help="list those of one pipeline")
    parser.add_argument("--limit", type=_count, default=0, metavar="N", help="most runs to list")
    parser.add_argument("--no-follow", dest="follow", action="store_false", help="do not wait for its end")
    parser.add_argument("--cancel", action="store_true", help="stop it")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why it is stopped")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs")
    return int(text)


def _trigger(options: argparse.Namespace, terminal: Terminal) -> int:
    if problem := _problem_of_trigger(options):
        terminal.error(problem)
        return EXIT_USAGE
    if not options.pipeline:
        from handlers_cli.pipelines.known import Known, known

        listed = Known(nats_url=options.nats_url, as_json=options.form != "text")
        return run(lambda interrupt: known(listed, terminal, interrupt))

    from handlers_cli.pipelines.trigger import Trigger, trigger

    what = Trigger(
        pipeline=options.pipeline,
        parameters=dict(word.split("=", 1) for word in options.parameters),
        nats_url=options.nats_url,
        user=options.user,
        request_id=options.id,
        timeout=options.timeout,
        detach=options.detach,
        form=options.form,
    )
    return run(lambda interrupt: trigger(what, terminal, interrupt))


def _problem_of_trigger(options: argparse.Namespace) -> str:
    """Return what is wrong with the words of a trigger, or ""."""
    if "=" in options.pipeline:
        return f"{options.pipeline!r} is a parameter; the name of the pipeline comes before it"
    if not options.pipeline and options.id:
        return f"no pipeline is named; to see a run again: `handlers runs {options.id}`"
    if not options.pipeline and (options.detach or options.user):
        return "no pipeline is named; `handlers trigger` lists them"
    names: list[str] = []
    for word in options.parameters:
        name, equals, _ = word.partition("=")
        if not equals or not name:
            return f"{word!r} is no parameter: they are given as NAME=VALUE, for instance source-url=docs"
        if name in names:
            return f"the parameter {name!r} is given twice"
        names.append(name)
    return ""


def _runs(options: argparse.Namespace, terminal: Terminal) -> int:
    if problem := _problem_of_runs(options):
        terminal.error(problem)
        return EXIT_USAGE
    if options.request:
        from handlers_cli.pipelines.one import One, one

        which = One(
            request_id=options.request,
            nats_url=options.nats_url,
            follow=options.follow,
            cancel=options.cancel,
            reason=options.reason or "cancelled at the terminal",
            as_json=options.as_json,
        )
        return run(lambda interrupt: one(which, terminal, interrupt))

    from handlers_cli.pipelines.runs import Runs, runs

    what = Runs(
        nats_url=options.nats_url,
        pipeline=options.pipeline,
        status="" if options.all else options.status or "active",
        limit=options.limit,
        as_json=options.as_json,
    )
    return run(lambda interrupt: runs(what, terminal, interrupt))


def _problem_of_runs(options: argparse.Namespace) -> str:
    """Return which options do not go together, or ""."""
    if not options.request:
        of_one = {"--cancel": options.cancel, "--reason": options.reason, "--no-follow": not options.follow}
        given = next((name for name, is_given in of_one.items() if is_given), "")
        return f"{given} is for one run: `handlers runs ID {given}`" if given else ""
    of_many = {
        "--all": options.all,
        "--status": options.status,
        "--pipeline": options.pipeline,
        "--limit": options.limit,
    }
    given = next((name for name, is_given in of_many.items() if is_given), "")
    if given:
        return f"{given} chooses what is listed; it does not go with the id of one run"
    return "--reason goes with --cancel" if options.reason and not options.cancel else ""
