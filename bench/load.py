"""The load, in a process of its own: asks over NATS, notes what the answers cost the process that is measured.

    python bench/load.py '{"mode": "unary", "nats": "nats://…", "pid": 1, "in_flight": 16, "seconds": 2}'

Prints one line of JSON. Modes: `start` (asks until somebody answers), `unary`, `stream`.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

import uvloop
from lean_nats import LeanNats

from handler_messages import ChatRequest, ChatResponse, ChatStreamChunk

SUBJECT = "ai.chat.request"
QUESTION = (
    "Which subject carries a user's chat message, and how long is it kept? Please answer in two sentences."
)


def cpu_seconds(pid: int) -> float:
    """Time on a core of a process with all its threads, in nanosecond grain."""
    return (
        sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


def question(request_id: str, *, stream: bool) -> bytes:
    return ChatRequest(
        request_id=request_id,
        message=QUESTION,
        enable_rag=False,
        enable_reranker=False,
        enable_tts=False,
        enable_streaming=stream,
    ).SerializeToString()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Answers:
    """Waits for replies by the last token of their inbox."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[tuple[bytes, bool, int]]] = {}

    def expect(self, key: str) -> "asyncio.Future[tuple[bytes, bool, int]]":
        future = self.waiting[key] = asyncio.get_running_loop().create_future()
        return future

    def arrived(self, subject: str, payload: bytes, nobody: bool, when: int) -> None:
        future = self.waiting.pop(subject.rsplit(".", 1)[-1], None)
        if future is not None and not future.done():
            future.set_result((payload, nobody, when))


def checked(payload: bytes, request_id: str) -> ChatResponse:
    response = ChatResponse.FromString(payload)
    if response.request_id != request_id or not response.response:
        raise SystemExit(f"not an answer to {request_id}: {payload[:300]!r}")
    return response


async def start(job: dict) -> dict:
    """Ask every millisecond until a request finds a subscriber and is answered; times since `spawned` (ns)."""
    answers = Answers()
    client = await LeanNats.connect(job["nats"], answers.arrived)
    client.subscribe("_INBOX.bench.*", 1)
    print("polling", flush=True)
    spawned = int(sys.stdin.readline())
    number = 0
    while True:
        number += 1
        key = f"s{number}"
        future = answers.expect(key)
        asked = time.monotonic_ns()
        client.publish(SUBJECT, question(key, stream=False), f"_INBOX.bench.{key}")
        payload, nobody, when = await asyncio.wait_for(future, 30)
        if not nobody:
            checked(payload, key)
            return {"subscribed_ms": (asked - spawned) / 1e6, "answered_ms": (when - spawned) / 1e6}
        await asyncio.sleep(0.001)


async def unary(job: dict) -> dict:
    answers = Answers()
    client = await LeanNats.connect(job["nats"], answers.arrived)
    client.subscribe("_INBOX.bench.*", 1)
    done = 0
    latencies: list[float] = []
    until = float("inf")
    most = job.get("requests", float("inf"))

    async def worker(number: int) -> None:
        nonlocal done
        turn = 0
        while time.monotonic() < until and done < most:
            turn += 1
            key = f"{number}-{turn}-{os.getpid()}"
            future = answers.expect(key)
            asked = time.monotonic_ns()
            client.publish(SUBJECT, question(key, stream=False), f"_INBOX.bench.{key}")
            payload, nobody, when = await asyncio.wait_for(future, 30)
            if nobody:
                raise SystemExit("nobody listens")
            checked(payload, key)
            latencies.append((when - asked) / 1e6)
            done += 1

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(worker(number)) for number in range(job["in_flight"])]
        # Connections are made and caches are warm before it counts.
        await asyncio.sleep(job.get("warm_up", 0))
        cpu, started, before = cpu_seconds(job["pid"]), time.monotonic(), done
        latencies.clear()
        if "seconds" in job:
            await asyncio.sleep(job["seconds"])
        else:
            await asyncio.wait(workers)
        used, took, served = cpu_seconds(job["pid"]) - cpu, time.monotonic() - started, done - before
        measured = list(latencies)
        until = 0.0
    return {
        "requests": served,
        "cpu_us": used / served * 1e6,
        "per_second": served / took,
        "p50_ms": statistics.median(measured),
        "p99_ms": percentile(measured, 0.99),
    }


async def stream(job: dict) -> dict:
    """Run streams side by side; the tokens of the first and last tenth of the time do not count."""
    tokens: list[tuple[int, int]] = []
    answers = Answers()

    def arrived(subject: str, payload: bytes, nobody: bool, when: int) -> None:
        if not subject.startswith("ai.chat.response.stream."):
            answers.arrived(subject, payload, nobody, when)
            return
        # One message may carry several tokens; each is the time it was sent and a space.
        tokens.extend((int(sent), when) for sent in ChatStreamChunk.FromString(payload).content.split())

    client = await LeanNats.connect(job["nats"], arrived)
    client.subscribe("_INBOX.bench.*", 1)
    client.subscribe("ai.chat.response.stream.*", 2)

    async def one(number: int) -> None:
        # Spread over one interval, as independent people would be.
        await asyncio.sleep(0.005 * number / job["in_flight"])
        key = f"t{number}-{os.getpid()}-{time.monotonic_ns()}"
        future = answers.expect(key)
        client.publish(SUBJECT, question(key, stream=True), f"_INBOX.bench.{key}")
        payload, nobody, _ = await asyncio.wait_for(future, 60)
        if nobody:
            raise SystemExit("nobody listens")
        checked(payload, key)

    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(one(number)) for number in range(job["in_flight"])]
        await asyncio.sleep(job["warm_up"])
        cpu, before = cpu_seconds(job["pid"]), len(tokens)
        await asyncio.sleep(job["seconds"])
        used, counted = cpu_seconds(job["pid"]) - cpu, tokens[before:]
        await asyncio.wait(streams)
    if not counted:
        raise SystemExit("no token arrived in the measured time")
    added = [(when - sent) / 1e6 for sent, when in counted]
    return {
        "tokens": len(counted),
        "cpu_us": used / len(counted) * 1e6,
        "p50_ms": statistics.median(added),
        "p99_ms": percentile(added, 0.99),
        "max_ms": max(added),
        "all_tokens": len(tokens),
    }


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    print(json.dumps(uvloop.run({"start": start, "unary": unary, "stream": stream}[task["mode"]](task))))
