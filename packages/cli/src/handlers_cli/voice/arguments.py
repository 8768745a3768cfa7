"""The options of the voice commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handlers_cli.running import add_nats, add_timeout, run
from handlers_cli.terminal import EXIT_USAGE

if TYPE_CHECKING:
    import argparse

    from handlers_cli.terminal import Terminal

_FORMATS = ("pcm", "wav", "mp3", "opus", "flac")


def add_say(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handlers say`."""
    parser.set_defaults(run=_say)
    parser.add_argument("text", nargs="+", help="what to say; - reads it from standard input")
    add_nats(parser)
    _add_output(parser, "the speech")
    parser.add_argument("--voice", default="", metavar="NAME", help="who says it; see `handlers voices`")
    parser.add_argument("--session", default="", metavar="ID", help="session that it belongs to")
    parser.add_argument("--language", default="", metavar="TAG", help="its language, for instance de")
    parser.add_argument(
        "--format",
        dest="form",
        default="",
        choices=_FORMATS,
        help="audio format (default: by the name of the file, else pcm, which is written as WAV)",
    )
    add_timeout(parser)


def add_transcribe(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handlers transcribe`."""
    parser.set_defaults(run=_transcribe)
    parser.add_argument(
        "file", help="audio file: WAV, or others with handlers-cli[audio]; - for standard input"
    )
    add_nats(parser)
    parser.add_argument("--language", default="", metavar="TAG", help="what is spoken, for instance de")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
    parser.add_argument("--realtime", action="store_true", help="send it as fast as it was spoken")
    add_timeout(parser, what="seconds without news")


def add_talk(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handlers talk`."""
    parser.set_defaults(run=_talk)
    parser.add_argument("file", help="audio file with the question; - for standard input")
    add_nats(parser)
    _add_output(parser, "the spoken answer")
    parser.add_argument("--user", default="", metavar="ID", help="ask as a user, on the durable subject")
    parser.add_argument("--session", default="", metavar="ID", help="conversation to go on with")
    parser.add_argument("--voice", default="", metavar="NAME", help="who answers; see `handlers voices`")
    parser.add_argument("--language", default="", metavar="TAG", help="what is spoken, for instance de")
    parser.add_argument("--collection", default="", metavar="NAME", help="knowledge base to search")
    parser.add_argument("--no-rag", dest="rag", action="store_false", help="leave the knowledge base out")
    parser.add_argument(
        "--live", action="store_true", help="speak it into a conversation, as fast as it was spoken"
    )
    add_timeout(parser)


def add_voices(parser: argparse.ArgumentParser) -> None:
    """Add the options of `handlers voices`."""
    parser.set_defaults(run=_voices)
    add_nats(parser)
    parser.add_argument("--refresh", action="store_true", help="look for new voices first")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
    add_timeout(parser, 30.0)


def _add_output(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "-o",
        "--output",
        default="",
        metavar="FILE",
        help=f"write {what} to a file, - for standard output (default: play it as it comes)",
    )


def _say(options: argparse.Namespace, terminal: Terminal) -> int:
    from handlers_cli.voice.say import Saying, say

    text = " ".join(options.text)
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        terminal.error("there is no text to say")
        return EXIT_USAGE
    saying = Saying(
        text=text,
        nats_url=options.nats_url,
        output=options.output,
        voice=options.voice,
        session=options.session,
        language=options.language,
        form=options.form,
        timeout=options.timeout,
    )
    return run(lambda interrupt: say(saying, terminal, interrupt))


def _transcribe(options: argparse.Namespace, terminal: Terminal) -> int:
    from handlers_cli.voice.transcribe import Transcribing, transcribe

    what = Transcribing(
        path=options.file,
        nats_url=options.nats_url,
        language=options.language,
        as_json=options.as_json,
        realtime=options.realtime,
        timeout=options.timeout,
    )
    return run(lambda interrupt: transcribe(what, terminal, interrupt))


def _talk(options: argparse.Namespace, terminal: Terminal) -> int:
    from handlers_cli.voice.live import live
    from handlers_cli.voice.talk import Talking, talk

    talking = Talking(
        path=options.file,
        nats_url=options.nats_url,
        output=options.output,
        user=options.user,
        session=options.session,
        voice=options.voice,
        language=options.language,
        collection=options.collection,
        rag=options.rag,
        timeout=options.timeout,
    )
    command = live if options.live else talk
    return run(lambda interrupt: command(talking, terminal, interrupt))


def _voices(options: argparse.Namespace, terminal: Terminal) -> int:
    from handlers_cli.voice.voices import Voices, voices

    what = Voices(
        nats_url=options.nats_url,
        refresh=options.refresh,
        as_json=options.as_json,
        timeout=options.timeout,
    )
    return run(lambda interrupt: voices(what, terminal, interrupt))
