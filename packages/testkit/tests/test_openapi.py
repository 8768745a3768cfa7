"""Descriptions of APIs: what does not fit them is told in a sentence."""

from __future__ import annotations

import json

import pytest

from handler_testkit.openapi import FOLDER, Contract, described

DOCUMENT = {
    "swagger": "2.0",
    "basePath": "/apis",
    "paths": {
        "/runs": {
            "get": {
                "parameters": [
                    {"name": "owner", "in": "query", "required": True, "type": "string"},
                    {"name": "page_size", "in": "query", "type": "integer", "format": "int32"},
                    {"name": "after", "in": "query", "type": "string", "format": "int64"},
                    {"name": "deep", "in": "query", "type": "boolean"},
                    {"name": "order", "in": "query", "type": "string", "enum": ["up", "down"]},
                    {"name": "label", "in": "query", "type": "array", "items": {"type": "string"}},
                ],
                "responses": {"200": {"schema": {"$ref": "#/definitions/Runs"}}},
            },
            "post": {
                "parameters": [
                    {"name": "body", "in": "body", "required": True, "schema": {"$ref": "#/definitions/Run"}}
                ],
                "responses": {
                    "200": {"schema": {"$ref": "#/definitions/Run"}},
                    "default": {"schema": {"$ref": "#/definitions/Error"}},
                },
            },
        },
        "/runs/{run_id}": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/Run"}}}}},
        "/runs/{run_id}:stop": {"post": {"responses": {"200": {}}}},
        "/runs/latest": {"delete": {"responses": {"200": {}}}},
        "/events": {
            "get": {
                "responses": {
                    "200": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "result": {"$ref": "#/definitions/Run"},
                                "error": {"$ref": "#/definitions/Error"},
                            },
                        }
                    }
                }
            }
        },
    },
    "definitions": {
        "Run": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "size": {"type": "string", "format": "int64"},
                "count": {"type": "integer", "format": "int32"},
                "at": {"$ref": "#/definitions/Time"},
                "data": {"type": "string", "format": "byte"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "anything": {"type": "object"},
                "child": {"$ref": "#/definitions/Run"},
            },
        },
        "Runs": {
            "type": "object",
            "properties": {"items": {"type": "array", "items": {"$ref": "#/definitions/Run"}}},
        },
        "Time": {"type": "string", "format": "date-time"},
        "Error": {
            "type": "object",
            "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
        },
    },
}


@pytest.fixture
def contract() -> Contract:
    return Contract(DOCUMENT)


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_what_fits_is_no_problem(contract: Contract) -> None:
    run = body(
        name="a",
        size="9007199254740993",
        count=3,
        at="2026-11-29T01:02:03.5Z",
        data="YQ==",
        labels={"a": "b"},
        anything={"whatever": [None]},
        child={"name": "b", "at": "2026-11-29T01:02:03+01:00"},
    )
    assert contract.request("POST", "/apis/runs", run) == []
    assert contract.reply("POST", "/apis/runs", 200, run) == []
    query = "owner=me&page_size=5&after=-7&deep=true&order=up&label=a&label=b"
    assert contract.request("GET", f"/apis/runs?{query}") == []
    assert contract.request("GET", "/apis/runs/a%3Ab") == []
    assert contract.request("POST", "/apis/runs/a:stop") == []
    assert contract.reply("POST", "/apis/runs", 409, body(code=6, message="there already")) == []


@pytest.mark.parametrize(
    ("method", "target", "problem"),
    [
        ("GET", "/apis/walks", "GET /apis/walks: there is no such path"),
        ("GET", "/runs?owner=me", "GET /runs: there is no such path"),
        ("PUT", "/apis/runs", "PUT /apis/runs: there is only GET, POST"),
        ("GET", "/apis/runs/a:stop", "GET /apis/runs/a:stop: there is only POST"),
        ("POST", "/apis/runs/a:start", "POST /apis/runs/a:start: there is no such path"),
        ("GET", "/apis/runs", "GET /runs: the query parameter owner is missing"),
        ("GET", "/apis/runs?owner=me&color=", "GET /runs: there is no query parameter color"),
        (
            "GET",
            "/apis/runs?owner=me&owner=you",
            "GET /runs: the query parameter owner is there 2 times",
        ),
        (
            "GET",
            "/apis/runs?owner=me&page_size=3000000000",
            "GET /runs: the query parameter page_size is '3000000000', not int32",
        ),
        ("GET", "/apis/runs?owner=me&after=x", "GET /runs: the query parameter after is 'x', not int64"),
        ("GET", "/apis/runs?owner=me&deep=yes", "GET /runs: the query parameter deep is 'yes', not boolean"),
        (
            "GET",
            "/apis/runs?owner=me&order=left",
            "GET /runs: the query parameter order is 'left', not one of up, down",
        ),
    ],
)
def test_a_wrong_path_or_query_is_told(contract: Contract, method: str, target: str, problem: str) -> None:
    assert contract.request(method, target) == [problem]


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"", "its body is missing"),
        (b"{", "its body is not JSON: Expecting property name enclosed in double quotes"),
        (b"[]", "the body: [] is not of type 'object'"),
        (body(), "the body: 'name' is a required property"),
        (
            body(name="a", colour="red"),
            "the body: Additional properties are not allowed ('colour' was unexpected)",
        ),
        (
            body(name="a", child={"name": "b", "colour": 1}),
            "child: Additional properties are not allowed ('colour' was unexpected)",
        ),
        (body(name=1), "name: 1 is not of type 'string'"),
        (body(name=None), "name: None is not of type 'string'"),
        (body(name="a", size=5), "size: 5 is not of type 'string'"),
        (body(name="a", size="5.0"), "size: '5.0' is not a 'int64'"),
        (body(name="a", count=1 << 31), "count: 2147483648 is not a 'int32'"),
        (body(name="a", count=True), "count: True is not of type 'integer'"),
        (body(name="a", at="2026-11-29"), "at: '2026-11-29' is not a 'date-time'"),
        (body(name="a", at="2026-13-29T00:00:00Z"), "at: '2026-13-29T00:00:00Z' is not a 'date-time'"),
        (body(name="a", data="*"), "data: '*' is not a 'byte'"),
        (body(name="a", labels={"a": 1}), "labels.a: 1 is not of type 'string'"),
    ],
)
def test_a_wrong_body_is_told(contract: Contract, sent: bytes, problem: str) -> None:
    (said,) = contract.request("POST", "/apis/runs", sent)
    assert said.startswith(f"POST /runs: {problem}")


