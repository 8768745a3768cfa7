"""Cancel means stop: the endpoint sees it at once, and the pool stays whole.

These are the tests that chose the engine (docs/decisions/0002-http-engine.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import uvloop

from handler_base.errors import Overloaded, UpstreamTimeout
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.endpoints import Exchange, HttpEndpoint, stalling, unanswered_port

SEEN = 2.0
"""Seconds in which an endpoint must see a disconnect here; it takes a few milliseconds on an idle machine."""

LOOPS = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


async def slow(exchange: Exchange) -> None:
    """Stall before the head, after it, or in the middle of the body, as the path says."""
    path = exchange.request.path
    if path == "/answer":
        await exchange.json({"ok": True})
        return
    if path != "/before-head":
        await exchange.head(200, {"content-type": "text/event-stream"})
    if path == "/in-body":
        await exchange.send(b"data: one\n\n")
    await exchange.stall()


async def cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel all, every third twice, and wait until they are done."""
    for index, task in enumerate(tasks):
        task.cancel()
        if index % 3 == 0:
            task.cancel()
    await asyncio.sleep(0)
    for task in tasks[::4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


@LOOPS
def test_a_hundred_cancels_half_while_connecting_leave_the_pool_whole(loop_factory) -> None:
    async def scenario() -> None:
        pool = HttpPool(HttpSettings(max_connections=10, pool_timeout=5, connect_timeout=30))
        with unanswered_port() as port:
            async with HttpEndpoint(slow) as server:
                endpoint = pool.endpoint("llm", server.url, timeout=30)
                absent = pool.endpoint("absent", f"http://127.0.0.1:{port}", timeout=30)

                async def unary(target) -> None:
                    await target.request("POST", "/before-head", content=b"{}", idempotent=True)

                async def stream(target, path: str) -> None:
                    async with target.stream("POST", path, content=b"{}", repeat="always") as response:
                        async for _ in response:
                            pass

                for round_ in range(5):
                    waiting = [
                        asyncio.create_task(unary(endpoint) if index % 2 else stream(endpoint, path))
                        for index, path in enumerate(
                            ["/before-head", "/before-head", "/in-head", "/in-body"] * 2
                        )
                    ] + [
                        asyncio.create_task(unary(endpoint)),
                        asyncio.create_task(stream(endpoint, "/in-body")),
                    ]
                    connecting = [
                        asyncio.create_task(unary(absent) if index % 2 else stream(absent, "/in-body"))
                        for index in range(10)
                    ]
                    await server.wait(lambda total=10 * (round_ + 1): len(server.requests) == total)
                    assert (endpoint.in_flight, absent.in_flight) == (10, 10)
                    await cancel(waiting + connecting)
                    await server.wait(lambda total=10 * (round_ + 1): server.disconnects == total, SEEN)
                    assert (endpoint.in_flight, absent.in_flight) == (0, 0)
                assert not server.open

                answers = await asyncio.gather(
                    *(
                        endpoint.request("POST", "/answer", content=b"{}", idempotent=False)
                        for _ in range(100)
                    )
                )
                assert [answer.status for answer in answers] == [200] * 100
                assert server.connections <= 50 + 10
        await pool.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


@LOOPS
def test_cancelling_while_waiting_for_a_slot_gives_nobodys_slot_away(loop_factory) -> None:
    async def scenario() -> None:
        pool = HttpPool(HttpSettings(max_connections=2, pool_timeout=5))
        async with HttpEndpoint(slow) as server:
            endpoint = pool.endpoint("llm", server.url, timeout=30)

            async def ask(path: str) -> int:
                return (await endpoint.request("POST", path, content=b"{}", idempotent=False)).status

            holding = [asyncio.create_task(ask("/before-head")) for _ in range(2)]
            await server.wait(lambda: len(server.requests) == 2)
            queued = [asyncio.create_task(ask("/answer")) for _ in range(6)]
            await asyncio.sleep(0)
            queued[0].cancel()
            queued[3].cancel()
            # The slots of both holders pass to queued calls, one of which is cancelled in that very moment.
            for task in holding:
                task.cancel()
            await asyncio.sleep(0)
            queued[1].cancel()
            results = await asyncio.gather(*queued, return_exceptions=True)
            assert [isinstance(result, asyncio.CancelledError) for result in results[:2]] == [True, True]
            assert [results[2], *results[4:]] == [200, 200, 200]
            assert endpoint.in_flight == 0
            await asyncio.gather(*holding, return_exceptions=True)
        await pool.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


def sockets() -> int:
    """Count the sockets of this process."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(entry.readlink()).startswith("socket:")
    return count


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
@LOOPS
def test_cancelling_while_connecting_leaves_no_socket_behind(loop_factory) -> None:
    async def scenario() -> None:
        pool = HttpPool(HttpSettings(connect_timeout=30))
        with unanswered_port() as port:
            endpoint = pool.endpoint("llm", f"http://127.0.0.1:{port}", timeout=30)
            before = sockets()
            tasks = [asyncio.create_task(endpoint.request("GET", "/")) for _ in range(20)]
            while sockets() < before + 20:
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            async with asyncio.timeout(5):
                while sockets() > before:
                    await asyncio.sleep(0)
        await pool.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


async def test_a_deadline_of_the_caller_closes_the_connection() -> None:
    pool = HttpPool(HttpSettings())
    async with HttpEndpoint(stalling) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=30)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await endpoint.request("POST", "/x", content=b"{}", idempotent=True)
        await server.wait(lambda: server.disconnects == 1, SEEN)
    await pool.aclose()


async def test_leaving_a_stream_early_closes_the_connection() -> None:
    pool = HttpPool(HttpSettings())
    async with HttpEndpoint(slow) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=30)
        async with endpoint.stream("POST", "/in-body") as response:
            assert await response.read() == b"data: one\n\n"
        await server.wait(lambda: server.disconnects == 1, SEEN)
        assert endpoint.in_flight == 0
    await pool.aclose()


async def test_cancelling_between_two_tries_ends_the_call() -> None:
    sleeping = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        sleeping.set()
        await asyncio.Event().wait()

    pool = HttpPool(HttpSettings(), sleep=sleep)
    endpoint = pool.endpoint("llm", "http://127.0.0.1:1", timeout=30)
    task = asyncio.create_task(endpoint.request("GET", "/", idempotent=True))
    await asyncio.wait_for(sleeping.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert endpoint.in_flight == 0


async def test_a_full_pool_is_overloaded_after_the_wait_and_recovers() -> None:
    pool = HttpPool(HttpSettings(max_connections=1, pool_timeout=0.02))
    async with HttpEndpoint(slow) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=30)
        task = asyncio.create_task(endpoint.request("POST", "/before-head", idempotent=False))
        await server.wait(lambda: len(server.requests) == 1)
        with pytest.raises(
            Overloaded, match=r"too many requests to llm at 127\.0\.0\.1:\d+: all 1 connections"
        ):
            await endpoint.request("POST", "/answer", idempotent=False)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await endpoint.request("POST", "/answer", idempotent=False)).status == 200
    await pool.aclose()


async def test_a_slow_endpoint_does_not_take_the_slots_of_another() -> None:
    pool = HttpPool(HttpSettings(max_connections=1, pool_timeout=0.02))
    async with HttpEndpoint(slow) as server:
        llm = pool.endpoint("llm", server.url, timeout=30)
        embeddings = pool.endpoint("embeddings", server.url, timeout=30)
        task = asyncio.create_task(llm.request("POST", "/before-head", idempotent=False))
        await server.wait(lambda: len(server.requests) == 1)
        assert (await embeddings.request("POST", "/answer", idempotent=False)).status == 200
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await pool.aclose()


async def test_connecting_has_its_own_limit() -> None:
    pool = HttpPool(HttpSettings(connect_timeout=0.05, retries=0))
    with unanswered_port() as port:
        endpoint = pool.endpoint("llm", f"http://127.0.0.1:{port}", timeout=30, setting="LLM_URL")
        with pytest.raises(
            UpstreamTimeout, match=r"did not accept a connection within 0\.05 s; check LLM_URL"
        ):
            await endpoint.request("POST", "/x", idempotent=False)
    await pool.aclose()
