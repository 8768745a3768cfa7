"""What other languages put into a line of Markdown: HTML, LaTeX, addresses of the web."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_base.conversation._characters import is_mark, is_wide, words
from handler_base.conversation._inline import Inline

if TYPE_CHECKING:
    from handler_base.conversation._inline import Sink

TAG_LIMIT = 200
ENTITY_LIMIT = 32
COMMAND_LIMIT = 20
HOST_LIMIT = 255
TRAILING_LIMIT = 16

_HIDDEN = frozenset({"think", "thinking", "script", "style"})
"""Elements whose contents are not spoken."""
_BLOCKS = words("p div li ul ol table tr h1 h2 h3 h4 h5 h6 hr blockquote section details summary pre")
_SCHEMES = ("https://", "http://", "ftp://", "www.")
_AFTER_URL = frozenset(' \t\r\n<>"|\\^`{}[]*')
_TRAILING = frozenset(".,;:!?'_~")
_COMMANDS = {
    "times": "×",  # noqa: RUF001
    "cdot": "·",
    "div": "÷",
    "pm": "±",
    "le": "≤",
    "leq": "≤",
    "ge": "≥",
    "geq": "≥",
    "ne": "≠",
    "neq": "≠",
    "approx": "≈",
    "sum": "∑",
    "infty": "∞",
    "degree": "°",
    "alpha": "α",  # noqa: RUF001
    "beta": "β",
    "gamma": "γ",  # noqa: RUF001
    "delta": "δ",
    "Delta": "Δ",
    "lambda": "λ",
    "mu": "μ",
    "pi": "π",
    "sigma": "σ",  # noqa: RUF001
    "omega": "ω",
}


class Embedded(Inline):
    """Adds tags, entities, escapes, formulas and addresses to the states of a line."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self._element = ""  # the element that is left out
        self._parentheses_of_url = 0
        self._inline["<"] = self._hold_for(self._tag)
        self._inline["&"] = self._hold_for(self._entity)
        self._inline["\\"] = self._hold_for(self._escape)

    # HTML

    def _tag(self, char: str) -> None:
        if char == ">":
            content, self._held = self._held[1:], ""
            self._state = self._text
            self._close_tag(content)
        elif not self._may_be_tag(char):
            self._let_go(char)
        else:
            self._held += char

    def _may_be_tag(self, char: str) -> bool:
        if not char or char in "<\n" or len(self._held) >= TAG_LIMIT:
            return False
        return len(self._held) > 1 or char in "/!?" or (char.isascii() and char.isalpha())

    def _close_tag(self, content: str) -> None:
        name = content.strip("/").split(None, 1)[0].lower() if content.strip("/ \t") else ""
        if "://" in content and " " not in content:
            self._emit_host(content.partition("://")[2])
        elif "@" in content and " " not in content:
            for char in content:
                self._emit(char, self._held_at, self._at + 1, fixed=True)
        elif name in _HIDDEN and content[0] != "/" and content[-1] != "/":
            self._element = name
            self._held = ""
            self._state = self._left_out
        elif name == "br":
            self._sink.char("\n", self._held_at, self._at + 1, fixed=False)
        elif name in _BLOCKS:
            self._end_block(self._at + 1)

    def _left_out(self, char: str) -> None:
        """Pass over an element up to its closing tag, or to the end of the answer."""
        close = f"</{self._element}>"
        self._held = (self._held + char.lower())[-len(close) :]
        if self._held == close:
            self._held = ""
            self._state = self._text if self._spoken else self._line
        elif not char:
            self._held = ""

    def _line(self, char: str) -> None:
        raise NotImplementedError

    def _entity(self, char: str) -> None:
        if char == ";":
            from html import unescape

            entity = f"{self._held};"
            decoded = unescape(entity)
            if decoded != entity:
                self._held = ""
                self._state = self._text
                for one in decoded:
                    self._emit(" " if one.isspace() else one, self._held_at, self._at + 1, fixed=True)
                return
        if char and (char.isalnum() or char == "#") and len(self._held) < ENTITY_LIMIT:
            self._held += char
        else:
            self._let_go(char)

    # LaTeX

    def _escape(self, char: str) -> None:
        self._state = self._text
        backslash, self._held = self._held_at, ""
        if char and char in "()[]":
            self._math = char in "(["
        elif self._math and char.isalpha():
            self._hold(char, self._command)
        elif char.isalnum():
            self._emit("\\", backslash)
            self._text(char)
        elif char.isspace() or not char.isascii():
            self._text(char)
        elif char:
            self._emit(char, backslash, self._at + 1)

    def _command(self, char: str) -> None:
        if char and char.isalpha() and len(self._held) < COMMAND_LIMIT:
            self._held += char
            return
        command, self._held = self._held, ""
        self._state = self._text
        if said := _COMMANDS.get(command, ""):
            self._emit(said, self._held_at, self._at)
        self._text(char)

    # Addresses

    def _scheme(self, char: str) -> None:
        begun = (self._held + char).lower()
        if char and begun in _SCHEMES:
            self._held = ""
            self._count = 0
            self._parentheses_of_url = 0
            self._state = self._host
        elif char and any(scheme.startswith(begun) for scheme in _SCHEMES):
            self._held += char
        else:
            self._let_go(char)

    def _host(self, char: str) -> None:
        """Hold the name of the host back until it is whole."""
        if (char and char in "/?#") or len(self._held) >= HOST_LIMIT:
            self._emit_host(self._held)
            self._held = ""
            self._count = 0
            self._state = self._path
            self._path(char)
        elif self._is_in_url(char):
            self._held += char
        else:
            host = self._held.rstrip("".join(_TRAILING) + ")")
            trailing = self._held[len(host) :]
            self._emit_host(host, len(trailing))
            self._held = trailing
            self._replay(char)

    def _path(self, char: str) -> None:
        """Pass over the rest of an address; the marks at its end belong to the sentence."""
        if char and char in _TRAILING and len(self._held) < TRAILING_LIMIT:
            self._held += char
        elif self._is_in_url(char):
            self._held = ""
        else:
            self._replay(char)

    def _is_in_url(self, char: str) -> bool:
        if not char or char in _AFTER_URL or char.isspace() or is_wide(char):
            return False
        self._parentheses_of_url += (char == "(") - (char == ")")
        return self._parentheses_of_url >= 0

    def _emit_host(self, address: str, after: int = 0) -> None:
        host = address.partition("/")[0].rpartition("@")[2].partition(":")[0].removeprefix("www.")
        # Letters, digits, dots and hyphens are what a name has (RFC 1123, and its international forms).
        for char in filter(_is_in_name, host):
            self._emit(char, self._held_at, self._at - after, fixed=True)


def _is_in_name(char: str) -> bool:
    return char.isalnum() or char in "._-" or is_mark(char)
