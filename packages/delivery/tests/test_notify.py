"""What a phone is told of a run."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from handler_delivery.__main__ import main
from handler_delivery.notify import CANCELLED, FAILURE, SUCCESS, UNKNOWN, message, outcome
from handler_testkit.endpoints import HttpEndpoint, answering

if TYPE_CHECKING:
    from pathlib import Path


def needs(**results: str) -> str:
    return json.dumps({job: {"result": result, "outputs": {}} for job, result in results.items()})


@pytest.mark.parametrize(
    ("results", "result"),
    [
        ({"lint": "success", "test": "success"}, SUCCESS),
        ({"lint": "success", "images": "skipped"}, SUCCESS),
        ({"lint": "success", "test": "failure", "images": "skipped"}, FAILURE),
        ({"lint": "cancelled", "test": "failure", "images": "nonsense"}, FAILURE),
        ({"lint": "success", "test": "cancelled"}, CANCELLED),
        ({"lint": "success", "test": ""}, UNKNOWN),
        ({"lint": "success", "test": "blocked"}, UNKNOWN),
        ({"lint": "cancelled", "test": "blocked"}, UNKNOWN),
        ({"lint": "Success"}, SUCCESS),
        ({"lint": "skipped", "test": "skipped"}, UNKNOWN),
    ],
)
def test_one_failure_is_a_failure_and_what_is_not_known_is_not_called_a_success(
    results: dict[str, str], result: str
) -> None:
    assert outcome(needs(**results)).result == result


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "no json", '{"lint": "success"}'])
def test_what_cannot_be_read_is_unknown(text: str) -> None:
    assert outcome(text).result == UNKNOWN


CI = {
    "GITHUB_SERVER_URL": "https://git.example.com",
    "GITHUB_REPOSITORY": "ada/handlers",
    "GITHUB_WORKFLOW": "CI",
    "GITHUB_REF_NAME": "main",
    "GITHUB_SHA": "c" * 40,
}


def test_a_message_says_what_failed_where_and_leads_to_the_jobs() -> None:
    told = message(outcome(needs(lint="success", test="failure")), CI)
    assert told == {
        "title": "ada/handlers: CI failed on main",
        "message": "lint: success\ntest: failure",
        "priority": 4,
        "tags": ["rotating_light"],
        "click": f"https://git.example.com/ada/handlers/commit/{'c' * 40}",
    }


def test_a_success_is_quiet_and_a_pull_request_is_named_by_its_branch() -> None:
    told = message(
        outcome(needs(lint="success")), {**CI, "GITHUB_HEAD_REF": "aside", "GITHUB_REF_NAME": "7/head"}
    )
    assert (told["title"], told["priority"]) == ("ada/handlers: CI passed on aside", 2)


async def test_the_message_gets_there_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HttpEndpoint(answering({"id": "x"})) as ntfy:
        for name, value in {
            **CI,
            "NEEDS": needs(lint="failure"),
            "NTFY_URL": f"{ntfy.url}/",
            "NTFY_TOPIC": "builds",
            "NTFY_TOKEN": "tk_1",
        }.items():
            monkeypatch.setenv(name, value)
        assert await asyncio.to_thread(main, ["notify"]) == 0
    (request,) = ntfy.requests
    assert (request.method, request.path, request.headers["authorization"]) == ("POST", "/", "Bearer tk_1")
    assert request.json()["topic"] == "builds"
    assert request.json()["title"] == "ada/handlers: CI failed on main"


async def test_a_message_that_is_refused_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with HttpEndpoint(answering({"error": "forbidden"}, 403)) as ntfy:
        monkeypatch.setenv("NTFY_URL", ntfy.url)
        monkeypatch.setenv("NTFY_TOPIC", "builds")
        assert await asyncio.to_thread(main, ["notify"]) == 0
        assert "authorization" not in ntfy.requests[0].headers
    assert "warning: ntfy was not told. HTTP 403" in capsys.readouterr().err


def test_a_server_that_is_away_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NTFY_TOPIC", "builds")
    monkeypatch.setenv("NTFY_URL", "ntfy.example.com")
    assert main(["notify"]) == 0
    assert "no http or https address" in capsys.readouterr().err
    monkeypatch.setenv("NTFY_URL", "http://127.0.0.1:1")
    assert main(["notify"]) == 0
    assert "cannot be reached" in capsys.readouterr().err


def test_where_nobody_is_to_be_told_the_result_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outputs: Path
) -> None:
    monkeypatch.setenv("NEEDS", needs(lint="success"))
    assert main(["notify"]) == 0
    said = capsys.readouterr().out
    assert "passed" in said
    assert "nobody is told" in said
