"""Tokens that change, refusals that may pass, and pages to log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_base.config import Secret
from handler_base.errors import UpstreamUnavailable
from handler_testkit.endpoints import replaced

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Bench


async def test_each_call_has_the_token_that_its_file_holds_now(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    bench.server.token = "first"
    engine, order = bench.engine(token_file=str(file)), bench.order()
    run_id = await engine.submit(order)
    bench.server.token = "second one is longer".replace(" ", "-")
    with pytest.raises(UpstreamUnavailable, match=r"refuses our token \(401\).*KUBEFLOW_TOKEN_FILE"):
        await anext(engine.follow(order, run_id))
    file.write_text("second-one-is-longer")
    assert (await anext(engine.follow(order, run_id))).state == "pending"
    assert await engine.stop(order, run_id, "no more use")


async def test_a_refusal_may_pass(bench: Bench) -> None:
    engine, order = bench.engine(token=Secret("mine")), bench.order()
    bench.server.forbidden = True
    for call in (engine.submit(order), engine.stop(order, "x", "no more use")):
        with pytest.raises(UpstreamUnavailable, match=r"Kubeflow does not let us do this \(403\)") as caught:
            await call
        assert caught.value.retryable
    bench.server.forbidden = False
    await engine.submit(order)
    assert bench.server.created["order-r-1"] == 1


async def test_a_page_to_log_in_is_a_matter_of_the_token(bench: Bench) -> None:
    async def login(exchange) -> None:
        await exchange.answer(b"", 302, {"location": "https://auth.example/dex/auth"})

    async with replaced(bench.server.endpoint, login):
        with pytest.raises(UpstreamUnavailable, match=r"redirects to .*log in, check KUBEFLOW_TOKEN"):
            await bench.engine().submit(bench.order())


async def test_a_list_without_an_end_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from handler_base.errors import UpstreamProtocol
    from pipeline_bridge.engines.kubeflow import api

    async def circle(exchange) -> None:
        await exchange.json({"next_page_token": "again"})

    monkeypatch.setattr(api, "MAX_PAGES", 7)
    async with replaced(bench.server.endpoint, circle):
        with pytest.raises(UpstreamProtocol, match="a list of more than 7 pages"):
            await bench.engine().stop(bench.order(), "", "no more use")
    assert len(bench.server.endpoint.requests) == 7
