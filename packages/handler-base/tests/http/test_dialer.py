"""Getting there: TLS that checks certificates, and proxies from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
import uvloop

from handler_base.errors import ConfigError, UpstreamTimeout, UpstreamUnavailable
from handler_base.http import HttpPool, HttpSettings
from handler_base.http._origin import Proxy, parse
from handler_testkit.endpoints import Exchange, HttpEndpoint, answering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def context_for(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_certificate_of_a_trusted_authority_is_accepted(
    authority: trustme.CA, ca_file: str, loop_factory
) -> None:
    async def scenario() -> None:
        pool = HttpPool(HttpSettings(ca_file=ca_file))
        async with HttpEndpoint(answering({"ok": 1}), tls=context_for(authority, "127.0.0.1")) as server:
            endpoint = pool.endpoint("llm", server.url, timeout=5)
            for _ in range(3):
                assert (await endpoint.request("GET", "/")).content == b'{"ok": 1}'
            assert server.connections == 1
            await endpoint.reachable()
            await pool.aclose()
            await server.wait(lambda: not server.open)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


@pytest.mark.parametrize(
    ("names", "trusted", "says"),
    [
        (
            ("127.0.0.1",),
            False,
            r"a certificate that we do not trust \(unable to get local issuer certificate\)",
        ),
        (("other.test",), True, r"a certificate that we do not trust \(IP address mismatch"),
    ],
)
async def test_a_certificate_that_proves_nothing_is_refused(
    authority: trustme.CA, ca_file: str, names: tuple[str], trusted: bool, says: str
) -> None:
    pool = HttpPool(HttpSettings(ca_file=ca_file if trusted else "", retries=0))
    async with HttpEndpoint(answering({}), tls=context_for(authority, *names)) as server:
        with pytest.raises(UpstreamUnavailable, match=says):
            await pool.endpoint("llm", server.url, timeout=5).request("GET", "/")
    await pool.aclose()


async def test_tls_to_what_does_not_speak_it_is_an_error_in_words(pool: HttpPool) -> None:
    async def script(exchange: Exchange) -> None: ...

    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UpstreamUnavailable, match="failed the TLS handshake"):
        await pool.endpoint("llm", f"https://127.0.0.1:{port}", timeout=5).request("GET", "/")
    server.close()
    await server.wait_closed()


async def test_a_missing_file_of_authorities_is_a_setting_that_is_wrong() -> None:
    pool = HttpPool(HttpSettings(ca_file="/nowhere/ca.pem"))
    with pytest.raises(ConfigError, match=r"HTTP_CA_FILE: cannot use /nowhere/ca\.pem"):
        await pool.endpoint("llm", "https://127.0.0.1:1", timeout=5).request("GET", "/")
    assert pool.endpoint("llm", "https://127.0.0.1:1", timeout=5).in_flight == 0


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("http://llm.test", {"HTTP_PROXY": "http://proxy:3128"}, Proxy("proxy", 3128, "")),
        ("http://llm.test", {"http_proxy": "lower:1", "HTTP_PROXY": "http://upper:2"}, Proxy("lower", 1, "")),
        ("http://llm.test", {"HTTP_PROXY": "http://ada:x@proxy"}, Proxy("proxy", 80, "Basic YWRhOng=")),
        ("http://llm.test", {"HTTP_PROXY": "http://proxy", "REQUEST_METHOD": "GET"}, None),
        ("http://llm.test", {"HTTPS_PROXY": "http://proxy"}, None),
        ("https://llm.test", {"HTTPS_PROXY": "http://proxy:1"}, Proxy("proxy", 1, "")),
        ("https://llm.test", {"ALL_PROXY": "http://proxy:1"}, Proxy("proxy", 1, "")),
        ("http://llm.test", {"ALL_PROXY": "http://proxy:1", "NO_PROXY": "*"}, None),
        ("http://llm.test", {"ALL_PROXY": "http://proxy:1", "NO_PROXY": "a.b, .test"}, None),
        ("http://llm.test", {"ALL_PROXY": "http://proxy:1", "NO_PROXY": "LLM.test:80"}, None),
        (
            "http://llm.test",
            {"ALL_PROXY": "http://proxy:1", "NO_PROXY": "llm.test:81,m.test"},
            Proxy("proxy", 1, ""),
        ),
        ("http://10.1.2.3", {"ALL_PROXY": "http://proxy:1", "NO_PROXY": "example.com,10.0.0.0/8"}, None),
        ("http://10.1.2.3", {"ALL_PROXY": "http://proxy:1", "NO_PROXY": "11.0.0.0/8"}, Proxy("proxy", 1, "")),
        ("http://127.0.0.1", {"ALL_PROXY": "http://proxy:1"}, None),
        ("http://[::1]:8000", {"ALL_PROXY": "http://proxy:1"}, None),
        ("http://localhost", {"ALL_PROXY": "http://proxy:1"}, None),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_means(
    url: str, environ: dict, proxy: Proxy | None
) -> None:
    assert parse("LLM_URL", url, environ).origin.proxy == proxy


def test_a_proxy_that_we_cannot_use_is_refused_without_its_password() -> None:
    with pytest.raises(
        ConfigError, match=r"socks5://proxy cannot be used|not an http or https URL"
    ) as caught:
        parse("LLM_URL", "http://llm.test", {"ALL_PROXY": "socks5://ada:s3cret@proxy"})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError, match="only http:// proxies"):
        parse("LLM_URL", "http://llm.test", {"ALL_PROXY": "https://proxy"})


async def test_a_plain_endpoint_is_asked_through_the_proxy(
    pool: HttpPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with HttpEndpoint(answering({})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://ada:x@"))
        endpoint = pool.endpoint("llm", "http://llm.test:8000/llm", timeout=5)
        await endpoint.request("GET", "/v1/models")
        (request,) = proxy.requests
        assert request.target == "http://llm.test:8000/llm/v1/models"
        assert request.headers["host"] == "llm.test:8000"
        assert request.headers["proxy-authorization"] == "Basic YWRhOng="


@contextlib.asynccontextmanager
async def tunnelling(
    target: int, answer: bytes | None = b"HTTP/1.1 200 Connection established\r\n\r\n"
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A proxy that answers CONNECT with `answer` and relays to a port, or says nothing."""
    asked: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
            if b" 200 " in answer:
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", target)
                await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)


@pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_tls_endpoint_is_reached_through_a_tunnel(
    authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch, loop_factory
) -> None:
    async def scenario() -> None:
        pool = HttpPool(HttpSettings(ca_file=ca_file))
        async with (
            HttpEndpoint(answering({"ok": 1}), tls=context_for(authority, "llm.test")) as server,
            tunnelling(server.port) as (port, asked),
        ):
            monkeypatch.setenv("HTTPS_PROXY", f"http://ada:x@127.0.0.1:{port}")
            endpoint = pool.endpoint("llm", "https://llm.test:8443", timeout=5)
            for _ in range(2):
                assert (await endpoint.request("GET", "/")).content == b'{"ok": 1}'
            assert len(asked) == 1
            assert asked[0].startswith(b"CONNECT llm.test:8443 HTTP/1.1\r\nHost: llm.test:8443\r\n")
            assert b"Proxy-Authorization: Basic YWRhOng=\r\n" in asked[0]
            await pool.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "the proxy 127.0.0.1 answered 407 to CONNECT",
        ),
        (b"what?\r\n\r\n", "answered nothing to CONNECT"),
        (b"", "answered nothing to CONNECT"),
        (b"x" * 20_000, "answered nothing to CONNECT"),
    ],
)
async def test_a_proxy_that_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, says: str
) -> None:
    pool = HttpPool(HttpSettings(retries=0))
    async with tunnelling(1, answer) as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(UpstreamUnavailable, match=says):
            await pool.endpoint("llm", "https://llm.test", timeout=5).request("GET", "/")


async def test_a_proxy_that_says_nothing_runs_into_the_limit_of_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = HttpPool(HttpSettings(retries=0, connect_timeout=0.05))
    async with tunnelling(1, None) as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(UpstreamTimeout, match="did not accept a connection"):
            await pool.endpoint("llm", "https://llm.test", timeout=5).request("GET", "/")
