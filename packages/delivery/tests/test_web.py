"""One HTTP request, and words for what went wrong."""

from __future__ import annotations

import asyncio

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.web import call
from handler_testkit.endpoints import HttpEndpoint, answering, resetting, stalling, unanswered_port


async def test_a_value_is_posted_in_json_and_the_answer_read() -> None:
    async with HttpEndpoint(answering({"ok": True}, headers={"X-Served-By": "us"})) as server:
        answer = await asyncio.to_thread(
            call, f"{server.url}/x", value={"a": "ü"}, headers={"Authorization": "token t"}
        )
    (request,) = server.requests
    assert (request.method, request.json(), request.headers["authorization"]) == (
        "POST",
        {"a": "ü"},
        "token t",
    )
    assert (answer.status, answer.json(), answer.headers["x-served-by"]) == (200, {"ok": True}, "us")


async def test_any_status_is_an_answer() -> None:
    async with HttpEndpoint(answering({"message": "who are you?"}, 401)) as server:
        answer = await asyncio.to_thread(call, server.url)
    assert answer.status == 401
    assert "who are you?" in answer.words()


async def test_an_answer_that_is_no_json_is_said_so() -> None:
    async def html(exchange):
        await exchange.answer(b"<html>")

    async with HttpEndpoint(html) as server:
        answer = await asyncio.to_thread(call, server.url)
    with pytest.raises(DeliveryError, match="expected JSON"):
        answer.json()


async def test_a_server_that_hangs_up_is_said_so() -> None:
    async with HttpEndpoint(resetting) as server:
        with pytest.raises(DeliveryError, match=r"127\.0\.0\.1.* cannot be reached"):
            await asyncio.to_thread(call, server.url)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with HttpEndpoint(stalling) as server:
        with pytest.raises(DeliveryError, match="timed out"):
            await asyncio.to_thread(call, server.url, timeout=0.2)


def test_nobody_there_is_said_so_without_the_path() -> None:
    with unanswered_port() as port, pytest.raises(DeliveryError, match="cannot be reached") as caught:
        call(f"http://127.0.0.1:{port}/secret-topic", timeout=0.5)
    assert "secret-topic" not in str(caught.value)


def test_what_is_no_web_address_is_refused() -> None:
    for address in ("file:///etc/passwd", "ntfy.example.com", ""):
        with pytest.raises(DeliveryError, match="no http or https address"):
            call(address)
