import io
import subprocess
import sys

import pytest

from handlers_cli.terminal import Terminal, printable, size


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Tty(), {}, True),
        (Tty(), {"NO_COLOR": "1"}, False),
        (Tty(), {"NO_COLOR": ""}, True),
        (Tty(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(stream, environ, coloured: bool) -> None:
    terminal = Terminal(stream, stream, environ)
    assert ("\x1b[" in terminal.bold("x")) == coloured
    terminal.error("broken")
    assert ("\x1b[" in stream.getvalue()) == coloured


def test_printable_keeps_every_language_and_no_control_character() -> None:
    for text in ("Grüße, 世界! 👋\n\tDone", "👩\u200d🚀", "\u0645\u06cc\u200c\u062e", "10\u00a0km\u3000x"):
        assert printable(text) == text
    assert printable("a\x1b[31mb\x00\x9b\u202ec") == "a\ufffd[31mb\ufffd\ufffd\ufffdc"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345, "12.3 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (8 << 20, "8.4 MB"),
    ],
)
def test_sizes_are_told_as_people_say_them(count: int, words: str) -> None:
    assert size(count) == words


def test_bytes_that_nobody_reads_any_more_are_dropped() -> None:
    code = "from handlers_cli.terminal import Terminal; t = Terminal(); t.write_bytes(bytes(1 << 26)); t.write_bytes(bytes(9))"
    done = subprocess.run(
        f"{sys.executable} -c '{code}' | head -c 1", shell=True, capture_output=True, check=False, timeout=60
    )
    assert done.stdout == b"\0"
    assert done.stderr == b""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handlers_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


COMMANDS = ("ask", "say", "transcribe", "talk", "voices", "trigger", "runs", "watch", "up")


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "usage: handlers" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("ask",),
        ("fly",),
        ("ask", "--timeout", "0", "x"),
        ("ask", " "),
        ("ask", "--json", "--jsonl", "x"),
        ("say", " ", "-o", "x.wav"),
        ("say", "x", "--format", "mp5"),
        ("transcribe",),
        ("transcribe", "not-there.wav"),
        ("talk", "not-there.wav", "-o", "x.wav"),
        ("talk", "--live", "not-there.wav", "-o", "x.wav"),
        ("trigger", "p", "source-url"),
        ("trigger", "p", "=docs"),
        ("trigger", "source-url=docs"),
        ("trigger", "p", "a=1", "a=2"),
        ("trigger", "p", "--user", "ada", "a=1", "--bad"),
        ("trigger", "--id", "x"),
        ("trigger", "--detach"),
        ("runs", "x", "y"),
        ("runs", "x", "--all"),
        ("runs", "x", "--reason", "enough"),
        ("runs", "--cancel"),
        ("runs", "--no-follow"),
        ("runs", "--limit", "0"),
        ("runs", "--status", "asleep"),
    ],
)
def test_wrong_use_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_commands_load_nothing_that_they_do_not_need() -> None:
    modules = ["handlers_cli.__main__", "handlers_cli.ask", "handlers_cli.watch"]
    modules += [f"handlers_cli.voice.{name}" for name in ("say", "transcribe", "talk", "live", "voices")]
    modules += [f"handlers_cli.pipelines.{name}" for name in ("trigger", "known", "runs", "one")]
    code = f"import sys, {', '.join(modules)}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert not loaded & {
        "pyreqwest",
        "numpy",
        "opentelemetry",
        "handlers_cli.stack",
        "uvloop",
        "apsw",
        "soundfile",
    }
