"""Words of a text as search terms: lower case, stemmed, without stop words, identifiers whole and in parts."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_IDENTIFIER = re.compile(r"[\w$]+(?:[._/:{}*>-]+[\w$}*>]+)+|\w*[a-z][A-Z]\w*|\b[A-Z][A-Z0-9]{2,}\b")
_PLACEHOLDER = re.compile(r"\{\w*\}|<\w+>")
_STOP_WORDS = frozenset(
    word
    for line in (
        "a about all also am an and any are as at be been but by can could did do does for from get give had has",
        "have he her his how i if in into is it its just may me might my no nor not of off on one or our out over",
        "own please she should so some such tell than that the their them then there these they this those to too",
        "up us use very was we were what when where which who whose why will with would you your",
    )
    for word in line.split()
)


def identifiers(text: str) -> list[str]:
    """Return the names in `text` that look like code: dotted, underscored, camel case or capitals.

    They come in lower case and with `*` for their placeholders, so that `a.{user_id}.b` equals `a.*.b`.
    """
    return [_PLACEHOLDER.sub("*", name.strip(".:>-")).lower() for name in _IDENTIFIER.findall(text)]


def terms(text: str) -> list[str]:
    """Return the search terms of `text`, in order, repeats included."""
    words = [word.lower().replace("\u2019", "'").removesuffix("'s") for word in _WORD.findall(text)]
    return [_stem(word) for word in words if word not in _STOP_WORDS] + identifiers(text)


@functools.lru_cache(maxsize=1)
def _stem_word() -> Callable[[str], str]:
    import snowballstemmer

    return snowballstemmer.stemmer("english").stemWord


@functools.lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    return _stem_word()(word)
