"""What the registry says was pushed last, and that a run which failed leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

import pytest

from handler_delivery.__main__ import main
from handler_delivery.errors import DeliveryError
from handler_delivery.pushed import Registry, newest
from handler_delivery.tags import main_tag
from handler_testkit.endpoints import HttpEndpoint, answering, routed

from .conftest import WITH_IMAGE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from conftest import Checkout

    from handler_testkit.endpoints import Exchange, Script

BASIC = "Basic " + base64.b64encode(b"ada:t0ken").decode()


def holding(images: Mapping[str, list[str]]) -> Script:
    """Return a registry as Gitea has one: it wants a token of its own, which a login buys."""

    async def script(exchange: Exchange) -> None:
        request, login = exchange.request, exchange.request.headers.get("authorization")
        if request.path == "/v2/token":
            granted = login == BASIC
            await exchange.json(
                {"token": "granted"} if granted else {"errors": ["no"]}, 200 if granted else 401
            )
        elif login != "Bearer granted":
            host = request.headers["host"]
            challenge = f'Bearer realm="http://{host}/v2/token",service="container_registry",scope="*"'
            await exchange.json({}, 401, {"WWW-Authenticate": challenge})
        else:
            image = request.path.split("/")[3]
            if image in images:
                await exchange.json({"name": f"ada/{image}", "tags": images[image]})
            else:
                await exchange.json({"errors": [{"code": "NAME_UNKNOWN"}]}, 404)

    return script


async def test_tags_are_read_with_a_token_that_the_login_buys() -> None:
    async with HttpEndpoint(holding({"chat-handler": ["1.0.0", "main-20260101000000-abcdef0"]})) as server:
        registry = Registry(server.url, "ada", "ada", "t0ken")
        found = await asyncio.to_thread(registry.tags, "chat-handler")
        none = await asyncio.to_thread(registry.tags, "new-service")
        asked = next(request for request in server.requests if request.path == "/v2/token")
    assert found == ["1.0.0", "main-20260101000000-abcdef0"]
    assert none == []
    assert asked.query == {"service": "container_registry", "scope": "repository:ada/chat-handler:pull"}


async def test_tags_on_several_pages_are_all_read() -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.request.query.get("last") == "b":
            await exchange.json({"tags": ["c"]})
        else:
            following = '</v2/ada/chat-handler/tags/list?last=b&n=2>; rel="next"'
            await exchange.json({"tags": ["a", "b"]}, 200, {"Link": following})

    async with HttpEndpoint(script) as server:
        assert await asyncio.to_thread(Registry(server.url, "ada", "", "").tags, "chat-handler") == [
            "a",
            "b",
            "c",
        ]


async def test_a_refused_login_is_told() -> None:
    async with HttpEndpoint(holding({})) as server:
        with pytest.raises(DeliveryError, match="HTTP 401"):
            await asyncio.to_thread(Registry(server.url, "ada", "ada", "wrong").tags, "chat-handler")


async def test_an_image_that_nobody_pushed_has_a_null_list_somewhere() -> None:
    async with HttpEndpoint(routed({"/v2/ada/chat-handler/tags/list": answering({"tags": None})})) as server:
        assert await asyncio.to_thread(Registry(server.url, "ada", "", "").tags, "chat-handler") == []


def test_the_newest_tag_counts_that_this_commit_stands_on(checkout: Checkout) -> None:
    older = main_tag(checkout.repository)
    commit = checkout.commit()
    tag = main_tag(checkout.repository)
    lost = "main-99990101000000-0123456"
    assert newest(["1.0.0", lost, tag, older, "latest"], checkout.repository) == commit
    assert newest([lost, "1.0.0"], checkout.repository) == ""
    assert newest([], checkout.repository) == ""


async def plan_main(
    registry: Mapping[str, list[str]], before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run `affected` as a push to main would, beside a registry that holds these tags."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"before": before}))
    async with HttpEndpoint(holding(registry)) as server:
        for name, value in {
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_SERVER_URL": server.url,
            "GITHUB_REPOSITORY": "ada/handlers",
            "REGISTRY_USER": "ada",
            "REGISTRY_TOKEN": "t0ken",
        }.items():
            monkeypatch.setenv(name, value)
        assert await asyncio.to_thread(main, ["affected"]) == 0


async def test_what_an_earlier_run_failed_to_push_is_built_with_the_next_push(
    checkout: Checkout, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = main_tag(checkout.repository)
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    before = checkout.commit("A change whose run failed")
    checkout.write("docs/ci.md", "repaired")
    checkout.commit("A repair that touches no image")
    images = {name: [pushed] for name in WITH_IMAGE}
    await plan_main(images, before, tmp_path, monkeypatch)
    assert outputs.read_text().startswith('services=["chat-handler"]\n')


async def test_a_service_without_an_image_in_the_registry_is_built(
    checkout: Checkout, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = main_tag(checkout.repository)
    before = checkout.git("rev-parse", "HEAD")
    checkout.commit()
    images = {name: [pushed] for name in WITH_IMAGE if name != "document-ingestion"}
    await plan_main(images, before, tmp_path, monkeypatch)
    assert outputs.read_text().startswith('services=["document-ingestion"]\n')


async def test_with_the_registry_away_the_push_before_is_compared_with(
    checkout: Checkout,
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = checkout.git("rev-parse", "HEAD")
    checkout.append("services/chat-handler/src/chat_handler/answer.py")
    checkout.commit()
    monkeypatch.setenv("REGISTRY", "127.0.0.1:1/ada")
    await plan_main({}, before, tmp_path, monkeypatch)
    assert outputs.read_text().startswith('services=["chat-handler"]\n')
    assert "comparing with the push before" in capsys.readouterr().err
