"""The part of Milvus' filter language that the vector store uses, parsed strictly.

either     := both ("or" both)*
both       := comparison ("and" comparison)*
comparison := "(" either ")" | name "in" "[" value ("," value)* "]" | name ("==" | ">=" | "<=" | "<" | ">") value
"""

from __future__ import annotations

import json
import operator
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Predicate = Callable[[dict[str, Any]], bool]

_TOKEN = re.compile(r'\s*("(?:[^"\\\r\n]|\\.)*"|-?\d+|\w+|==|>=|<=|<|>|[\[\](),])')
_OPERATORS = {"==": operator.eq, ">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}


class FilterError(Exception):
    """The filter does not parse."""


def parse_filter(text: str, fields: set[str] | None) -> Predicate:
    """Return what a filter selects.

    Args:
        text: The filter.
        fields: Names that may be used, or None for any.

    Raises:
        FilterError: If it does not parse to its end.
    """
    parser = _Parser(_tokens(text), fields)
    parsed = parser.either()
    if parser.tokens:
        raise FilterError(f"{parser.tokens[-1]!r} is left over in {text}")
    return parsed


def _tokens(text: str) -> list[str]:
    """Return the tokens, the last first."""
    tokens: list[str] = []
    end = 0
    while text[end:].strip():
        match = _TOKEN.match(text, end)
        if match is None:
            raise FilterError(text[end:])
        tokens.append(match[1])
        end = match.end()
    return tokens[::-1]


class _Parser:
    def __init__(self, tokens: list[str], fields: set[str] | None) -> None:
        self.tokens = tokens
        self._fields = fields

    def either(self) -> Predicate:
        parts = [self._both()]
        while self._at("or"):
            parts.append(self._both())
        return lambda row: any(part(row) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._comparison()]
        while self._at("and"):
            parts.append(self._comparison())
        return lambda row: all(part(row) for part in parts)

    def _comparison(self) -> Predicate:
        name = self._take()
        if name == "(":
            inner = self.either()
            self._expect(")")
            return inner
        if self._fields is not None and name not in self._fields:
            raise FilterError(f"field {name} not exist")
        symbol = self._take()
        if symbol == "in":
            values = self._list()
            return lambda row: row.get(name) in values
        if symbol not in _OPERATORS:
            raise FilterError(symbol)
        compare, wanted = _OPERATORS[symbol], self._value()
        return lambda row: bool(compare(row[name], wanted))

    def _list(self) -> list[Any]:
        self._expect("[")
        values = [self._value()]
        while self._at(","):
            values.append(self._value())
        self._expect("]")
        return values

    def _value(self) -> Any:
        token = self._take()
        try:
            return json.loads(token)
        except ValueError as error:
            raise FilterError(token) from error

    def _at(self, token: str) -> bool:
        if self.tokens and self.tokens[-1] == token:
            self.tokens.pop()
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._at(token):
            raise FilterError(f"{token!r} is missing")

    def _take(self) -> str:
        return self.tokens.pop() if self.tokens else ""
