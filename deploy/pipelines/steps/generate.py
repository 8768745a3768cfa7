"""Answers a question from passages, with their numbers: `/v1/chat/completions`, in the words of chat-handler's prompt."""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from endpoint import Endpoint, Failed, keep, step

SYSTEM = "You are a helpful assistant. Answer briefly and to the point."
RULE = (
    "Answer from the context below when it holds the answer, and cite the passages you use by their number, "
    "like [1]. When it does not hold the answer, say so."
)

CONTEXT_CHARS = 14_400
"""Longest context: 3,600 tokens of four characters, as chat-handler has it by default."""

ANSWER_TOKENS = 512


def main() -> int:
    """Do it; returns the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--query", required=True, help="the question")
    parser.add_argument("--passages", required=True, type=Path, help="file with the passages, best first")
    parser.add_argument("--url", required=True, help="base address of the LLM; its key is LLM_API_KEY")
    parser.add_argument("--answer", required=True, type=Path, help="file for the answer")
    parser.add_argument(
        "--sources", required=True, type=Path, help="file for the passages it was given, as JSON"
    )
    parser.add_argument(
        "--warnings", required=True, type=Path, help="file for what could not be done, as JSON"
    )
    options = parser.parse_args()
    found = json.loads(options.passages.read_text())

    def work() -> str:
        answer, sources = generate(options, found["passages"])
        keep(options.answer, answer)
        keep(options.sources, json.dumps(sources, ensure_ascii=False))
        keep(options.warnings, json.dumps(found["warnings"], ensure_ascii=False))
        return f"an answer of {len(answer)} characters from {len(sources)} passages"

    return step("generate", work)


def generate(options: Namespace, passages: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the answer, and the passages that it was given.

    Raises:
        Failed: If there is no answer.
    """
    blocks = context(passages)
    system = [SYSTEM, f"{RULE}\n\nContext:", *blocks] if blocks else [SYSTEM]
    messages = [
        {"role": "system", "content": "\n\n".join(system)},
        {"role": "user", "content": options.query},
    ]
    llm = Endpoint(options.url, os.environ.get("LLM_API_KEY", ""), timeout=300)
    answer = llm.complete(messages, max_tokens=ANSWER_TOKENS)["answer"].strip()
    if not answer:
        raise Failed(f"{options.url} gave an empty answer")
    return answer, passages[: len(blocks)]


def context(passages: list[dict[str, Any]]) -> list[str]:
    """Return the passages for the prompt, numbered from 1, as many as have room."""
    blocks: list[str] = []
    room = CONTEXT_CHARS
    for number, one in enumerate(passages, 1):
        block = (
            f"[{number}] {one_line(one['title'], 200)} ({one_line(one['uri'], 300)})\n{one['text'].strip()}"
        )
        room -= len(block)
        if room < 0:
            break
        blocks.append(block)
    return blocks


def one_line(text: str, limit: int) -> str:
    """Return text of a document as one short line, so that it cannot pose as a part of the prompt."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit]


if __name__ == "__main__":
    sys.exit(main())
