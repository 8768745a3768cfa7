from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING

import pytest

from handler_base import health
from handler_base.errors import ConfigError, MessagingError
from handler_base.health import HealthServer, HealthSettings, default_host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    Make = Callable[..., Awaitable[HealthServer]]


class Probe:
    """A probe whose answer and time a test decides; its own clock, too."""

    def __init__(self) -> None:
        self.missing: Sequence[str] = ()
        self.error: BaseException | None = None
        self.calls = 0
        self.now = 100.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()

    async def __call__(self) -> Sequence[str]:
        self.calls += 1
        self.entered.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.missing


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def make(probe: Probe) -> AsyncIterator[Make]:
    servers: list[HealthServer] = []

    async def start(**options: float) -> HealthServer:
        server = HealthServer(
            info={"name": "greeter", "version": "1.2.3"}, probe=probe, clock=lambda: probe.now, **options
        )
        await server.start("127.0.0.1", 0)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


async def send(server: HealthServer, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def ask(server: HealthServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    answer = await send(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


async def test_healthz_tells_that_it_lives_and_what_it_is(make: Make, probe: Probe) -> None:
    probe.missing = ["nats"]
    status, headers, body = await ask(await make(), "/healthz?verbose")
    assert status == 200
    assert json.loads(body) == {"status": "ok", "name": "greeter", "version": "1.2.3"}
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert probe.calls == 0


async def test_readyz_names_what_is_missing_and_recovers(make: Make, probe: Probe) -> None:
    server = await make()
    probe.missing = ["nats: not connected", "stream COMPANIONS_CHAT"]
    status, _, body = await ask(server, "/readyz")
    assert status == 503
    assert json.loads(body) == {"ready": False, "missing": ["nats: not connected", "stream COMPANIONS_CHAT"]}
    probe.missing = []
    probe.now += health.CACHE_SECONDS
    assert (await ask(server, "/readyz"))[0::2] == (200, b'{"ready":true}')


async def test_the_answer_of_the_probe_is_good_for_a_second(make: Make, probe: Probe) -> None:
    server = await make()
    await ask(server, "/readyz")
    probe.missing = ["nats"]
    probe.now += health.CACHE_SECONDS * 0.9
    assert (await ask(server, "/readyz"))[0] == 200
    probe.now += health.CACHE_SECONDS * 0.1
    assert (await ask(server, "/readyz"))[0] == 503
    assert probe.calls == 2


async def test_one_probe_runs_for_all_who_ask_at_the_same_time(make: Make, probe: Probe) -> None:
    server = await make(probe_seconds=5)
    probe.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(server, "/readyz")) for _ in range(20)]
        await probe.entered.wait()
        # A probe under way does not hold up the sign of life.
        assert (await ask(server, "/healthz"))[0] == 200
        probe.gate.set()
    assert [task.result()[0] for task in tasks] == [200] * 20
    assert probe.calls == 1


async def test_a_probe_that_hangs_is_not_ready(make: Make, probe: Probe) -> None:
    server = await make(probe_seconds=0.02)
    probe.gate.clear()
    status, _, body = await ask(server, "/readyz")
    assert (status, json.loads(body)["missing"]) == (503, ["probe timed out"])


async def test_a_probe_that_fails_is_not_ready_and_tells_no_more_than_it_may(
    make: Make, probe: Probe
) -> None:
    server = await make()
    probe.error = MessagingError("the consumer is gone")
    assert json.loads((await ask(server, "/readyz"))[2])["missing"] == ["the consumer is gone"]
    probe.error = KeyError("secret")
    probe.now += 10
    status, _, body = await ask(server, "/readyz")
    assert (status, json.loads(body)["missing"]) == (503, ["probe failed: KeyError"])


async def test_a_change_of_readiness_is_logged_once(
    make: Make, probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make()
    caplog.set_level("INFO", "handler_base.health")
    for missing in ([], [], ["nats"], ["nats"], []):
        probe.missing = missing
        probe.now += 10
        await ask(server, "/readyz")
    assert [record.message for record in caplog.records] == ["ready", "not ready", "ready"]


async def test_head_has_the_headers_and_no_body(make: Make) -> None:
    status, headers, body = await ask(await make(), "/readyz", "HEAD")
    assert (status, headers["content-length"], body) == (200, "14", b"")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST /healthz HTTP/1.1", 405),
        (b"get /healthz HTTP/1.1", 405),
        (b"GET / HTTP/1.1", 404),
        (b"POST /metrics HTTP/1.1", 404),
        (b"GET /healthz/../etc HTTP/1.1", 404),
        (b"GET /healthz", 400),
        (b"GET  /healthz HTTP/1.1", 400),
        (b"GET /healthz HTTP/2.0", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"", 400),
    ],
)
async def test_anything_else_is_answered_and_closed(make: Make, request_line: bytes, status: int) -> None:
    answer = await send(await make(), request_line + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (b"Allow: GET, HEAD" in answer) == (status == 405)


async def test_a_request_that_is_too_large_is_refused(make: Make) -> None:
    answer = await send(await make(), b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_client_that_hangs_up_halfway_harms_nobody(make: Make) -> None:
    server = await make()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /hea")
    writer.write_eof()
    writer.close()
    assert (await ask(server, "/healthz"))[0] == 200


async def test_a_client_that_sends_too_slowly_is_cut_off(make: Make) -> None:
    server = await make(request_seconds=0.05)
    assert await send(server, b"GET /healthz HTTP/1.1\r\n") == b""


async def test_connections_beyond_the_limit_are_closed_and_the_others_served(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CONNECTIONS", 2)
    server = await make()
    held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    held[0][1].write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert (await held[0][0].read()).startswith(b"HTTP/1.1 200 ")
    for _, held_writer in held:
        held_writer.close()


async def test_stopping_closes_what_is_open_and_may_be_done_twice(make: Make) -> None:
    server = await make()
    port = server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz")
    await writer.drain()
    await ask(server, "/healthz")
    await server.stop()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert server.port == 0
    with pytest.raises(OSError, match="onnect"):
        await asyncio.open_connection("127.0.0.1", port)
    await server.stop()


async def test_a_port_that_is_taken_is_named(make: Make, probe: Probe) -> None:
    port = (await make()).port
    second = HealthServer(info={}, probe=probe)
    with pytest.raises(ConfigError, match=f"HEALTH_PORT={port}: the port is taken on 127.0.0.1"):
        await second.start("127.0.0.1", port)
    await second.stop()


async def test_an_address_that_is_not_ours_is_named(probe: Probe) -> None:
    with pytest.raises(ConfigError, match=r"HEALTH_HOST=203\.0\.113\.1, HEALTH_PORT=0: cannot listen"):
        await HealthServer(info={}, probe=probe).start("203.0.113.1", 0)


async def test_a_port_that_this_user_may_not_use_is_named(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio, "start_server", refuse)
    with pytest.raises(ConfigError, match="HEALTH_PORT=80: this user may not listen there"):
        await HealthServer(info={}, probe=probe).start("", 80)


def test_probes_reach_a_pod_from_outside_and_a_laptop_only_from_itself() -> None:
    assert HealthSettings().host == ""
    assert default_host({}) == "127.0.0.1"
    assert default_host({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == "0.0.0.0"


def test_it_serves_under_uvloop_and_names_a_taken_port_there_too(probe: Probe) -> None:
    import uvloop

    async def main(port: int) -> None:
        server = HealthServer(info={}, probe=probe)
        with pytest.raises(ConfigError, match=f"HEALTH_PORT={port}: the port is taken"):
            await server.start("127.0.0.1", port)
        await server.start("127.0.0.1", 0)
        held = await asyncio.open_connection("127.0.0.1", server.port)
        assert (await ask(server, "/healthz"))[0] == 200
        await server.stop()
        held[1].close()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        uvloop.run(main(taken.getsockname()[1]))
