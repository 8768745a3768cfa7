"""A NATS client of a few lines, for the load: cheap, and it notes when a message arrives before anything else.

Only what the benchmark needs: one connection, one inbox, no reconnect.
"""

import asyncio
import json
import time
from collections.abc import Callable

Deliver = Callable[[str, bytes, bool, int], None]
"""Called with subject, payload, whether the server says that nobody listens, and the time of arrival (ns)."""


class LeanNats(asyncio.Protocol):
    def __init__(self, deliver: Deliver) -> None:
        self.deliver = deliver
        self.buffer = bytearray()
        self.ready = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, url: str, deliver: Deliver) -> "LeanNats":
        host, port = url.removeprefix("nats://").split(":")
        _, client = await asyncio.get_running_loop().create_connection(lambda: cls(deliver), host, int(port))
        await client.ready
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        options = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "lang": "lean",
        }
        transport.write(b"CONNECT %s\r\nPING\r\n" % json.dumps(options).encode())

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("closed by the server"))

    def subscribe(self, subject: str, sid: int) -> None:
        self.transport.write(b"SUB %s %d\r\n" % (subject.encode(), sid))

    def publish(self, subject: str, payload: bytes, reply: str) -> None:
        self.transport.write(
            b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply.encode(), len(payload), payload)
        )

    def data_received(self, data: bytes) -> None:
        arrived = time.monotonic_ns()
        buffer = self.buffer
        buffer += data
        start = 0
        while True:
            end = buffer.find(b"\r\n", start)
            if end < 0:
                break
            line = bytes(buffer[start:end])
            verb = line[:4].upper()
            if verb in (b"MSG ", b"HMSG"):
                words = line.split()
                size = int(words[-1])
                if len(buffer) < end + size + 4:
                    break
                headers = int(words[-2]) if verb == b"HMSG" else 0
                payload = bytes(buffer[end + 2 + headers : end + 2 + size])
                nobody = headers > 0 and buffer.startswith(b"NATS/1.0 503", end + 2)
                start = end + size + 4
                self.deliver(words[1].decode(), payload, nobody, arrived)
                continue
            start = end + 2
            if verb == b"PING":
                self.transport.write(b"PONG\r\n")
            elif verb == b"PONG" and not self.ready.done():
                self.ready.set_result(None)
            elif verb == b"-ERR":
                raise ConnectionError(line.decode())
        del buffer[:start]
