"""What is tried again, how long it waits, and what it says in the end."""

from __future__ import annotations

import datetime as dt
from email.utils import format_datetime

import pytest

from handler_base.config import Secret
from handler_base.errors import (
    HandlerError,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from handler_base.http import HttpPool, HttpSettings, Redirect
from handler_testkit.endpoints import (
    Exchange,
    HttpEndpoint,
    answering,
    in_turn,
    resetting,
    stalling,
)

OK = answering({"value": 1})


def failing(status: int, **headers: str):
    return answering(
        {"error": {"message": "no"}},
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


async def closing(exchange: Exchange) -> None:
    exchange.close()


async def test_a_connection_that_was_never_made_is_tried_again_whatever_the_call(
    pool: HttpPool, pauses: list[float]
) -> None:
    endpoint = pool.endpoint("llm", "http://127.0.0.1:1", timeout=5, setting="LLM_URL")
    with pytest.raises(UpstreamUnavailable) as caught:
        await endpoint.request("POST", "/", idempotent=False)
    assert pauses == [0.1, 0.2]
    assert (
        caught.value.message
        == str(caught.value)
        == (
            "llm at 127.0.0.1:1 refused the connection; check that it runs and that LLM_URL is right (tried 3 times)"
        )
    )


async def test_an_endpoint_that_comes_up_is_found(pauses: list[float]) -> None:
    server = HttpEndpoint(OK)
    await server.start()
    port = server.port
    await server.stop()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await server.start(port)

    pool = HttpPool(HttpSettings(), sleep=sleep)
    response = await pool.endpoint("llm", server.url, timeout=5).request("POST", "/", idempotent=False)
    assert (response.status, len(pauses)) == (200, 1)
    await pool.aclose()
    await server.stop()


@pytest.mark.parametrize(
    "failure", [failing(500), failing(502), failing(503), failing(429), resetting, closing]
)
async def test_what_may_have_happened_is_repeated_only_when_that_is_safe(pool: HttpPool, failure) -> None:
    async with HttpEndpoint(in_turn(failure, OK)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        with pytest.raises(UpstreamUnavailable):
            await endpoint.request("POST", "/", idempotent=False)
        assert len(server.requests) == 1
    async with HttpEndpoint(in_turn(failure, OK)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        assert (await endpoint.request("POST", "/", idempotent=True)).status == 200
        assert len(server.requests) == 2


async def test_silence_is_repeated_only_when_that_is_safe(pool: HttpPool) -> None:
    async with HttpEndpoint(in_turn(stalling, OK, stalling)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=0.03)
        assert (await endpoint.request("POST", "/", idempotent=True)).status == 200
        with pytest.raises(UpstreamTimeout):
            await endpoint.request("POST", "/", idempotent=False)
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 501, 302])
async def test_a_rejection_is_never_repeated(pool: HttpPool, status: int) -> None:
    async with HttpEndpoint(failing(status)) as server:
        with pytest.raises(UpstreamError) as caught:
            await pool.endpoint("llm", server.url, timeout=5).request("POST", "/", idempotent=True)
        assert not caught.value.retryable
        assert caught.value.status == status
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("failure", "repeated"),
    [(failing(429), True), (failing(503), True), (failing(500), False), (resetting, False), (closing, False)],
)
async def test_a_stream_repeats_only_what_the_endpoint_did_not_start(
    pool: HttpPool, failure, repeated: bool
) -> None:
    async with HttpEndpoint(in_turn(failure, OK)) as server:
        response = pool.endpoint("llm", server.url, timeout=5).stream("POST", "/", repeat="unstarted")
        if repeated:
            async with response:
                assert b"".join([piece async for piece in response]) == b'{"value": 1}'
        else:
            with pytest.raises(UpstreamUnavailable):
                await response.__aenter__()
        assert len(server.requests) == (2 if repeated else 1)


async def test_an_idle_connection_that_closes_under_us_is_replaced_when_nothing_was_started(
    pool: HttpPool,
) -> None:
    async with HttpEndpoint(in_turn(OK, closing, OK, closing, OK)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        await endpoint.request("GET", "/", repeat="unstarted")
        assert (await endpoint.request("GET", "/", repeat="unstarted")).status == 200
        with pytest.raises(UpstreamUnavailable):
            await endpoint.request("GET", "/", repeat="never")


async def test_pauses_grow_up_to_the_longest_and_the_number_of_tries_is_bounded(pauses: list[float]) -> None:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    pool = HttpPool(
        HttpSettings(retries=6, retry_max_delay=1.0), sleep=sleep, uniform=lambda low, high: (low, high)[1]
    )
    async with HttpEndpoint(failing(503)) as server:
        with pytest.raises(UpstreamUnavailable, match="tried 7 times"):
            await pool.endpoint("llm", server.url, timeout=5).request("GET", "/", idempotent=True)
        assert len(server.requests) == 7
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    await pool.aclose()


async def test_jitter_takes_at_most_half_of_a_pause() -> None:
    drawn: list[tuple[float, float]] = []

    async def sleep(_seconds: float) -> None: ...

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    pool = HttpPool(HttpSettings(retries=3), sleep=sleep, uniform=uniform)
    with pytest.raises(UpstreamUnavailable):
        await pool.endpoint("llm", "http://127.0.0.1:1", timeout=5).request("GET", "/")
    assert drawn == [(0.05, 0.1), (0.1, 0.2), (0.2, 0.4)]
    await pool.aclose()


async def test_no_retries_means_one_try() -> None:
    pool = HttpPool(HttpSettings(retries=0))
    async with HttpEndpoint(failing(503)) as server:
        with pytest.raises(UpstreamUnavailable) as caught:
            await pool.endpoint("llm", server.url, timeout=5).request("GET", "/", idempotent=True)
        assert "tried" not in caught.value.message
        assert len(server.requests) == 1
    await pool.aclose()


async def test_retry_after_is_obeyed_in_seconds_and_as_a_date(pool: HttpPool, pauses: list[float]) -> None:
    soon = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=4), usegmt=True)
    past = format_datetime(dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    async with HttpEndpoint(
        in_turn(failing(503, retry_after="3"), failing(429, retry_after=soon), OK)
    ) as server:
        await pool.endpoint("llm", server.url, timeout=5).request("GET", "/", idempotent=True)
    async with HttpEndpoint(
        in_turn(failing(503, retry_after=past), failing(503, retry_after="soon"), OK)
    ) as server:
        await pool.endpoint("llm", server.url, timeout=5).request("GET", "/", idempotent=True)
    assert pauses[0] == 3
    assert 2 < pauses[1] <= 4
    assert pauses[2:] == [0.1, 0.2]


async def test_an_endpoint_that_asks_for_too_long_is_given_up_and_the_caller_learns_how_long(
    pool: HttpPool, pauses: list[float]
) -> None:
    async with HttpEndpoint(failing(429, retry_after="120")) as server:
        with pytest.raises(UpstreamUnavailable) as caught:
            await pool.endpoint("llm", server.url, timeout=5).request("GET", "/", idempotent=True)
    assert caught.value.retry_after == 120
    assert pauses == []


@pytest.mark.parametrize(
    ("status", "body", "content_type", "says"),
    [
        (400, b'{"error": {"message": "too many tokens", "code": 1}}', "application/json", "rejected the request (400): too many tokens"),
        (422, b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "application/json", "(422): field required"),
        (404, b'{"detail": "Not Found"}', "application/json", "has nothing at /v1/x (404): Not Found; check LLM_URL and"),
        (401, b'{"error": "bad key t0psecret"}', "application/json", "credentials (401): bad key ***; check its API key"),
        (403, b"nope", "text/plain", "credentials (403): nope"),
        (413, b"", "text/plain", "finds the request too large (413)"),
        (418, b'{"other": 1}', "application/json", "rejected the request (418)"),
        (429, b'{"message": "slow down"}', "application/json", "is overloaded (429): slow down"),
        (500, b"\xff\x00 two\r\nlines", "text/plain", "failed (500): \ufffd two lines"),
        (502, b"<html><b>Bad Gateway</b>", "text/html", "is not available (502)"),
        (503, b"x" * 5000, "text/plain", "is not available (503): " + "x" * 299 + "…"),
        (503, b"x" * 500_000, "text/plain", "is not available (503)"),
        (301, b"", "text/plain", "redirects to https://other.test/new (301), which is not followed; check LLM_URL"),
    ],
)  # fmt: skip
async def test_a_refusal_says_which_endpoint_what_and_what_to_check(
    status: int, body: bytes, content_type: str, says: str
) -> None:
    async def script(exchange: Exchange) -> None:
        headers = {"content-type": content_type, "location": "https://u:p@other.test/new?token=t0psecret"}
        await exchange.answer(body, status, headers)

    pool = HttpPool(HttpSettings(retries=0))
    async with HttpEndpoint(script) as server:
        endpoint = pool.endpoint("llm", server.url, api_key=Secret("t0psecret"), timeout=5, setting="LLM_URL")
        with pytest.raises(UpstreamError) as caught:
            await endpoint.request(
                "POST", "/v1/x", content=b"{}", params={"key": "t0psecret"}, idempotent=False
            )
        message = caught.value.message
        assert message.startswith(f"llm at 127.0.0.1:{server.port} ")
        assert says in message
        assert "t0psecret" not in message
        if status in {429, 500, 502, 503}:
            assert type(caught.value) is UpstreamUnavailable
        elif status >= 400:
            assert type(caught.value) is UpstreamRejected
        else:
            assert isinstance(caught.value, Redirect)
            assert caught.value.location == "https://u:p@other.test/new?token=t0psecret"
        assert (caught.value.endpoint, caught.value.status) == ("llm", status)
    await pool.aclose()


async def test_a_refusal_keeps_the_endpoints_own_words_apart(pool: HttpPool) -> None:
    async with HttpEndpoint(answering({"code": 6, "message": "x already exists"}, 409)) as server:
        with pytest.raises(UpstreamRejected) as caught:
            await pool.endpoint("argo", server.url, timeout=5).request("POST", "/", idempotent=False)
        assert caught.value.said == "x already exists"


async def test_a_refusal_leaves_the_connection_usable(pool: HttpPool) -> None:
    async with HttpEndpoint(in_turn(failing(400), failing(404), OK)) as server:
        endpoint = pool.endpoint("llm", server.url, timeout=5)
        for _ in range(2):
            with pytest.raises(UpstreamRejected):
                await endpoint.request("POST", "/", idempotent=False)
        await endpoint.request("POST", "/", idempotent=False)
        assert server.connections == 1


@pytest.mark.parametrize("location", ["", "/elsewhere", "http://[broken"])
async def test_a_redirect_with_an_odd_target_is_still_an_error_in_words(
    pool: HttpPool, location: str
) -> None:
    async with HttpEndpoint(answering({}, 307, {"location": location})) as server:
        with pytest.raises(HandlerError, match="redirects to"):
            await pool.endpoint("llm", server.url, timeout=5).request("POST", "/", idempotent=False)
