"""Finds the passages nearest to a vector: Milvus' REST API v2, in a collection that document-ingestion fills."""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from endpoint import Endpoint, Failed, keep, step

CANDIDATES = 4
"""Passages searched for each one wanted: the reranker chooses among them."""

MOST = 16384
"""Most rows that Milvus gives to one search."""

NO_SUCH_COLLECTION = 100

FIELDS = ("text", "title", "uri", "document_id")
"""What document-ingestion stores of a passage and an answer needs."""


def main() -> int:
    """Do it; returns the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--vector", required=True, type=Path, help="file with the vector")
    parser.add_argument("--url", required=True, help="base address of Milvus; its token is MILVUS_TOKEN")
    parser.add_argument("--collection", required=True, help="knowledge base to search")
    parser.add_argument("--top-k", required=True, type=int, help="passages wanted in the end")
    parser.add_argument("--passages", required=True, type=Path, help="file for what is found")
    options = parser.parse_args()

    def work() -> str:
        passages = search(options)
        keep(options.passages, json.dumps({"passages": passages, "warnings": []}))
        return f"{len(passages)} passages"

    return step("search", work)


def search(options: Namespace) -> list[dict[str, Any]]:
    """Return the nearest passages, best first.

    Raises:
        Failed: If Milvus gives none, or the collection is not there.
    """
    if options.top_k < 1:
        raise Failed(f"top_k is {options.top_k}: at least one passage is needed")
    milvus = Endpoint(options.url, os.environ.get("MILVUS_TOKEN", ""))
    request = {
        "collectionName": options.collection,
        "data": [json.loads(options.vector.read_text())],
        "annsField": "vector",
        "limit": min(options.top_k * CANDIDATES, MOST),
        "outputFields": list(FIELDS),
    }
    found = milvus.ask("/v2/vectordb/entities/search", request)
    code = found.get("code", 0)  # what went wrong comes with status 200
    if code == NO_SUCH_COLLECTION:
        raise Failed(f"there is no knowledge base {options.collection[:100]!r} in {options.url}")
    if code not in {0, 200}:
        raise Failed(f"Milvus answered code {code}: {str(found.get('message'))[:300]}")
    return [
        {**{name: row.get(name) or "" for name in FIELDS}, "score": row.get("distance", 0.0)}
        for row in found.get("data") or []
    ]


if __name__ == "__main__":
    sys.exit(main())
