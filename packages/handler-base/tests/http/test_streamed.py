"""Streams: pieces as they come, limits of silence between them, and connections that live on after them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from handler_base.errors import (
    UpstreamError,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from handler_testkit.endpoints import Exchange, HttpEndpoint, answering, in_turn, sse

if TYPE_CHECKING:
    from handler_base.http import HttpPool


async def test_a_piece_is_handed_on_before_the_next_one_is_sent(pool: HttpPool) -> None:
    taken = [asyncio.Event() for _ in range(3)]
    async with HttpEndpoint(sse("0", taken[0].wait(), "1", taken[1].wait(), "2", taken[2].wait())) as server:
        async with pool.endpoint("llm", server.url, timeout=5).stream("POST", "/") as response:
            assert response.status == 200
            assert response.headers["content-type"] == "text/event-stream"
            seen: list[str] = []
            async for event in response.events():
                seen.append(event.text)
                if event.text.isdigit():
                    taken[int(event.text)].set()
        assert seen == ["0", "1", "2", "[DONE]"]


async def test_a_stream_read_to_its_end_gives_its_connection_back(pool: HttpPool) -> None:
    async with HttpEndpoint(sse("a")) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        for _ in range(5):
            async with endpoint.stream("POST", "/") as response:
                async for _event in response.events():
                    pass
        assert server.connections == 1
        assert endpoint.in_flight == 0


async def test_the_end_of_a_finished_stream_is_waited_for_in_the_background(pool: HttpPool) -> None:
    end = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"data: [DONE]\n\n")
        await end.wait()
        await exchange.send(b": bye\n\n")
        await exchange.end()

    async with HttpEndpoint(in_turn(script, answering({}))) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        async with endpoint.stream("POST", "/") as response:
            await response.read()
            response.finish()
        assert endpoint.in_flight == 0
        assert len(server.open) == 1
        end.set()
        await asyncio.sleep(0.01)
        await endpoint.request("GET", "/")
        assert server.connections == 1


async def test_a_finished_stream_whose_end_never_comes_is_closed(
    pool: HttpPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handler_base.http.streamed.LINGER", 0.02)

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"data: [DONE]\n\n")
        await exchange.stall()

    async with HttpEndpoint(script) as server:
        async with pool.endpoint("llm", server.url, timeout=5).stream("POST", "/") as response:
            await response.read()
            response.finish()
        await server.wait(lambda: server.disconnects == 1)


async def test_a_finished_stream_that_breaks_in_the_background_harms_nobody(pool: HttpPool) -> None:
    breaks = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"x")
        await breaks.wait()
        exchange.reset()

    async with HttpEndpoint(in_turn(script, answering({}))) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        async with endpoint.stream("POST", "/") as response:
            await response.read()
            response.finish()
        breaks.set()
        await server.wait(lambda: not server.open)
        assert (await endpoint.request("GET", "/")).status == 200


async def test_silence_between_two_pieces_has_its_own_limit(pool: HttpPool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for _ in range(3):
            await exchange.send(b"x")
            await asyncio.sleep(0.02)
        await exchange.stall()

    async with HttpEndpoint(script) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5, idle_timeout=0.3)
        got = 0
        with pytest.raises(
            UpstreamTimeout, match=r"llm at .* stopped in the middle of its answer: .* 0\.3 s"
        ):
            async with endpoint.stream("POST", "/") as response:
                async for piece in response:
                    got += len(piece)
        assert got == 3
        await server.wait(lambda: server.disconnects == 1)


async def test_a_slow_reader_is_not_taken_for_a_silent_endpoint(pool: HttpPool) -> None:
    async with HttpEndpoint(sse("a", asyncio.sleep(0.01), "b")) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5, idle_timeout=0.2)
        async with endpoint.stream("POST", "/") as response:
            seen: list[str] = []
            async for event in response.events():
                seen.append(event.text)
                await asyncio.sleep(0.3)
        assert seen == ["a", "b", "[DONE]"]


async def test_a_slow_reader_makes_the_sender_wait(pool: HttpPool) -> None:
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head()
        for _ in range(1024):
            await exchange.send(b"x" * 65536)
            sent += 65536
        await exchange.end()

    async with HttpEndpoint(script) as server:
        async with pool.endpoint("llm", server.url, timeout=5).stream("GET", "/") as response:
            total = len(await response.read())
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.05)
            assert sent < 32 * 1024 * 1024
            async for piece in response:
                total += len(piece)
        assert total == 64 * 1024 * 1024


async def test_a_finished_stream_under_back_pressure_still_ends(pool: HttpPool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for _ in range(100):
            await exchange.send(b"x" * 65536)
        await exchange.end()

    async with HttpEndpoint(in_turn(script, answering({}))) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        async with endpoint.stream("GET", "/") as response:
            await response.read()
            await asyncio.sleep(0.05)
            response.finish()
        await server.wait(lambda: len(server.requests) == 1 and not server.disconnects)
        await asyncio.sleep(0.1)
        await endpoint.request("GET", "/")
        assert (server.connections, server.disconnects) == (1, 0)


async def test_a_refusal_is_raised_on_entering(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({"error": {"message": "no such model"}}, 404)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        with pytest.raises(UpstreamRejected, match="no such model"):
            async with endpoint.stream("POST", "/"):
                pytest.fail("entered")
        assert endpoint.in_flight == 0


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_stream_that_breaks_is_an_error_after_what_came(pool: HttpPool, how: str) -> None:
    taken = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"data: a\n\n")
        await taken.wait()
        getattr(exchange, how)()

    async with HttpEndpoint(script) as server:
        seen: list[str] = []
        with pytest.raises(UpstreamUnavailable, match="in the middle of its answer"):
            async with pool.endpoint("llm", server.url, timeout=5).stream("POST", "/") as response:
                async for event in response.events():
                    seen.append(event.text)
                    taken.set()
        assert seen == ["a"]


async def test_an_event_that_is_too_large_names_the_endpoint(pool: HttpPool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.send(b"data: " + b"x" * 65536)

    async with HttpEndpoint(script) as server:
        with pytest.raises(UpstreamProtocol, match=r"llm at .* larger than 1048576 bytes") as caught:
            async with pool.endpoint("llm", server.url, timeout=5).stream("POST", "/") as response:
                async for _ in response.events():
                    pass
        assert caught.value.endpoint == "llm"
        await server.wait(lambda: not server.open)


async def test_reading_outside_the_block_is_a_mistake_that_shows(pool: HttpPool) -> None:
    response = pool.endpoint("llm", "http://127.0.0.1:1", timeout=5).stream("GET", "/")
    with pytest.raises(RuntimeError, match="async with"):
        await response.read()


async def test_a_stream_may_have_limits_of_its_own(pool: HttpPool) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/body":
            await exchange.head()
        await exchange.stall()

    async with HttpEndpoint(script) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=60)
        with pytest.raises(UpstreamTimeout, match=r"did not answer within 0\.02 s"):
            async with endpoint.stream("GET", "/", timeout=0.02):
                pass
        with pytest.raises(UpstreamTimeout, match=r"0\.03 s"):
            async with endpoint.stream("GET", "/body", idle_timeout=0.03) as response:
                await response.read()


async def test_an_error_of_the_reader_closes_the_stream_and_passes_through(pool: HttpPool) -> None:
    async with HttpEndpoint(sse("a", asyncio.Event().wait())) as server:
        with pytest.raises(ZeroDivisionError):
            async with pool.endpoint("llm", server.url, timeout=5).stream("POST", "/") as response:
                async for _ in response.events():
                    raise ZeroDivisionError
        await server.wait(lambda: server.disconnects == 1)


async def test_errors_know_their_endpoint(pool: HttpPool) -> None:
    with pytest.raises(UpstreamError) as caught:
        async with pool.endpoint("tts", "http://127.0.0.1:1", timeout=5).stream("GET", "/"):
            pass
    assert caught.value.endpoint == "tts"
