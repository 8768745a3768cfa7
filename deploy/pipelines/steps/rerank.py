"""Orders passages by how well they answer a question: `/v1/rerank` as Jina, Cohere and vLLM have it.

Where the reranker cannot be asked, the order of the search stays, and a warning says so.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from endpoint import Endpoint, Failed, keep

PATIENCE = 10.0
"""Seconds that a reranker is worth waiting for."""


def main() -> int:
    """Do it; returns the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--query", required=True, help="the question")
    parser.add_argument("--passages", required=True, type=Path, help="file with what was found")
    parser.add_argument("--url", required=True, help="base address of the reranker")
    parser.add_argument("--top-k", required=True, type=int, help="passages wanted")
    parser.add_argument("--ranked", required=True, type=Path, help="file for the best of them")
    options = parser.parse_args()
    found = json.loads(options.passages.read_text())
    try:
        found["passages"] = rerank(options, found["passages"])
    except Failed as error:
        found["passages"] = found["passages"][: options.top_k]
        found["warnings"].append(f"passages are in the order of the search, not reranked: {error}")
        print(f"rerank: {error}", file=sys.stderr)
    keep(options.ranked, json.dumps(found))
    print(f"{len(found['passages'])} passages")
    return 0


def rerank(options: Namespace, passages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the best passages, with the reranker's scores.

    Raises:
        Failed: If the reranker does not say which those are.
    """
    if not passages:
        return []
    reranker = Endpoint(options.url, timeout=PATIENCE, patience=PATIENCE)
    texts = [f"{one['title']}\n{one['text']}" if one["title"] else one["text"] for one in passages]
    request = {"query": options.query, "documents": texts, "top_n": min(options.top_k, len(texts))}
    found = reranker.ask("/v1/rerank", request)
    try:
        ranked = [(int(one["index"]), float(one["relevance_score"])) for one in found["results"]]
    except (KeyError, TypeError, ValueError):
        ranked = []
    indices = {index for index, _ in ranked}
    if not ranked or len(indices) < len(ranked) or not indices <= set(range(len(passages))):
        raise Failed(f"{options.url} answered with no ranking of {len(passages)} passages")
    ranked.sort(key=lambda one: -one[1])
    return [{**passages[index], "score": score} for index, score in ranked[: options.top_k]]


if __name__ == "__main__":
    sys.exit(main())
