"""Calls: what goes over the wire, how connections are reused, how bodies end."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys

import msgspec
import pytest

from handler_base.config import Secret
from handler_base.errors import (
    ConfigError,
    ShuttingDown,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.endpoints import Exchange, HttpEndpoint, answering, in_turn, stalling


class Answer(msgspec.Struct):
    value: int


def raw(data: bytes, *, close: bool = False):
    """A script that sends bytes as they are, and keeps the connection unless told."""

    async def script(exchange: Exchange) -> None:
        exchange.raw(data)
        if close:
            exchange.close()
        else:
            await exchange.end()

    return script


async def test_json_goes_there_and_comes_back(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({"value": 7, "unknown": []})) as server:
        endpoint = pool.endpoint(
            "llm", server.url + "/llm/", api_key=Secret("s3cret"), timeout=5, headers={"X-Team": "a"}
        )
        assert await endpoint.post_json("/v1/x", {"q": "ä"}, Answer) == Answer(7)
        (request,) = server.requests
        assert (request.method, request.path, request.json()) == ("POST", "/llm/v1/x", {"q": "ä"})
        assert request.headers["content-type"] == "application/json"
        assert request.headers["authorization"] == "Bearer s3cret"
        assert request.headers["x-team"] == "a"
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
        assert "accept-encoding" not in request.headers


async def test_parameters_are_encoded_and_user_and_password_of_the_url_are_sent(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({})) as server:
        url = server.url.replace("://", "://ada:l%40velace@")
        endpoint = pool.endpoint("tts", url, timeout=5)
        await endpoint.request("GET", "/api/tts", params={"text": "a b&c=ä/?"}, idempotent=True)
        await endpoint.request("GET", "/api/tts?fixed=1", params={"text": "x"}, idempotent=True)
        await endpoint.request("GET", "/with space/ä", idempotent=True)
        assert server.requests[0].query == {"text": "a b&c=ä/?"}
        assert server.requests[1].query == {"fixed": "1", "text": "x"}
        assert server.requests[2].path == "/with%20space/%C3%A4"
        assert (
            server.requests[0].headers["authorization"]
            == "Basic " + base64.b64encode(b"ada:l@velace").decode()
        )
        assert "content-length" not in server.requests[0].headers
        with pytest.raises(UpstreamUnavailable) as caught:
            await server.stop()
            await endpoint.request("GET", "/", idempotent=True)
        assert "ada" not in caught.value.message


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {"X-A": "b\r\nX-Evil: 1"}),
        ("GET", "/", {"X-A\r\nEvil": "b"}),
        ("GET", "no-slash", {}),
        ("GET /x HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET", "/", {}),
    ],
)
async def test_nothing_can_be_smuggled_into_a_request(
    pool: HttpPool, method: str, path: str, headers: dict
) -> None:
    endpoint = pool.endpoint("llm", "http://127.0.0.1:1", timeout=5)
    with pytest.raises(ValueError):
        await endpoint.request(method, path, headers=headers, idempotent=False)


async def test_a_line_break_in_a_path_is_encoded(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({})) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        await endpoint.request("GET", "/a b\r\nX-Evil: 1", idempotent=False)
        assert server.requests[0].path == "/a%20b%0D%0AX-Evil:%201"
        assert "x-evil" not in server.requests[0].headers


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000", "ftp://host/", "http://", "http://host:99999", "http://host:no", "http://ho st", "http://[::1",
        "http://host?x=1", "http://host#x", "http://hôst",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_with_the_settings_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^LLM_URL: "):
        HttpPool(HttpSettings()).endpoint("llm", url, timeout=5, setting="LLM_URL")


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        HttpPool(HttpSettings()).endpoint("llm", "http://host", api_key=Secret("hid\nden"), timeout=5)
    assert "hid" not in str(caught.value)


async def test_one_connection_serves_calls_one_after_another(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({"value": 1})) as server:
        endpoints = [pool.endpoint(name, f"{server.url}/{name}", timeout=5) for name in ("llm", "embeddings")]
        for _ in range(10):
            for endpoint in endpoints:
                await endpoint.post_json("/x", {}, Answer)
        assert server.connections == 1


async def test_connections_that_nobody_uses_are_closed() -> None:
    pool = HttpPool(HttpSettings(idle_timeout=0.05))
    async with HttpEndpoint(answering({"value": 1})) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        await asyncio.gather(*(endpoint.post_json("/x", {}, Answer) for _ in range(3)))
        assert len(server.open) == 3
        await server.wait(lambda: not server.open)
        await endpoint.post_json("/x", {}, Answer)
        await server.wait(lambda: not server.open)
        assert server.connections == 4
    await pool.aclose()


async def test_no_idle_time_means_no_reuse() -> None:
    pool = HttpPool(HttpSettings(idle_timeout=0))
    async with HttpEndpoint(answering({"value": 1})) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        for _ in range(3):
            await endpoint.post_json("/x", {}, Answer)
            await asyncio.sleep(0.002)
        assert server.connections == 3
    await pool.aclose()


async def test_a_connection_that_the_endpoint_closed_while_idle_is_not_used_again(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({"value": 1})) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        for calls in range(1, 4):
            await endpoint.post_json("/x", {}, Answer)
            next(iter(server.open)).transport.close()
            await server.wait(lambda: not server.open)
            await asyncio.sleep(0.002)
            assert server.connections == calls


async def test_an_end_that_the_event_loop_has_not_seen_yet_is_seen_before_a_rested_connection_is_used(
    pool: HttpPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handler_base.http._lanes.RESTED", -1)
    async with HttpEndpoint(answering({"value": 1})) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        await endpoint.post_json("/x", {}, Answer)
        await endpoint.post_json("/x", {}, Answer)
        assert server.connections == 1
        next(iter(server.open)).transport.close()
        await server.wait(lambda: not server.open)  # in the same turn of the loop as the client's end
        await endpoint.post_json("/x", {}, Answer)
        assert server.connections == 2


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "close", "body", "connections"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", False, b"hello", 1),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
            False,
            b"hello",
            1,
        ),
        (OK + b"\r\nhello", True, b"hello", 2),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False, b"hello", 2),
        (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", False, b"hello", 2),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, b"", 1),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
            False,
            b"hello",
            1,
        ),
        (
            OK + b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            False,
            b"hello",
            2,
        ),
        (OK + b"Content-Length: 5\r\n\r\nhello and more", False, b"hello", 2),
    ],
    ids=["length", "chunked", "until close", "1.0", "close", "204", "interim", "second response", "excess"],
)
async def test_a_body_ends_where_http_says(
    pool: HttpPool, data: bytes, close: bool, body: bytes, connections: int
) -> None:
    async with HttpEndpoint(raw(data, close=close)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        for _ in range(2):
            assert (await endpoint.request("GET", "/", idempotent=False)).content == body
            await asyncio.sleep(0.005)
        assert server.connections == connections


async def test_an_answer_may_come_byte_by_byte(pool: HttpPool) -> None:
    async def script(exchange: Exchange) -> None:
        for byte in (
            OK + b"X-Empty:\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ):
            exchange.raw(bytes([byte]))
            await asyncio.sleep(0)
        await exchange.answer()

    async with HttpEndpoint(script) as server:
        response = await pool.endpoint("llm", server.url, timeout=5).request("GET", "/", idempotent=False)
        assert response.content == b"hello"
        assert response.headers["x-a"] == "1, 2"
        assert response.headers["x-empty"] == ""


async def test_the_answer_to_head_has_no_body(pool: HttpPool) -> None:
    async with HttpEndpoint(raw(OK + b"Content-Length: 500\r\n\r\n")) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        response = await endpoint.request("HEAD", "/", idempotent=True)
        assert (response.content, response.headers["content-length"]) == (b"", "500")
        assert (await endpoint.request("HEAD", "/", idempotent=True)).status == 200


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", UpstreamProtocol, "does not speak HTTP/1.1 as expected"),
        (
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            UpstreamProtocol,
            "another protocol",
        ),
        (OK + b"X: " + b"a" * 70_000, UpstreamProtocol, "65536 bytes of headers"),
        (
            OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            UpstreamProtocol,
            "does not speak HTTP",
        ),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n", UpstreamProtocol, "does not speak HTTP"),
        (b"", UpstreamUnavailable, "broke off before it answered: it closed the connection"),
        (OK + b"Content-Length: 50\r\n\r\nhello", UpstreamUnavailable, "in the middle of its answer"),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            UpstreamUnavailable,
            "in the middle of its answer",
        ),
    ],
    ids=["ssh", "upgrade", "headers", "smuggling", "chunks", "nothing", "short", "cut"],
)
async def test_a_broken_answer_is_an_error_that_says_how(
    pool: HttpPool, data: bytes, error: type, says: str
) -> None:
    async with HttpEndpoint(raw(data, close=True)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        with pytest.raises(error, match=says) as caught:
            await endpoint.request("GET", "/", idempotent=False)
        assert caught.value.endpoint == "llm"
        assert caught.value.message.startswith(f"llm at 127.0.0.1:{server.port} ")
        assert endpoint.in_flight == 0


async def test_a_reset_is_an_error_that_says_so(pool: HttpPool) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.reset()

    async with HttpEndpoint(script) as server:
        with pytest.raises(UpstreamUnavailable, match="it reset the connection"):
            await pool.endpoint("llm", server.url, timeout=5).request(
                "POST", "/", content=b"x", idempotent=False
            )


async def test_silence_before_and_within_an_answer_is_told_apart(pool: HttpPool) -> None:
    async def half(exchange: Exchange) -> None:
        await exchange.head(length=100)
        await exchange.send(b"x")
        await exchange.stall()

    async with HttpEndpoint(in_turn(stalling, half)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=0.03)
        with pytest.raises(UpstreamTimeout, match=r"did not answer within 0\.03 s"):
            await endpoint.request("GET", "/", idempotent=False)
        with pytest.raises(
            UpstreamTimeout, match=r"stopped in the middle of its answer: nothing came for 0\.03 s"
        ):
            await endpoint.request("GET", "/", idempotent=False)
        await server.wait(lambda: server.disconnects == 2)


async def test_the_limit_of_silence_starts_anew_with_each_piece(pool: HttpPool) -> None:
    async def slowly(exchange: Exchange) -> None:
        await exchange.head(length=8)
        for _ in range(8):
            await asyncio.sleep(0.05)
            await exchange.send(b"x")
        await exchange.end()

    async with HttpEndpoint(slowly) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=0.35)
        assert (await endpoint.request("GET", "/", idempotent=False)).content == b"x" * 8


async def test_a_call_may_have_a_time_limit_of_its_own(pool: HttpPool) -> None:
    async with HttpEndpoint(stalling) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=60)
        with pytest.raises(UpstreamTimeout, match=r"0\.02 s"):
            await endpoint.request("GET", "/", idempotent=False, timeout=0.02)


async def test_a_shorter_limit_after_a_longer_one_holds_on_the_same_connection(pool: HttpPool) -> None:
    async with HttpEndpoint(in_turn(answering({}), stalling)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=60)
        await endpoint.request("GET", "/", idempotent=False)
        with pytest.raises(UpstreamTimeout):
            await endpoint.request("GET", "/", idempotent=False, timeout=0.02)
        assert server.connections == 1


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_over_the_limit_is_refused_and_its_connection_closed(chunked: bool) -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.head(length=None if chunked else 1 << 30)
        while True:
            await exchange.send(b"x" * 65536)

    pool = HttpPool(HttpSettings(max_response_bytes=1 << 20))
    async with HttpEndpoint(flood) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        with pytest.raises(UpstreamProtocol, match="answered more than 1048576 bytes"):
            await endpoint.request("GET", "/", idempotent=True)
        with pytest.raises(UpstreamProtocol, match="answered more than 5000 bytes"):
            await endpoint.request("GET", "/", idempotent=True, max_bytes=5000)
        await server.wait(lambda: not server.open)
    await pool.aclose()


async def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    pool = HttpPool(HttpSettings(max_response_bytes=4096))
    async with HttpEndpoint(raw(OK + b"Content-Length: 4096\r\n\r\n" + b"x" * 4096)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        assert len((await endpoint.request("GET", "/", idempotent=True)).content) == 4096
    await pool.aclose()


async def test_large_bodies_go_both_ways(pool: HttpPool) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.answer(exchange.request.body)

    body = bytes(range(256)) * 40_000
    async with HttpEndpoint(echo) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        assert (await endpoint.request("POST", "/", content=body, idempotent=True)).content == body


@pytest.mark.parametrize("content", [b"", b"<html>", b'{"value": "x"}', b'{"value": 1', b'{"value": "\xff"}'])
async def test_json_of_the_wrong_shape_is_an_error_that_says_where(pool: HttpPool, content: bytes) -> None:
    async with HttpEndpoint(raw(OK + b"Content-Length: %d\r\n\r\n" % len(content) + content)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        with pytest.raises(UpstreamProtocol, match="answered something we cannot read"):
            await endpoint.post_json("/", {}, Answer)


async def test_any_answer_means_reachable(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({"detail": "Not Found"}, 404)) as server:
        endpoint = pool.endpoint("llm", server.url + "/llm", timeout=5)
        await endpoint.reachable()
        assert (server.requests[0].method, server.requests[0].path) == ("GET", "/llm/")
        await server.wait(lambda: not server.open)
    with pytest.raises(UpstreamUnavailable, match="refused the connection"):
        await endpoint.reachable()


async def test_what_accepts_and_never_answers_is_not_reachable(pool: HttpPool) -> None:
    async with HttpEndpoint(stalling) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=0.02)
        with pytest.raises(UpstreamTimeout):
            await endpoint.reachable()
        await server.wait(lambda: not server.open)


async def test_a_busy_endpoint_is_still_reachable() -> None:
    pool = HttpPool(HttpSettings(max_connections=1))
    async with HttpEndpoint(in_turn(stalling, answering({}))) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        task = asyncio.create_task(endpoint.request("GET", "/", idempotent=False))
        await server.wait(lambda: len(server.requests) == 1)
        await endpoint.reachable()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await pool.aclose()


async def test_a_host_that_does_not_exist_is_named(pool: HttpPool) -> None:
    endpoint = pool.endpoint("llm", "http://no-such-host.invalid:8000", timeout=5, setting="LLM_URL")
    with pytest.raises(
        UpstreamUnavailable, match=r"llm at no-such-host\.invalid:8000 has a host name .* LLM_URL"
    ):
        await endpoint.request("GET", "/", idempotent=False)
    with pytest.raises(UpstreamUnavailable, match="host name that no name server can know"):
        await pool.endpoint("llm", f"http://{'a' * 70}.test", timeout=5).reachable()


async def test_closing_the_pool_ends_what_runs_and_refuses_what_comes() -> None:
    pool = HttpPool(HttpSettings(retries=0))
    async with HttpEndpoint(in_turn(answering({}), stalling)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        await endpoint.request("GET", "/", idempotent=False)
        task = asyncio.create_task(endpoint.request("GET", "/", idempotent=False))
        await server.wait(lambda: len(server.requests) == 2)
        await pool.aclose()
        await pool.aclose()
        with pytest.raises(UpstreamUnavailable):
            await task
        with pytest.raises(ShuttingDown):
            await endpoint.request("GET", "/", idempotent=True)
        await server.wait(lambda: not server.open)
    unused = HttpPool(HttpSettings())
    await unused.aclose()
    with pytest.raises(ShuttingDown):
        await unused.endpoint("llm", server.url, timeout=5).reachable()


def test_importing_the_room_and_making_endpoints_loads_no_engine() -> None:
    code = """
import sys
from handler_base.http import HttpPool, HttpSettings
pool = HttpPool(HttpSettings())
pool.endpoint("llm", "https://example.test/llm", timeout=5)
loaded = {"httptools", "httpx", "pyreqwest", "aiohttp", "email", "http.client", "ipaddress"} & set(sys.modules)
assert "handler_base.http._connection" not in sys.modules
sys.exit(f"loaded {loaded}" if "httptools" in loaded or "http.client" in loaded else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
