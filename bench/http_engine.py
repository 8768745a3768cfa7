"""What one call and one streamed token cost, by HTTP client, and what a cancel does to it.

    uv run --group bench-http python bench/http_engine.py          # all clients, in turn; rewrites http_engine.md
    uv run --group bench-http python bench/http_engine.py ours     # one of them, figures as JSON

Every client runs in a process of its own on uvloop and does the same: JSON from and to msgspec structs, tokens
out of server-sent events. The endpoint is another process, so that the CPU time is the client's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from handler_testkit.endpoints import Exchange, HttpEndpoint, unanswered_port

HERE = Path(__file__).parent
CLIENTS = ("ours", "pyreqwest", "aiohttp", "httpx2", "httpx")
CALLS = 2000
TOKENS = 200
POOL = 10
EMBED = "/embeddings/v1/embeddings"
CHAT = "/llm/v1/chat/completions"
QUESTION = {
    "model": "m",
    "input": ["a question of ordinary length, as people ask them"],
    "encoding_format": "float",
}
PROMPT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
JSON = {"Content-Type": "application/json"}


class Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class Vectors(msgspec.Struct):
    data: list[Vector]


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    choices: list[Choice]


VECTORS = msgspec.json.Decoder(Vectors)
CHUNK = msgspec.json.Decoder(Chunk)


class Ours:
    def __init__(self, url: str, connections: int) -> None:
        from handler_base.clients.llm import LLM, ChatMessage, LLMSettings
        from handler_base.http import HttpPool, HttpSettings

        self.pool = HttpPool(HttpSettings(max_connections=connections, pool_timeout=30, connect_timeout=30))
        self.endpoint = self.pool.endpoint("bench", url, timeout=30)
        self.llm = LLM(self.pool, LLMSettings(url=f"{url}/llm", model="m"))
        self.messages = [ChatMessage("user", "Hello")]

    async def post(self, path: str) -> Any:
        return await self.endpoint.post_json(path, QUESTION, Vectors)

    async def stream(self) -> int:
        async with self.llm.stream(self.messages) as completion:
            return len([piece async for piece in completion])

    async def close(self) -> None:
        await self.pool.aclose()


class Pyreqwest:
    def __init__(self, url: str, connections: int) -> None:
        from datetime import timedelta

        from pyreqwest.client import ClientBuilder

        from handler_base.http import EventParser

        self.parser = EventParser
        self.url = url
        self.client = (
            ClientBuilder()
            .max_connections(connections)
            .pool_timeout(timedelta(seconds=30))
            .connect_timeout(timedelta(seconds=30))
            .follow_redirects(enable=False)
            .build()
        )

    async def post(self, path: str) -> Any:
        request = self.client.post(self.url + path).headers(JSON).body_bytes(msgspec.json.encode(QUESTION))
        response = await request.build().send()
        return VECTORS.decode(await response.bytes())

    async def stream(self) -> int:
        builder = self.client.post(self.url + CHAT).headers(JSON).body_bytes(msgspec.json.encode(PROMPT))
        parser, pieces = self.parser(), 0
        async with builder.streamed_read_buffer_limit(0).build_streamed() as response:
            reader = response.body_reader
            while (piece := await reader.read_chunk()) is not None:
                for event in parser.feed(piece.to_bytes()):
                    pieces += event.data != b"[DONE]" and bool(
                        CHUNK.decode(event.data).choices[0].delta.content
                    )
        return pieces

    async def close(self) -> None:
        await self.client.close()


class Aiohttp:
    def __init__(self, url: str, connections: int) -> None:
        import aiohttp

        self.url = url
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def post(self, path: str) -> Any:
        async with self.session.post(
            self.url + path, data=msgspec.json.encode(QUESTION), headers=JSON
        ) as response:
            return VECTORS.decode(await response.read())

    async def stream(self) -> int:
        pieces = 0
        async with self.session.post(
            self.url + CHAT, data=msgspec.json.encode(PROMPT), headers=JSON
        ) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    pieces += bool(CHUNK.decode(line[6:]).choices[0].delta.content)
        return pieces

    async def close(self) -> None:
        await self.session.close()


class Httpx:
    def __init__(self, url: str, connections: int, library: str = "httpx") -> None:
        httpx = import_module(library)
        self.url = url
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self.client = httpx.AsyncClient(limits=limits, timeout=30)

    async def post(self, path: str) -> Any:
        response = await self.client.post(
            self.url + path, content=msgspec.json.encode(QUESTION), headers=JSON
        )
        return VECTORS.decode(response.content)

    async def stream(self) -> int:
        pieces = 0
        body = msgspec.json.encode(PROMPT)
        async with self.client.stream("POST", self.url + CHAT, content=body, headers=JSON) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    pieces += bool(CHUNK.decode(line[6:]).choices[0].delta.content)
        return pieces

    async def close(self) -> None:
        await self.client.aclose()


def make(name: str, url: str, connections: int) -> Any:
    if name == "httpx2":
        return Httpx(url, connections, "httpx2")
    return {"ours": Ours, "pyreqwest": Pyreqwest, "aiohttp": Aiohttp, "httpx": Httpx}[name](url, connections)


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def costs(name: str, url: str) -> dict[str, float]:
    before, start = resident(), time.perf_counter()
    client = make(name, url, 100)
    await client.post(EMBED)
    figures = {"first_call_ms": (time.perf_counter() - start) * 1e3, "rss_mb": resident() - before}
    for width in (1, 16, 64):

        async def worker(calls: int) -> None:
            for _ in range(calls):
                await client.post(EMBED)

        await asyncio.gather(*(worker(5) for _ in range(width)))
        cpu = time.process_time()
        await asyncio.gather(*(worker(CALLS // width) for _ in range(width)))
        figures[f"call_us_{width}"] = (time.process_time() - cpu) / (CALLS // width * width) * 1e6
    for width in (1, 32):
        cpu = time.process_time()
        pieces = await asyncio.gather(*(client.stream() for _ in range(width)))
        if set(pieces) != {TOKENS}:
            raise RuntimeError(f"{name} lost tokens: {pieces}")
        figures[f"token_us_{width}"] = (time.process_time() - cpu) / sum(pieces) * 1e6
    await client.close()
    return figures


async def cancels(name: str) -> dict[str, float]:
    """Cancel 100 calls, half while connecting, half before the answer, a third of them twice; pool of 10."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/stall":
            await exchange.stall()
        await exchange.json({"data": []})

    seen = 0
    with unanswered_port() as port:
        async with HttpEndpoint(script) as server:
            client, absent = make(name, server.url, POOL), make(name, f"http://127.0.0.1:{port}", POOL)
            for round_ in range(5):
                tasks = [asyncio.create_task(client.post("/stall")) for _ in range(POOL)]
                tasks += [asyncio.create_task(absent.post("/stall")) for _ in range(POOL)]
                with contextlib.suppress(TimeoutError):
                    await server.wait(lambda: len(server.requests) >= POOL * (round_ + 1), 1)  # noqa: B023
                for index, task in enumerate(tasks):
                    task.cancel()
                    if index % 3 == 0:
                        task.cancel()
                await asyncio.wait(tasks, timeout=2)
                with contextlib.suppress(TimeoutError):
                    await server.wait(lambda: server.disconnects >= POOL * (round_ + 1), 0.1)  # noqa: B023
            seen = server.disconnects
            tasks = [asyncio.create_task(client.post("/answer")) for _ in range(100)]
            done, late = await asyncio.wait(tasks, timeout=2)
            served = sum(task.exception() is None for task in done)
            for task in late:
                task.cancel()
            await asyncio.wait(tasks)
            with contextlib.suppress(Exception):
                await asyncio.wait_for(asyncio.gather(client.close(), absent.close()), 1)
    return {"disconnects_seen_of_50": seen, "next_calls_served_of_100": served}


