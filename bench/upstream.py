"""A scripted OpenAI chat endpoint that costs next to nothing, so that it is never what is measured.

    python bench/upstream.py PORT

Unary requests are answered at once. With `"stream":true` it sends `TOKENS` tokens, one every `INTERVAL` seconds; the
content of each is the time it was sent, in nanoseconds of the machine's monotonic clock, and a space.
"""

import asyncio
import contextlib
import sys
import time

import uvloop

TOKENS = 400
INTERVAL = 0.005
ANSWER = "The stream keeps a message for thirty days, so a client that was away can read it later. " * 3

_UNARY = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":"' + ANSWER.encode() + b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":40,'
    b'"completion_tokens":60,"total_tokens":100}}'
)
UNARY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(_UNARY),
    _UNARY,
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(delta: str, finish: str = "null") -> str:
    return (
        'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"bench","choices":[{"index":0,"delta":'
        f'{{{delta}}},"finish_reason":{finish}}}]}}\n\n'
    )


def chunked(text: str) -> bytes:
    data = text.encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


FIRST = chunked(event('"role":"assistant","content":""'))
LAST = chunked(event("", '"stop"')) + chunked("data: [DONE]\n\n") + b"0\r\n\r\n"
BEFORE, AFTER = (part.encode() for part in event('"content":"@ "').split("@"))
SIZE = b"%x\r\n" % (len(BEFORE) + 19 + len(AFTER))


class Endpoint(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_lost(self, _error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, separator, rest = self.buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            lowered = head.lower()
            at = lowered.find(b"content-length:")
            length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
            if b'"stream":true' in body or b'"stream": true' in body:
                self.transport.write(HEAD + FIRST)
                loop = asyncio.get_running_loop()
                self.sent = 0
                self.start = loop.time()
                self.timer = loop.call_at(self.start + INTERVAL, self.token)
            else:
                self.transport.write(UNARY)

    def token(self) -> None:
        if self.sent == TOKENS:
            self.transport.write(LAST)
            self.timer = None
            return
        self.transport.write(SIZE + BEFORE + b"%019d" % time.monotonic_ns() + AFTER + b"\r\n")
        self.sent += 1
        loop = asyncio.get_running_loop()
        self.timer = loop.call_at(self.start + INTERVAL * (self.sent + 1), self.token)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Endpoint, "127.0.0.1", int(sys.argv[1]))
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())
