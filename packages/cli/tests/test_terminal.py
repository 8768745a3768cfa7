import io
import subprocess
import sys

import pytest

from handlers_cli.terminal import Terminal, printable


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


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handlers_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", [(), ("ask",), ("watch",), ("up",)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "usage: handlers" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [(), ("ask",), ("fly",), ("ask", "--timeout", "0", "x"), ("ask", " "), ("ask", "--json", "--jsonl", "x")],
)
def test_wrong_use_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_ask_loads_nothing_that_it_does_not_need() -> None:
    code = "import sys, handlers_cli.__main__, handlers_cli.ask, handlers_cli.watch; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"pyreqwest", "numpy", "opentelemetry", "handlers_cli.stack", "uvloop", "apsw"}
