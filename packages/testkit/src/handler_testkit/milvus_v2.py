"""A stand-in for Milvus' REST API v2, for which no server can be had from PyPI.

It keeps collections in memory and is strict: a request must have the shape that the API documents
(https://milvus.io/api-reference/restful/v2.4.x/About.md; struct tags of Milvus' request_v2.go), filters must parse,
types must fit the schema. What does not is refused as Milvus does, with HTTP 200 and a `code`, and kept in `complaints`.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from handler_testkit._milvus_filter import FilterError, parse_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Json = dict[str, Any]

_COMMON = {"dbName": str, "collectionName": str}
_SHAPES: dict[str, tuple[dict[str, type], set[str]]] = {
    "collections/list": ({"dbName": str}, set()),
    "collections/describe": (_COMMON, {"collectionName"}),
    "collections/load": (_COMMON, {"collectionName"}),
    "collections/create": (
        _COMMON | {"schema": dict, "indexParams": list, "params": dict, "dimension": int, "metricType": str},
        {"collectionName", "schema"},
    ),
    "entities/upsert": (_COMMON | {"data": list, "partitionName": str}, {"collectionName", "data"}),
    "entities/insert": (_COMMON | {"data": list, "partitionName": str}, {"collectionName", "data"}),
    "entities/delete": (_COMMON | {"filter": str, "partitionName": str}, {"collectionName", "filter"}),
    "entities/query": (
        _COMMON | {"filter": str, "limit": int, "offset": int, "outputFields": list, "consistencyLevel": str},
        {"collectionName"},
    ),
    "entities/search": (
        _COMMON
        | {
            "data": list,
            "annsField": str,
            "filter": str,
            "limit": int,
            "offset": int,
            "outputFields": list,
            "searchParams": dict,
            "consistencyLevel": str,
        },
        {"collectionName", "data"},
    ),
}
_FIELD_KEYS = {"fieldName", "dataType", "isPrimary", "elementTypeParams"}
_INDEX_KEYS = {"fieldName", "indexName", "metricType", "indexType", "params"}
_LIMIT = 16384


class _Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Collection:
    fields: dict[str, Json]
    indexes: list[Json]
    auto_id: bool
    dynamic: bool
    rows: dict[str, Json] = field(default_factory=dict[str, Json])
    loading: int = 0

    @property
    def key(self) -> str:
        return next(name for name, detail in self.fields.items() if detail.get("isPrimary"))

    @property
    def vector(self) -> str:
        return next(name for name, detail in self.fields.items() if detail["dataType"] == "FloatVector")


class MilvusV2:
    """The stand-in.

    Attributes:
        token: What it asks for.
        collections: What it holds, by name.
        complaints: Requests that did not have the documented shape, one sentence each.
        calls: Paths of the requests so far.
        refuse: Code and message to answer next, once each, by path (`entities/query`).
        describes_until_loaded: How often a new collection is described as loading.
        stale_queries: How many queries after a write still see what was before it.
    """

    def __init__(self, token: str = "root:Milvus") -> None:
        self.token = token
        self.collections: dict[str, _Collection] = {}
        self.complaints: list[str] = []
        self.calls: list[str] = []
        self.refuse: dict[str, list[tuple[int, str]]] = {}
        self.describes_until_loaded = 1
        self.stale_queries = 0
        self._stale: list[tuple[str, dict[str, Json]]] = []
        self._keys = 0
        self._lock = threading.Lock()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = stand_in.answer(self.path, self.headers.get("Authorization", ""), body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST  # noqa: N815  (the name that the base class calls)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = "127.0.0.1"
        self.port: int = self.server.server_address[1]

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[int, Json]:
        """Return the HTTP status and body for one request."""
        prefix, _, name = path.partition("/v2/vectordb/")
        if prefix or name not in _SHAPES:
            return 404, {"message": "404 page not found"}
        if authorization != f"Bearer {self.token}":
            return 401, {"code": 1800, "message": "user hasn't authenticated"}
        with self._lock:
            self.calls.append(name)
            if pending := self.refuse.get(name):
                code, message = pending.pop(0)
                return 200, {"code": code, "message": message}
            try:
                request = _checked(name, body)
                if request.get("dbName", "default") != "default":
                    raise _Refused(800, f"database not found, database: {request['dbName']}")
                handler: Callable[[Json], Any] = getattr(self, "_" + name.replace("/", "_"))
                return 200, {"code": 0, "data": handler(request)}
            except _Refused as error:
                if error.code != 100:
                    self.complaints.append(f"{name}: {error}")
                return 200, {"code": error.code, "message": str(error)}

    def _collections_list(self, _: Json) -> list[str]:
        return list(self.collections)

    def _collections_create(self, request: Json) -> Json:
        schema: Json = request["schema"]
        _only(schema, {"fields", "autoID", "enableDynamicField"})
        for detail in schema["fields"]:
            _only(detail, _FIELD_KEYS)
            limits = detail.get("elementTypeParams", {})
            if not all(isinstance(value, str) for value in limits.values()):
                raise _Refused(1801, "elementTypeParams must be text")
            need = {"VarChar": "max_length", "FloatVector": "dim"}.get(detail["dataType"])
            if need and need not in limits:
                raise _Refused(1100, f"{detail['fieldName']}: {need} is missing")
        for index in request["indexParams"]:
            _only(index, _INDEX_KEYS)
        self.collections[request["collectionName"]] = _Collection(
            {detail["fieldName"]: detail for detail in schema["fields"]},
            request["indexParams"],
            schema.get("autoID", False),
            schema.get("enableDynamicField", False),
            loading=self.describes_until_loaded,
        )
        return {}

    def _collections_describe(self, request: Json) -> Json:
        found = self._find(request)
        found.loading -= 1
        return {
            "collectionName": request["collectionName"],
            "autoId": found.auto_id,
            "enableDynamicField": found.dynamic,
            "load": "LoadStateLoaded" if found.loading < 0 else "LoadStateLoading",
            "fields": [
                {
                    "name": name,
                    "type": detail["dataType"],
                    "primaryKey": detail.get("isPrimary", False),
                    "autoId": detail.get("isPrimary", False) and found.auto_id,
                    "params": [
                        {"key": k, "value": v} for k, v in detail.get("elementTypeParams", {}).items()
                    ],
                }
                for name, detail in found.fields.items()
            ],
            "indexes": [
                {k: index[k] for k in ("fieldName", "indexName", "metricType")} for index in found.indexes
            ],
        }

    def _collections_load(self, request: Json) -> Json:
        self._find(request)
        return {}

    def _entities_upsert(self, request: Json) -> Json:
        if self._find(request).auto_id:
            raise _Refused(1100, "cannot upsert an autoID collection")
        return self._entities_insert(request)

    def _entities_insert(self, request: Json) -> Json:
        found = self._find(request)
        self._remember(request)
        for row in request["data"]:
            _check_row(row, found)
            if found.auto_id:
                self._keys += 1
            key = self._keys if found.auto_id else row[found.key]
            found.rows[str(key)] = row | {found.key: key}
        return {"upsertCount": len(request["data"])}

    def _entities_delete(self, request: Json) -> Json:
        found = self._find(request)
        matches = _parsed(request["filter"], found)
        self._remember(request)
        found.rows = {key: row for key, row in found.rows.items() if not matches(row)}
        return {}

    def _entities_query(self, request: Json) -> list[Json]:
        found = self._find(request)
        limit = request.get("limit", 100)
        if not 0 < limit + request.get("offset", 0) <= _LIMIT:
            raise _Refused(65535, "invalid max query result window")
        matches = _parsed(request.get("filter", ""), found)
        rows = found.rows
        if self._stale and self._stale[0][0] == request["collectionName"]:
            rows = self._stale.pop(0)[1]
        picked = [row for row in rows.values() if matches(row)][:limit]
        return [_output(row, request.get("outputFields", []), found) for row in picked]

    def _entities_search(self, request: Json) -> list[Json]:
        found = self._find(request)
        (vector,) = request["data"]
        dim = int(found.fields[found.vector]["elementTypeParams"]["dim"])
        if request.get("annsField") != found.vector or len(vector) != dim:
            raise _Refused(65535, "vector dimension mismatch")
        if not 0 < request.get("limit", 100) <= _LIMIT:
            raise _Refused(65535, "top k should be in range [1, 16384]")
        hits = [
            {"distance": _cosine(vector, row[found.vector])}
            | _output(row, request.get("outputFields", []), found)
            for row in found.rows.values()
        ]
        return sorted(hits, key=lambda hit: -hit["distance"])[: request["limit"]]

    def _find(self, request: Json) -> _Collection:
        name = request["collectionName"]
        if name not in self.collections:
            raise _Refused(100, f"can't find collection[database=default][collection={name}]")
        return self.collections[name]

    def _remember(self, request: Json) -> None:
        before = dict(self._find(request).rows)
        self._stale = [(request["collectionName"], before)] * self.stale_queries


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients may hang up
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def milvus_v2(token: str = "root:Milvus") -> Generator[MilvusV2]:
    """Run the stand-in for the length of a `with` block."""
    stand_in = MilvusV2(token)
    thread = threading.Thread(target=stand_in.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.server.shutdown()
        stand_in.server.server_close()
        thread.join()


def _checked(name: str, body: bytes) -> Json:
    types, required = _SHAPES[name]
    try:
        request: Json = json.loads(body)
    except ValueError as error:
        raise _Refused(1801, f"can only accept json format request: {error}") from error
    _only(request, set(types))
    for key in required - set(request):
        raise _Refused(1802, f"missing required parameters: {key}")
    for key, value in request.items():
        if type(value) is not types[key]:
            raise _Refused(1801, f"{key} has the wrong type")
    return request


def _parsed(text: str, found: _Collection) -> Callable[[Json], bool]:
    try:
        return parse_filter(text, None if found.dynamic else set(found.fields))
    except FilterError as error:
        raise _Refused(1100, f"cannot parse expression: {error}") from error


def _only(value: Json, known: set[str]) -> None:
    for key in set(value) - known:
        raise _Refused(1801, f"{key} is not in the documentation")


def _check_row(row: Json, found: _Collection) -> None:
    expected = set(found.fields) - ({found.key} if found.auto_id else set())
    if set(row) != expected and not (found.dynamic and expected <= set(row)):
        raise _Refused(1804, f"fields differ: {sorted(set(row) ^ expected)}")
    for name, detail in found.fields.items():
        if name not in row:
            continue
        limits, value = detail.get("elementTypeParams", {}), row[name]
        fits = {
            "VarChar": isinstance(value, str) and len(value.encode()) <= int(limits.get("max_length", 0)),
            "Int64": type(value) is int,
            "FloatVector": isinstance(value, list) and len(value) == int(limits.get("dim", 0)),  # pyright: ignore[reportUnknownArgumentType]
        }[detail["dataType"]]
        if not fits:
            raise _Refused(1804, f"{name} does not fit {detail['dataType']} {limits}")


def _output(row: Json, names: list[str], found: _Collection) -> Json:
    for name in names:
        if name not in found.fields and not found.dynamic:
            raise _Refused(65535, f"field {name} not exist")
    return {name: row[name] for name in {*names, found.key} if name in row}


def _cosine(a: list[float], b: list[float]) -> float:
    length = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0
