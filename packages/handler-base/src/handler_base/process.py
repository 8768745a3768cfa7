"""A service as a process: `--help`, settings from the environment, signals, exit status.

def assemble(service: Service, settings: GreeterSettings) -> None:
service.handle(subjects.CHAT_GREETING_REQUEST, greet, response=subjects.CHAT_GREETING_RESPONSE)

def main() -> None:
sys.exit(run("greeter", "1.0.0", GreeterSettings, assemble))
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from typing import TYPE_CHECKING, TypeVar

from handler_base import COLLECT_AFTER, telemetry
from handler_base.config import help_text, load
from handler_base.errors import ConfigError
from handler_base.service import Service, ServiceSettings
from handler_base.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


def run(
    name: str,
    version: str,
    settings: type[SettingsT],
    assemble: Callable[[Service, SettingsT], None],
    *,
    description: str = "",
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a service as a process: `--help`, `--version`, settings from the environment, signals.

    Returns:
        The exit status: 0 after SIGTERM or SIGINT, 2 when the settings are wrong.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments:
        return _answer(name, version, settings, description, arguments)
    try:
        values = load(settings)
        configure(values.telemetry.log_level, values.telemetry.log_format, name)
        telemetry.setup(name, version)
        service = Service(name, version, values, description=description)
        assemble(service, values)
        # What is there now stays for good, so that no collection looks at it again.
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_signal(service))
    except ConfigError as error:
        sys.stderr.write("".join(f"{name}: {problem}\n" for problem in error.problems))
        sys.stderr.write(f"{name}: see `{name} --help` for every setting\n")
        return 2
    return 0


def _answer(
    name: str, version: str, settings: type[ServiceSettings], description: str, arguments: Sequence[str]
) -> int:
    if list(arguments) == ["--version"]:
        sys.stdout.write(f"{name} {version}\n")
        return 0
    if list(arguments) in (["--help"], ["-h"]):
        sys.stdout.write(
            f"{name} {version}: {description}\n\nSettings, from the environment:\n{help_text(settings)}\n"
        )
        return 0
    sys.stderr.write(
        f"{name}: unknown arguments {' '.join(arguments)}; it takes its settings from the environment\n"
    )
    return 2


async def _until_signal(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        if stop.is_set():
            service.hurry()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    await service.run(stop)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop
