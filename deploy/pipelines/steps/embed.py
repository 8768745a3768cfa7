"""Turns a question into a vector: OpenAI's `/v1/embeddings`."""

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from endpoint import Endpoint, Failed, keep, step


def main() -> int:
    """Do it; returns the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--query", required=True, help="the question")
    parser.add_argument("--url", required=True, help="base address of the embeddings")
    parser.add_argument("--vector", required=True, type=Path, help="file for the vector, as JSON")
    options = parser.parse_args()

    def work() -> str:
        vector = embed(options)
        keep(options.vector, json.dumps(vector))
        return f"a vector of {len(vector)} dimensions"

    return step("embed", work)


def embed(options: Namespace) -> list[float]:
    """Return the vector of the question.

    Raises:
        Failed: If the endpoint does not give one, or nothing is asked.
    """
    if not options.query.strip():
        raise Failed("there is no question")
    embeddings = Endpoint(options.url)
    found = embeddings.ask("/v1/embeddings", {"model": embeddings.model(), "input": [options.query]})
    try:
        return [float(number) for number in found["data"][0]["embedding"]]
    except (KeyError, IndexError, TypeError, ValueError):
        raise Failed(f"{options.url} answered without a vector: {json.dumps(found)[:300]}") from None


if __name__ == "__main__":
    sys.exit(main())
