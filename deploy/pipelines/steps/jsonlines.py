"""JSON Lines: what is read line by line, worked on side by side, and written in the same order."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

AHEAD = 4
"""Lines begun or done for each worker while an earlier one is not: bounds memory behind a slow line."""

T = TypeVar("T")
R = TypeVar("R")


class Line(NamedTuple):
    """One line.

    Attributes:
        number: From 1, blank lines counted.
        record: Its object; empty if it cannot be read.
        problem: Why it cannot be read, or "".
    """

    number: int
    record: dict[str, Any]
    problem: str = ""


def read(file: Path) -> Iterator[Line]:
    """Yield the lines of a file that are not blank."""
    with file.open("rb") as source:
        for number, raw in enumerate(source, 1):
            if raw.strip():
                yield _line(number, raw)


def _line(number: int, raw: bytes) -> Line:
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return Line(number, {}, f"is not JSON: {error}")
    if not isinstance(record, dict):
        return Line(number, {}, "is not a JSON object")
    return Line(number, record)


def dumped(record: dict[str, Any]) -> str:
    """Return an object as a line."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def in_order(work: Callable[[T], R], items: Iterable[T], parallel: int) -> Iterator[R]:
    """Yield what `work` makes of each item, in the order of the items; `parallel` are under way at once."""
    with ThreadPoolExecutor(parallel) as pool:
        begun: deque[Future[R]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) >= AHEAD * parallel:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for one in begun:
                one.cancel()
