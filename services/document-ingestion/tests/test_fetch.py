import pytest

from document_ingestion.fetch import fetch
from handler_base.errors import InvalidRequest, TooLarge, UpstreamRejected, UpstreamTimeout
from handler_base.http import HttpPool, HttpSettings
from handler_testkit.endpoints import HttpEndpoint, routed


def page(body=b"<p>hello</p>", status=200, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def script(exchange):
        await exchange.answer(body, status=status, headers={"content-type": "text/html", **named})

    return script


@pytest.fixture
async def pool():
    pool = HttpPool(HttpSettings(retries=0))
    yield pool
    await pool.aclose()


async def get(pool, url, *, max_bytes=10_000, timeout=5.0):
    return await fetch(pool, url, max_bytes=max_bytes, timeout=timeout)


async def test_a_page_comes_with_its_type_and_charset(pool):
    async with HttpEndpoint(page(content_type='Text/HTML; Charset="ISO-8859-1"')) as site:
        found = await get(pool, f"{site.url}/a%20b?q=1&r=%C3%A9")
        assert found == (b"<p>hello</p>", "text/html", "iso-8859-1")
        assert site.requests[0].query == {"q": "1", "r": "é"}
        assert "text/html" in site.requests[0].headers["accept"]


async def test_redirects_are_followed_also_to_another_host(pool):
    async with HttpEndpoint(page(b"there")) as other:
        hops = routed(
            {
                "/start": page(status=302, location="/next?x=1"),
                "/next": page(status=308, location=f"{other.url}/end"),
            }
        )
        async with HttpEndpoint(hops) as site:
            assert (await get(pool, f"{site.url}/start")).content == b"there"


async def test_a_circle_of_redirects_ends(pool):
    async with HttpEndpoint(page(status=301, location="/")) as site:
        with pytest.raises(InvalidRequest, match="redirects more than 5 times"):
            await get(pool, site.url)
        assert len(site.requests) == 6


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.org/", "javascript:alert(1)"])
async def test_a_redirect_to_something_else_than_a_page_is_refused(pool, location):
    async with HttpEndpoint(page(status=302, location=location)) as site:
        with pytest.raises(InvalidRequest, match="no page"):
            await get(pool, site.url)


async def test_a_page_over_the_limit_is_dropped_while_it_comes(pool):
    async def endless(exchange):
        await exchange.head(headers={"Content-Type": "text/html"})
        while True:
            await exchange.send(b"x" * 1000)

    async with HttpEndpoint(endless) as site:
        with pytest.raises(TooLarge, match="INGEST_MAX_BYTES"):
            await get(pool, site.url)


async def test_a_page_that_never_ends_is_given_up(pool):
    async def stall(exchange):
        await exchange.head(headers={"Content-Type": "text/html"})
        await exchange.send(b"x")
        await exchange.stall()

    async with HttpEndpoint(stall) as site:
        with pytest.raises((TimeoutError, UpstreamTimeout)):
            await get(pool, site.url, timeout=0.1)


async def test_a_refusal_says_what_was_asked(pool):
    async with HttpEndpoint(page(status=404)) as site:
        with pytest.raises(UpstreamRejected, match="404"):
            await get(pool, f"{site.url}/missing")


async def test_a_compressed_page_is_refused(pool):
    async with HttpEndpoint(page(b"\x1f\x8b", content_encoding="gzip")) as site:
        with pytest.raises(InvalidRequest, match="compressed"):
            await get(pool, site.url)


async def test_a_page_without_a_type_has_none(pool):
    async def bare(exchange):
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    async with HttpEndpoint(bare) as site:
        assert await get(pool, site.url) == (b"hi", "", "")
