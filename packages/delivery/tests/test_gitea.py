"""Where things are on the Gitea server."""

from __future__ import annotations

import asyncio

import pytest

from handler_delivery.errors import DeliveryError
from handler_delivery.gitea import Gitea, gitea, image_registry
from handler_testkit.endpoints import HttpEndpoint, answering

CI = {"GITHUB_SERVER_URL": "https://Git.example.com:8443/", "GITHUB_REPOSITORY": "Home-Lab/Handlers"}


def test_the_addresses_follow_from_the_server_and_the_repository() -> None:
    server = gitea(CI)
    assert server is not None
    assert server.host == "git.example.com:8443"
    assert server.registry == "git.example.com:8443/home-lab"
    assert server.wheels == "https://Git.example.com:8443/api/packages/Home-Lab/pypi"
    assert server.page("commit/abc") == "https://Git.example.com:8443/Home-Lab/Handlers/commit/abc"


def test_outside_a_workflow_there_is_no_server() -> None:
    assert gitea({}) is None
    assert gitea({"GITHUB_SERVER_URL": "https://git.example.com"}) is None


def test_another_registry_can_be_named() -> None:
    assert image_registry(CI | {"REGISTRY": "registry.example.com/team/"}) == "registry.example.com/team"
    assert image_registry(CI | {"REGISTRY": ""}) == "git.example.com:8443/home-lab"
    with pytest.raises(DeliveryError, match="set REGISTRY"):
        image_registry({})


async def test_a_release_is_announced_with_its_notes() -> None:
    async with HttpEndpoint(answering({"id": 1}, 201)) as server:
        there = Gitea(server.url, "ada/handlers")
        assert await asyncio.to_thread(there.announce, "v1.2.3", "1.2.3", "- all new", "t0ken") == ""
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/v1/repos/ada/handlers/releases")
    assert request.headers["authorization"] == "token t0ken"
    assert request.json() == {"tag_name": "v1.2.3", "name": "1.2.3", "body": "- all new"}


async def test_a_release_that_is_there_already_is_fine_and_a_refusal_is_told() -> None:
    for status, said in ((409, ""), (403, "HTTP 403")):
        async with HttpEndpoint(answering({"message": "no"}, status)) as server:
            found = await asyncio.to_thread(
                Gitea(server.url, "ada/handlers").announce, "v1.2.3", "1.2.3", "", "t"
            )
        assert found.startswith(said)
        assert bool(found) is bool(said)
