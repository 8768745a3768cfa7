"""Runs a server in a network namespace of its own and relays one socket to it.

    unshare --net python -m handler_testkit._netns FD PORT -- COMMAND...

Some servers listen on every interface and on fixed ports, whatever their settings say. In a namespace that has
only a loopback device they can do neither harm nor meet another copy of themselves. FD is a listening socket
made before the namespace was entered, so it still belongs to the machine's own loopback; each connection
to it is relayed to PORT inside. Ends with COMMAND, or kills it when standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_PIECE = 1 << 16


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def _run(fd: int, port: int, command: list[str]) -> int:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    _raise_loopback()
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    async with await asyncio.start_server(relay, sock=socket.socket(fileno=fd)):
        ended = asyncio.ensure_future(process.wait())
        parent_gone = asyncio.ensure_future(stdin.read())
        await asyncio.wait({ended, parent_gone}, return_when=asyncio.FIRST_COMPLETED)
        parent_gone.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await ended


if __name__ == "__main__":
    sys.exit(asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[4:])))