def test_a_body_where_none_belongs_is_told(contract: Contract) -> None:
    assert contract.request("POST", "/apis/runs/a:stop", b"{}") == [
        "POST /runs/{run_id}:stop: it takes no body"
    ]


def test_a_wrong_reply_is_told(contract: Contract) -> None:
    assert contract.reply("GET", "/apis/runs", 200, body(items=[{"name": "a"}, {"name": 1}])) == [
        "GET /runs, reply 200: items.1.name: 1 is not of type 'string'"
    ]
    assert contract.reply("POST", "/apis/runs", 500, body(detail="no")) == [
        "POST /runs, reply 500: the body: Additional properties are not allowed ('detail' was unexpected)"
    ]
    assert contract.reply("GET", "/apis/runs", 500, b"") == [
        "GET /runs, reply 500: there is no such status; there are: 200"
    ]
    assert contract.reply("POST", "/apis/runs", 201, body(name="a")) == [
        "POST /runs, reply 201: there is no such status; there are: 200, default"
    ]


def test_lines_of_a_stream_hold_a_result_or_an_error(contract: Contract) -> None:
    assert contract.streamed("GET", "/apis/events", body(result={"name": "a"})) == []
    assert contract.streamed("GET", "/apis/events", body(error={"code": 8, "message": "EOF"})) == []
    both = body(result={"name": "a"}, error={"code": 8})
    for line in (b"{}", both):
        assert contract.streamed("GET", "/apis/events", line) == [
            "GET /apis/events, a line: it has not one of result and error"
        ]
    (said,) = contract.streamed("GET", "/apis/events", body(result={}))
    assert said == "GET /events, reply 200: result: 'name' is a required property"


def test_null_is_let_through_where_a_server_is_known_to_send_it() -> None:
    contract = Contract(DOCUMENT, nullable=("Time", "Runs.items"))
    assert contract.reply("GET", "/apis/runs", 200, b'{"items": null}') == []
    assert contract.reply("GET", "/apis/runs/a", 200, b'{"name": "a", "at": null}') == []
    (said,) = contract.reply("GET", "/apis/runs/a", 200, b'{"name": "a", "at": "noon"}')
    assert said == "GET /runs/{run_id}, reply 200: at: 'noon' is not a 'date-time'"
    (said,) = contract.reply("GET", "/apis/runs/a", 200, b'{"name": null}')
    assert said == "GET /runs/{run_id}, reply 200: name: None is not of type 'string'"


@pytest.mark.parametrize(
    ("name", "method", "target", "sent", "problem"),
    [
        (
            "argo-workflows",
            "POST",
            "/api/v1/workflows/argo/submit",
            body(resourceKind="WorkflowTemplate", resourceName="a", submitOptions={"parameters": ["a=b"]}),
            "",
        ),
        (
            "argo-workflows",
            "POST",
            "/api/v1/workflows/argo/submit",
            body(submitOptions={"parameters": {"a": "b"}}),
            "submitOptions.parameters: {'a': 'b'} is not of type 'array'",
        ),
        (
            "kubeflow-pipelines-v2beta1",
            "POST",
            "/apis/v2beta1/runs/a:terminate",
            b"",
            "",
        ),
        (
            "kubeflow-pipelines-v2beta1",
            "GET",
            "/apis/v2beta1/runs?page_size=ten",
            b"",
            "the query parameter page_size is 'ten', not int32",
        ),
    ],
)
def test_the_descriptions_of_argo_and_kubeflow_can_be_used(
    name: str, method: str, target: str, sent: bytes, problem: str
) -> None:
    contract = described(name)
    if contract is None:
        pytest.skip(f"{name}.swagger.json is not in {FOLDER}")
    problems = contract.request(method, target, sent)
    assert [said.partition(": ")[2] for said in problems] == ([problem] if problem else [])


def test_a_description_that_is_not_at_hand_is_none() -> None:
    assert described("no-such-api") is None
