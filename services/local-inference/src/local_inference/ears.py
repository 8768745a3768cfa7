"""A few processes that listen: started when somebody speaks, given one file at a time, ended with the service.

A client that goes away ends the process at its work, which nothing else could interrupt; the next file starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

import msgspec

from local_inference.listener import LENGTH, Heard, Job
from local_inference.wire import ApiError

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_MAX_ANSWER = 16 * 1024 * 1024
_START = "import sys; sys.path[:] = sys.argv[1:]; from local_inference.listener import main; main()"


class Ears:
    """Processes that listen.

    Args:
        count: How many there are at most; more files wait for their turn.
    """

    def __init__(self, count: int) -> None:
        self._turns = asyncio.Semaphore(count)
        self._idle: list[Process] = []
        self._busy: set[Process] = set()

    @property
    def processes(self) -> list[int]:
        """The ids of those that run."""
        return [process.pid for process in (*self._idle, *self._busy)]

    async def hear(self, data: bytes, job: Job) -> Heard:
        """Return what is said in a file.

        Raises:
            ApiError: If it cannot be read, is too long, or the recognizer is not installed.
        """
        if not importlib.util.find_spec("pocketsphinx"):
            message = "speech recognition needs pocketsphinx: pip install pocketsphinx, or point WHISPER_URL elsewhere"
            raise ApiError(503, message, code="engine_missing")
        async with self._turns:
            process = self._idle.pop() if self._idle else await _started()
            self._busy.add(process)
            try:
                heard = await _asked(process, data, job)
            except BaseException:
                await _ended(process)
                raise
            else:
                self._idle.append(process)
            finally:
                self._busy.discard(process)
        if heard.refusal is not None:
            no = heard.refusal
            raise ApiError(no.status, no.message, code=no.code, param=no.param)
        return heard

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*map(_ended, [*self._idle, *self._busy]))
        self._idle.clear()


async def _started() -> Process:
    # As this process was started: an image has its modules in one folder, and no `site`.
    flags = {"-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site, "-S": sys.flags.no_site}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *(flag for flag, is_set in flags.items() if is_set),
        "-c",
        _START,
        *sys.path,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # numpy would start a thread a core.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        limit=_MAX_ANSWER,
    )


async def _asked(process: Process, data: bytes, job: Job) -> Heard:
    assert process.stdin is not None
    assert process.stdout is not None
    # One that died is told by the answer that does not come.
    with contextlib.suppress(ConnectionError):
        for frame in (msgspec.json.encode(job), data):
            process.stdin.write(LENGTH.pack(len(frame)))
            process.stdin.write(frame)
        await process.stdin.drain()
    line = await process.stdout.readline()
    if not line.endswith(b"\n"):
        raise ApiError(500, "the recognizer broke off; is the file sound?", code="recognizer_failed")
    return msgspec.json.decode(line, type=Heard)


async def _ended(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()