def endpoint_process() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "handler_testkit.models", "--tokens", str(TOKENS), "--dimension", "32"],
        stdout=subprocess.PIPE,
        text=True,
    )


async def one(name: str) -> dict[str, float]:
    process = endpoint_process()
    assert process.stdout is not None
    try:
        figures = await costs(name, process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
    return figures | await cancels(name)


def everything(rounds: int) -> None:
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
    for number in range(rounds):
        for name in CLIENTS:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            run = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
            results[name].append(json.loads(run.stdout.splitlines()[-1]))
    medians = {
        name: {key: round(statistics.median(run[key] for run in runs), 1) for key in runs[0]}
        for name, runs in results.items()
    }
    parts = {"ours": "httptools"}
    versions = {name: version(parts.get(name, name)) for name in CLIENTS} | {"uvloop": version("uvloop")}
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
    report = {"machine": machine, "versions": versions, "median": medians, "rounds": results}
    (HERE / "results" / "http_engine.json").write_text(json.dumps(report, indent=1) + "\n")
    write_table(medians, versions, machine, rounds)


def write_table(
    medians: dict[str, Any], versions: dict[str, str], machine: dict[str, Any], rounds: int
) -> None:
    rows = [
        ("CPU µs a call, 1 / 16 / 64 in flight", ("call_us_1", "call_us_16", "call_us_64")),
        ("CPU µs a streamed token, 1 / 32 streams", ("token_us_1", "token_us_32")),
        ("first call, ms (loading the library included)", ("first_call_ms",)),
        ("memory added by the first call, MB", ("rss_mb",)),
        ("disconnects seen within 100 ms, of 50", ("disconnects_seen_of_50",)),
        ("next calls served within 2 s, of 100", ("next_calls_served_of_100",)),
    ]
    names = {"ours": f"ours (httptools {versions['ours']})"} | {
        name: f"{name} {versions[name]}" for name in CLIENTS if name != "ours"
    }
    lines = ["| |" + "|".join(names[name] for name in CLIENTS) + "|", "|---|" + "---|" * len(CLIENTS)]
    for title, keys in rows:
        cells = [" / ".join(f"{medians[name][key]:.0f}" for key in keys) for name in CLIENTS]
        lines.append(f"| {title} |" + "|".join(cells) + "|")
    note = f"\nPython {machine['python']}, uvloop {versions['uvloop']}, {machine['cpus']} CPUs, median of {rounds} rounds."
    page = HERE / "http_engine.md"
    head, mark, rest = page.read_text().partition("<!-- table: written by http_engine.py -->\n")
    _, end, tail = rest.partition("<!-- end of table -->")
    page.write_text(head + mark + "\n".join(lines) + "\n" + note + "\n" + end + tail)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("client", nargs="?", choices=CLIENTS)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    if options.client:
        print(json.dumps(uvloop.run(one(options.client))))
    else:
        everything(options.rounds)
