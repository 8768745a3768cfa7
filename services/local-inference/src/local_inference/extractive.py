"""The stand-in for an LLM: it answers with the sentences and table rows of its context that fit the question.

Nothing is generated. A piece of context is scored by the likeness of its vector to the question's and by the share
of the question's rare words in it; a question of two parts gets a quotation for each.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from local_inference.passages import Passage, Piece, Prompt, pieces_of
from local_inference.words import identifiers, terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from local_inference.minilm import Floats

    Embed = Callable[[Sequence[str]], Floats]

NOTHING = "I found nothing about that in the context I was given."
_NOTICE = "(local-inference, the embedded stand-in, quotes; it does not think.)"

_LIKENESS, _OVERLAP, _PLACE, _KIND = 0.5, 0.5, 0.06, 0.12
_ENOUGH = 0.30
"""Lowest score worth quoting; unrelated pieces reach about 0.2."""

_CANDIDATES = 24
_MOST_QUOTES = 3
_SAME = 0.93
_CACHED = 4096

_PARTS = re.compile(
    r"(?<=[?])\s+|\s*[,;]?\s+(?:and|or)\s+(?=(?:how|what|which|who|where|when|why|is|are|does|do|can)\b)",
    re.IGNORECASE,
)
_POINTS_BACK = re.compile(r"\b(?:it|its|they|them|their|that|this|these|those|he|she)\b", re.IGNORECASE)
# What kind of thing is asked for, and what such a thing looks like.
_KINDS = (
    (
        re.compile(r"\b(?:how (?:long|often|soon|old)|when|since|until)\b", re.IGNORECASE),
        re.compile(
            r"\b\d[\d.,]*\s?(?:ms|s|secs?|seconds?|min|minutes?|h|hours?|d|days?|weeks?|months?|years?)\b|\b\d{4}\b",
        ),
    ),
    (
        re.compile(
            r"\b(?:how (?:many|much|large|big|small|fast|far|high)|(?:what|which) (?:port|size|number))\b",
            re.IGNORECASE,
        ),
        re.compile(r"(?<![\w.])\d"),
    ),
)


class Quoter:
    """Answers prompts by quotation.

    Args:
        embed: Maps texts to unit vectors; called from the thread that calls `answer`.
    """

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._cache: OrderedDict[str, Floats] = OrderedDict()

    def answer(self, prompt: Prompt) -> str:
        """Return the answer to `prompt`. Not for two threads at once."""
        if prompt.greet:
            return f"Hello {prompt.greet}! Ask me anything about the documents I was given."
        chosen = self.choose(prompt)
        if not chosen:
            return f"{NOTHING} {_NOTICE}"
        lines: list[str] = []
        for passage in dict.fromkeys(piece.passage for piece in chosen):
            quotes = " \u2026 ".join(_quoted(piece) for piece in chosen if piece.passage is passage)
            lines.append(f"{_named(passage)}{quotes}")
        return "\n\n".join([*lines, _NOTICE])

    def choose(self, prompt: Prompt) -> list[Piece]:
        """Return the pieces worth quoting, best first; empty when nothing fits."""
        pieces = _without_repeats(piece for passage in prompt.passages for piece in pieces_of(passage))
        # A text that asks the same, an example of how to use us for instance, does not answer it.
        asked = _letters(prompt.question)
        pieces = [piece for piece in pieces if asked not in _letters(piece.text)]
        if not pieces or not asked:
            return []
        bags = [set(terms(f"{piece.setting} {piece.text}")) for piece in pieces]
        rarity = _rarity(bags)
        chosen: list[int] = []
        for part in _parts(prompt):
            own = terms(_without_kind(part))
            named: list[str] = []
            if chosen and _POINTS_BACK.search(part):
                last = chosen[-1]
                if set(own) <= bags[last] and _of_kind(part, pieces[last].text, unasked=True):
                    continue  # answered by the last quotation already
                # "and how long is it kept": "it" is named in what was just quoted.
                named = identifiers(pieces[last].text)
            wanted = dict.fromkeys(own, 1.0) | dict.fromkeys(named, 2.0)
            if not wanted:
                continue
            overlap = np.array([_overlap(wanted, bag, rarity) for bag in bags])
            bonus = np.array([_KIND * _of_kind(part, piece.text) for piece in pieces])
            bonus += _PLACE / np.array([piece.passage.number or 1 for piece in pieces])
            overlap[chosen] = bonus[chosen] = -1
            near = np.argsort(-(overlap + bonus), kind="stable")[:_CANDIDATES]
            likeness = (
                self._vectors([_searched(pieces[i]) for i in near])
                @ self._vectors([" ".join([part, *named])])[0]
            )
            score = _LIKENESS * likeness + _OVERLAP * overlap[near] + bonus[near]
            order = np.argsort(-score, kind="stable")
            self._take(chosen, pieces, near[order], score[order])
        return [pieces[index] for index in chosen[:_MOST_QUOTES]]

    def _take(self, chosen: list[int], pieces: list[Piece], found: np.ndarray, score: np.ndarray) -> None:
        """Add the best piece, and a second one when it is about as good and says something else."""
        for index, value in zip(found[:2].tolist(), score[:2].tolist(), strict=True):
            if value >= max(_ENOUGH, 0.92 * score[0]) and not self._told(pieces, chosen, index):
                chosen.append(index)

    def _told(self, pieces: list[Piece], chosen: list[int], index: int) -> bool:
        if not chosen:
            return False
        vectors = self._vectors([pieces[i].text for i in [*chosen, index]])
        return bool((vectors[:-1] @ vectors[-1]).max() > _SAME)

    def _vectors(self, texts: Sequence[str]) -> Floats:
        missing = list(dict.fromkeys(text for text in texts if text not in self._cache))
        if missing:
            self._cache.update(zip(missing, self._embed(missing), strict=True))
        for text in texts:
            self._cache.move_to_end(text)
        found = np.stack([self._cache[text] for text in texts])
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return found


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _parts(prompt: Prompt) -> list[str]:
    parts = [part.strip() for part in _PARTS.split(prompt.question) if part.strip()]
    if prompt.earlier and (len(terms(parts[0])) < 2 or _POINTS_BACK.search(parts[0])):
        parts[0] = f"{prompt.earlier} {parts[0]}"
    return parts[:_MOST_QUOTES]


def _rarity(bags: Sequence[set[str]]) -> dict[str, float]:
    counts = Counter(term for bag in bags for term in bag)
    return {term: math.log(1 + len(bags) / count) for term, count in counts.items()}


def _overlap(wanted: Mapping[str, float], bag: set[str], rarity: Mapping[str, float]) -> float:
    # A word that stands nowhere in the context counts as the rarest: then nothing fits well.
    rarest = max(rarity.values(), default=1.0)
    total = sum(weight * rarity.get(term, rarest) for term, weight in wanted.items())
    return (
        sum(weight * rarity[term] for term, weight in wanted.items() if term in bag) / total if total else 0.0
    )


def _without_repeats(pieces: Iterable[Piece]) -> list[Piece]:
    unique: dict[str, Piece] = {}
    for piece in pieces:
        unique.setdefault(" ".join(piece.text.split()), piece)
    # A lead-in without what it leads to ("For example:") tells nothing.
    return [piece for piece in unique.values() if not piece.text.endswith(":")]


def _of_kind(question: str, text: str, *, unasked: bool = False) -> bool:
    """Whether `text` holds the kind of thing that `question` asks for; `unasked` when it asks for none."""
    asked = [looks for asks, looks in _KINDS if asks.search(question)]
    return any(looks.search(text) for looks in asked) if asked else unasked


def _without_kind(question: str) -> str:
    """Return `question` without "how long" and the like: the answer shows these by a number, not by the words."""
    for asks, _ in _KINDS:
        question = asks.sub(" ", question)
    return question


def _searched(piece: Piece) -> str:
    return f"{piece.setting}: {piece.text}" if piece.setting else piece.text


def _named(passage: Passage) -> str:
    name = passage.title or passage.uri
    number = f"[{passage.number}] " if passage.number else ""
    return f"{number}{name} says: " if name else (f"{number}says: " if number else "The text says: ")


def _quoted(piece: Piece) -> str:
    return f"\n{piece.text}\n" if "\n" in piece.text else f"\u201c{piece.text}\u201d"
