"""Slots and connections at rest, where the moments matter."""

from __future__ import annotations

import asyncio
import errno

import pytest

from handler_base.errors import ShuttingDown, UpstreamUnavailable
from handler_base.http import HttpPool, HttpSettings
from handler_base.http._connection import Connection
from handler_base.http._dialer import _reason
from handler_base.http._failures import Broken, NoSlot
from handler_base.http._lanes import Connections, Lane
from handler_base.http._origin import Origin
from handler_testkit.endpoints import HttpEndpoint, answering

ORIGIN = Origin(False, "llm.test", 80)


async def test_a_slot_given_to_a_caller_that_is_cancelled_in_that_moment_goes_to_the_next() -> None:
    lane = Lane(1, 5)
    await lane.enter()
    first, second, third = (asyncio.create_task(lane.enter()) for _ in range(3))
    await asyncio.sleep(0)
    third.cancel()
    lane.leave()
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert first.cancelled()
    assert lane.in_use == 1
    lane.leave()
    assert lane.in_use == 0
    assert lane.enter_now()


async def test_slots_are_given_in_order_of_arrival_and_nobody_jumps_the_queue() -> None:
    lane = Lane(1, 5)
    await lane.enter()
    order: list[int] = []

    async def queue(number: int) -> None:
        await lane.enter()
        order.append(number)
        lane.leave()

    tasks = [asyncio.create_task(queue(number)) for number in range(5)]
    await asyncio.sleep(0)
    lane.leave()
    assert not lane.enter_now()
    await asyncio.gather(*tasks)
    assert order == list(range(5))


async def test_a_slot_that_comes_too_late_is_not_lost() -> None:
    lane = Lane(1, 0.01)
    await lane.enter()
    with pytest.raises(NoSlot):
        await lane.enter()
    lane.leave()
    assert lane.enter_now()


async def test_a_pool_that_closes_while_a_connection_is_made_closes_that_too() -> None:
    dialling, proceed = asyncio.Event(), asyncio.Event()
    made: list[Connection] = []

    async def dial(_origin: Origin) -> Connection:
        dialling.set()
        await proceed.wait()
        made.append(Connection(asyncio.get_running_loop()))
        return made[0]

    connections = Connections(dial, idle_timeout=1, max_idle=1)
    task = asyncio.create_task(connections.take_new(ORIGIN))
    await dialling.wait()
    connections.close()
    proceed.set()
    with pytest.raises(ShuttingDown):
        await task
    assert not made[0].open


async def test_no_more_connections_rest_than_may_be_in_use() -> None:
    pool = HttpPool(HttpSettings(max_connections=1))
    async with HttpEndpoint(answering({})) as server:
        endpoints = [pool.endpoint(name, server.url, timeout=5) for name in ("a", "b", "c")]
        await asyncio.gather(*(endpoint.request("GET", "/") for endpoint in endpoints))
        assert server.connections == 3
        await server.wait(lambda: len(server.open) == 1)
    await pool.aclose()


async def test_only_connections_that_rested_long_enough_are_closed() -> None:
    pool = HttpPool(HttpSettings(idle_timeout=0.3))
    async with HttpEndpoint(answering({})) as early, HttpEndpoint(answering({})) as late:
        await pool.endpoint("early", early.url, timeout=0.01).request("GET", "/")
        await asyncio.sleep(0.15)
        await pool.endpoint("late", late.url, timeout=0.01).request("GET", "/")
        await early.wait(lambda: not early.open)
        assert len(late.open) == 1
        await late.wait(lambda: not late.open)
    await pool.aclose()


async def test_a_connection_that_is_closed_as_soon_as_it_is_made_is_an_error(pool: HttpPool) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UpstreamUnavailable, match=r"it (closed|reset) the connection"):
        await pool.endpoint("llm", f"http://127.0.0.1:{port}", timeout=5).request("GET", "/")
    server.close()
    await server.wait_closed()


class Transport(asyncio.Transport):
    """Remembers whether it was told to wait."""

    paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def test_a_large_body_that_comes_with_its_head_does_not_stop_there() -> None:
    connection, transport = Connection(asyncio.get_running_loop()), Transport()
    connection.connection_made(transport)
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    half = b"x" * 300_000
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + half)
    assert transport.paused
    await connection.head(1)
    body = asyncio.create_task(connection.read_all(1, 1_000_000))
    await asyncio.sleep(0)
    assert not transport.paused
    connection.data_received(half)
    assert await body == half + half


async def test_a_connection_without_a_transport_fails_and_ignores_what_comes() -> None:
    connection = Connection(asyncio.get_running_loop())
    assert connection.hung_up()
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(Broken, match="it closed the connection"):
        await connection.head(1)
    assert connection.status == 0


async def test_other_ends_of_a_connection_are_named_as_the_system_names_them() -> None:
    connection = Connection(asyncio.get_running_loop())
    connection.connection_lost(OSError(errno.ETIMEDOUT, "Connection timed out"))
    with pytest.raises(Broken, match="the connection broke: Connection timed out"):
        await connection.read(1)
    assert (
        _reason(OSError(errno.ENETUNREACH, "Network is unreachable"))
        == "cannot be reached (Network is unreachable)"
    )
