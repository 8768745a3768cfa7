"""Answers every line of a JSON Lines file of prompts with an LLM.

A line is an object with `prompt`, or with `messages` as the chat API has them; an `id` comes back with the answer. Answers are
in the order of the prompts, one line each: `{"index", "id", "answer", "model", "finish_reason"}`, or `{"index", "id", "error"}`.

They are PUT to OUTPUT_URL; without one they are the file `answers.jsonl` beside `answered` and `failed`, the two counts.
Exit codes: 0, 1 when no line at all was answered, 2 when nothing could be done.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import settings
from endpoint import Endpoint, Failed, download, upload
from jsonlines import Line, dumped, in_order, read

UNANSWERED, IMPOSSIBLE = 1, 2
REPORT_EVERY = 100


class Job(NamedTuple):
    """What is to be done.

    Attributes:
        source: Address of the prompts.
        target: Address for the answers; "" for none.
        llm: Whom to ask.
        model: For what.
        max_tokens: Longest answer.
        parallel: Prompts under way at once.
        out: Folder for what comes out.
        limit: Largest file of prompts, in bytes.
    """

    source: str
    target: str
    llm: Endpoint
    model: str
    max_tokens: int
    parallel: int
    out: Path
    limit: int


def job() -> Job:
    """Read it from the environment.

    Raises:
        Failed: If something in it cannot be.
    """
    return Job(
        source=settings.text("INPUT_URL"),
        target=settings.text("OUTPUT_URL"),
        llm=settings.llm(),
        model=settings.text("MODEL"),
        max_tokens=settings.whole("MAX_TOKENS", 1, 1 << 20),
        parallel=settings.whole("PARALLEL", 1, 1024),
        out=Path(settings.text("OUT", "/out")),
        limit=settings.whole("MAX_INPUT_BYTES", 1, 1 << 40, str(settings.MAX_INPUT_BYTES)),
    )


def main() -> int:
    """Do it; returns the exit code."""
    try:
        answered, failed = run(job())
    except Failed as error:
        print(f"batch-inference: {error}", file=sys.stderr)
        return IMPOSSIBLE
    print(f"{answered} answered, {failed} failed")
    return UNANSWERED if failed and not answered else 0


def run(todo: Job) -> tuple[int, int]:
    """Answer all lines and hand the answers over; returns how many were answered and how many were not.

    Raises:
        Failed: If the prompts cannot be read, there are none, or the answers are not taken.
    """
    counts = {"answered": 0, "failed": 0}
    with tempfile.TemporaryDirectory(dir=todo.out) as folder:
        prompts, answers = Path(folder) / "prompts.jsonl", Path(folder) / "answers.jsonl"
        download(todo.source, prompts, todo.limit)
        model = todo.llm.model(todo.model)

        def work(item: tuple[int, Line]) -> dict[str, Any]:
            return answer(todo, model, *item)

        with answers.open("w", encoding="utf-8") as file:
            for found in in_order(work, enumerate(read(prompts)), todo.parallel):
                file.write(dumped(found))
                counts["failed" if "error" in found else "answered"] += 1
                if sum(counts.values()) % REPORT_EVERY == 0:
                    print(f"{counts['answered']} answered, {counts['failed']} failed so far", flush=True)
        if not any(counts.values()):
            raise Failed("there is no prompt in the file")
        for name, count in counts.items():
            (todo.out / name).write_text(str(count))
        if todo.target:
            upload(todo.target, answers, "application/x-ndjson")
        else:
            answers.rename(todo.out / "answers.jsonl")
    return counts["answered"], counts["failed"]


def answer(todo: Job, model: str, index: int, line: Line) -> dict[str, Any]:
    """Answer one line."""
    named = {"index": index, **({"id": line.record["id"]} if "id" in line.record else {})}
    try:
        found = todo.llm.complete(messages_of(line), model, max_tokens=todo.max_tokens)
    except Failed as error:
        return {**named, "error": str(error)}
    return {**named, **found}


def messages_of(line: Line) -> list[dict[str, Any]]:
    """Return what a line asks.

    Raises:
        Failed: If it asks nothing.
    """
    if line.problem:
        raise Failed(f"line {line.number} {line.problem}")
    prompt, messages = line.record.get("prompt"), line.record.get("messages")
    if isinstance(prompt, str) and prompt.strip():
        return [{"role": "user", "content": prompt}]
    if isinstance(messages, list) and messages:
        return messages
    raise Failed(f"line {line.number} has neither `prompt` nor `messages`")


if __name__ == "__main__":
    sys.exit(main())
