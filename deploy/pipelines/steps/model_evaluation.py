"""Asks an LLM the questions of a dataset and scores its answers.

The dataset is JSON Lines, one object per line: `question`, and `answer`, a text or a list of texts of which any is right.
Answers are compared as SQuAD does (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250): without case, punctuation
and articles; `exact` asks for the same words, `contains` for the right ones in a row, `f1` for the words in common.

Writes `score`, the mean over all questions, and `results.jsonl`. A question that gets no answer has no score, so the
whole has none either. Exit codes: 0, 1 when the score is below MINIMUM_SCORE, 2 when there is none.
"""

import re
import string
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import settings
from endpoint import Endpoint, Failed, download
from jsonlines import Line, dumped, in_order, read

TOO_LOW, IMPOSSIBLE = 1, 2
SHOWN = 5

INSTRUCTION = "Answer with the answer alone: as few words as possible, no sentence around them."

_ARTICLES = re.compile(r"\b(a|an|the)\b")


class Question(NamedTuple):
    """One line of the dataset.

    Attributes:
        text: The question.
        answers: The right answers.
    """

    text: str
    answers: list[str]


class Job(NamedTuple):
    """What is to be done.

    Attributes:
        source: Address of the dataset.
        llm: Whom to ask.
        model: For what.
        metric: How an answer is compared.
        minimum: Least score.
        parallel: Questions under way at once.
        max_tokens: Longest answer.
        out: Folder for what comes out.
        limit: Largest dataset, in bytes.
    """

    source: str
    llm: Endpoint
    model: str
    metric: str
    minimum: float
    parallel: int
    max_tokens: int
    out: Path
    limit: int


def job() -> Job:
    """Read it from the environment.

    Raises:
        Failed: If something in it cannot be.
    """
    metric = settings.text("METRIC")
    if metric not in METRICS:
        raise Failed(f"METRIC is {metric[:64]!r}, not one of {', '.join(METRICS)}")
    return Job(
        source=settings.text("DATASET_URL"),
        llm=settings.llm(),
        model=settings.text("MODEL"),
        metric=metric,
        minimum=settings.number("MINIMUM_SCORE", 0, 1),
        parallel=settings.whole("LLM_PARALLEL", 1, 1024, "8"),
        max_tokens=settings.whole("LLM_MAX_TOKENS", 1, 1 << 20, "256"),
        out=Path(settings.text("OUT", "/out")),
        limit=settings.whole("MAX_INPUT_BYTES", 1, 1 << 40, str(settings.MAX_INPUT_BYTES)),
    )


def main() -> int:
    """Do it; returns the exit code."""
    try:
        todo = job()
        score = run(todo)
    except Failed as error:
        print(f"model-evaluation: {error}", file=sys.stderr)
        return IMPOSSIBLE
    print(f"{todo.metric} {score:.4f}")
    if score < todo.minimum:
        print(f"model-evaluation: {score:.4f} is below the minimum of {todo.minimum:g}", file=sys.stderr)
        return TOO_LOW
    return 0


def run(todo: Job) -> float:
    """Ask all questions, write what came of them, and return the score.

    Raises:
        Failed: If the dataset cannot be read or has no question, or one of them got no answer.
    """
    with tempfile.TemporaryDirectory(dir=todo.out) as folder:
        file = Path(folder) / "dataset.jsonl"
        download(todo.source, file, todo.limit)
        questions = dataset(file)
    model = todo.llm.model(todo.model)

    def work(question: Question) -> dict[str, Any]:
        return asked(todo, model, question)

    total, missing = 0.0, 0
    with (todo.out / "results.jsonl").open("w", encoding="utf-8") as results:
        for found in in_order(work, questions, todo.parallel):
            results.write(dumped(found))
            total += found.get("score", 0.0)
            missing += "error" in found
            if 0 < missing <= SHOWN and "error" in found:
                print(f"{found['question'][:100]!r}: {found['error']}", file=sys.stderr)
    if missing:
        raise Failed(f"{missing} of {len(questions)} questions got no answer, so there is no score")
    score = total / len(questions)
    (todo.out / "score").write_text(f"{score:.6f}")
    return score


def dataset(file: Path) -> list[Question]:
    """Read the questions.

    Raises:
        Failed: If a line is none, or there is none.
    """
    questions: list[Question] = []
    problems: list[str] = []
    for line in read(file):
        found = question_of(line)
        if isinstance(found, str):
            problems.append(f"line {line.number} {found}")
        else:
            questions.append(found)
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        raise Failed(f"the dataset cannot be used: {'; '.join(problems[:SHOWN])}{more}")
    if not questions:
        raise Failed("there is no question in the dataset")
    return questions


def question_of(line: Line) -> Question | str:
    """Return the question of a line, or what is wrong with it."""
    if line.problem:
        return line.problem
    text, answers = line.record.get("question"), line.record.get("answer")
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(text, str) or not text.strip():
        return "has no `question`"
    if not isinstance(answers, list) or not answers or not all(isinstance(one, str) for one in answers):
        return "has no `answer`: a text, or a list of texts"
    return Question(text, answers)


def asked(todo: Job, model: str, question: Question) -> dict[str, Any]:
    """Ask one question and score the answer."""
    messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question.text}]
    known = {"question": question.text, "expected": question.answers}
    try:
        answer = todo.llm.complete(messages, model, max_tokens=todo.max_tokens, temperature=0)["answer"]
    except Failed as error:
        return {**known, "error": str(error)}
    compare = METRICS[todo.metric]
    return {**known, "answer": answer, "score": max(compare(answer, right) for right in question.answers)}


# ---- how answers are compared ---------------------------------------------------------------------------------------


def normal(text: str) -> list[str]:
    """Return the words that count: in lower case, without punctuation and articles."""
    return _ARTICLES.sub(" ", "".join(c for c in text.lower() if not _is_punctuation(c))).split()


def _is_punctuation(character: str) -> bool:
    """Whether SQuAD leaves a character out, or would if it had met models that write “so”."""
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def exact(answer: str, right: str) -> float:
    """Whether both have the same words in the same order."""
    return float(normal(answer) == normal(right))


def contains(answer: str, right: str) -> float:
    """Whether the right words stand in the answer, in a row."""
    words, wanted = normal(answer), normal(right)
    rows = range(len(words) - len(wanted) + 1)
    return float(bool(wanted) and any(words[at : at + len(wanted)] == wanted for at in rows))


def f1(answer: str, right: str) -> float:
    """The harmonic mean of the share of its words that are right and the share of the right ones that it has."""
    words, wanted = normal(answer), normal(right)
    if not words or not wanted:
        return float(words == wanted)
    common = sum((Counter(words) & Counter(wanted)).values())
    return 2 * common / (len(words) + len(wanted))


METRICS: dict[str, Callable[[str, str], float]] = {"exact": exact, "contains": contains, "f1": f1}


if __name__ == "__main__":
    sys.exit(main())
