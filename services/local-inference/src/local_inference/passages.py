"""What a prompt holds: the question, the passages of its context, whom to greet; and a passage's quotable pieces.

The context is what chat-handler writes after a line `Context:`, read leniently:

    [1] Title of the passage (uri)
    text ...

Long text in any other place of the prompt counts as a passage without a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CONTEXT = re.compile(r"^[#*\s]*context\b[^\n:]{0,40}:[*\s]*$", re.IGNORECASE | re.MULTILINE)
_HEAD = re.compile(r"^\[(\d{1,3})\][ \t]*(.*)$", re.MULTILINE)
_URI = re.compile(r"^(.*?)\s*\(([^()\s]+)\)\s*$")
_GREET = re.compile(
    r"\bgreet the person named\s+(.+?)(?:(?:\s+warmly)?\s+in one\b|[,;:!?](?:\s|$)|\.(?:\s|$)|\n|$)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?][\"'\u201d)\]*_]*(?=\s+[\"'\u201c(\[*_]*(?:[A-Z0-9]|`))")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|no|fig|dr|mr|mrs|ms|st)|\b[A-Z])\.$", re.IGNORECASE
)
_BULLET = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s+")
_RULE = re.compile(r"^\s*\|?\s*:?-{2,}[-\s|:]*$")

LONG_TEXT = 200
"""Characters from which text outside the context block counts as a passage."""

_LONG_SENTENCE = 200
_SHORTEST = 4
_LONGEST_PIECE = 700


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of context as it was given; `number` is 0 when it had none."""

    number: int
    title: str
    uri: str
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, and what may be quoted.

    Attributes:
        question: The last thing the user said.
        earlier: What the user said before that, for questions that lean on it; may be empty.
        passages: The context.
        greet: The name of the person to greet, or "".
    """

    question: str
    earlier: str
    passages: tuple[Passage, ...]
    greet: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Something short enough to quote.

    Attributes:
        passage: The passage it stands in.
        text: Its own words; a table row has its column names put to them.
        setting: What it stands under: title and headings, for searching.
    """

    passage: Passage
    text: str
    setting: str


def read_prompt(messages: Sequence[tuple[str, str]]) -> Prompt:
    """Find question and context in `(role, text)` pairs."""
    said = [text.strip() for role, text in messages if role == "user"]
    question = said[-1] if said else ""
    passages: list[Passage] = []
    greet = ""
    for role, text in messages:
        if role == "assistant":
            continue
        greet = greet or (match.group(1).strip(" \"'\u201c\u201d") if (match := _GREET.search(text)) else "")
        marker = _CONTEXT.search(text)
        if marker or (role != "user" and _HEAD.search(text)):
            passages += _numbered(text[marker.end() :] if marker else text)
        elif role in {"user", "tool", "function"} and len(text) >= LONG_TEXT:
            pasted, asked = _split_question(text) if role == "user" else (text, "")
            passages.append(Passage(0, "", "", pasted))
            question = asked if text.strip() == question else question
    if marker := _CONTEXT.search(question):
        question = _after_context(question) or question[: marker.start()].strip()
    return Prompt(question, said[-2] if len(said) > 1 else "", tuple(p for p in passages if p.text), greet)


def _numbered(text: str) -> Iterator[Passage]:
    heads = list(_HEAD.finditer(text))
    if not heads:
        yield Passage(0, "", "", text.strip())
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        title, uri = head.group(2).strip(), ""
        if named := _URI.match(title):
            title, uri = named.groups()
        body = text[head.end() : following.start() if following else len(text)].strip()
        # "[1] some text" on one line: there is no title, the line is the text.
        yield Passage(int(head.group(1)), title if body else "", uri, body or title)


def _after_context(text: str) -> str:
    asked = re.search(
        r"^[#*\s]*(?:question|query)\s*:[*\s]*(.+)", text, re.IGNORECASE | re.MULTILINE | re.DOTALL
    )
    return asked.group(1).strip() if asked else ""


def _split_question(text: str) -> tuple[str, str]:
    """Part pasted text from the question before or after it."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n|\n", text) if block.strip()]
    for place in (-1, 0):
        if len(blocks) > 1 and (blocks[place].endswith("?") or len(blocks[place]) < LONG_TEXT):
            rest = blocks[:-1] if place else blocks[1:]
            return "\n".join(rest), blocks[place]
    sentences = sentences_of(text)
    questions = [sentence for sentence in sentences if sentence.rstrip().endswith("?")]
    asked = questions[-1] if questions else sentences[-1]
    return " ".join(sentence for sentence in sentences if sentence != asked), asked


def pieces_of(passage: Passage) -> list[Piece]:
    """Cut a passage into sentences, list items, table rows and code blocks; Markdown's line breaks are undone."""
    headings: list[str] = []
    pieces: list[Piece] = []
    for kind, lines in _blocks(passage.text):
        if kind == "heading":
            headings = [lines[0].lstrip("# ").strip()]
            continue
        if kind == "table":
            texts = list(_rows(lines))
        elif kind == "code":
            texts = ["\n".join(lines)]
        else:
            texts = sentences_of(" ".join(line.strip() for line in lines))
        setting = " ".join([passage.title, *headings]).strip()
        pieces += (
            Piece(passage, text[:_LONGEST_PIECE], setting) for text in texts if any(map(str.isalnum, text))
        )
    return pieces


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield headings, tables, code blocks, paragraphs and list items with their lines."""
    kind, held, in_code = "", list[str](), False
    for line in text.splitlines():
        is_fence = line.strip().startswith(("```", "~~~"))
        here = "code" if in_code or is_fence else _kind(line)
        if held and (here != kind or here == "heading" or (here == "text" and _BULLET.match(line))):
            yield kind, held
            held = []
        kind = here
        if is_fence:
            in_code = not in_code
        elif here:
            held.append(_BULLET.sub("", line) if here == "text" else line)
    if held:
        yield kind, held


def _kind(line: str) -> str:
    bare = line.strip()
    if bare.startswith("#"):
        return "heading"
    if bare.startswith("|"):
        return "table"
    return "text" if bare else ""


def _rows(lines: list[str]) -> Iterator[str]:
    table = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in lines
        if not _RULE.match(line)
    ]
    has_header = len(lines) > 1 and bool(_RULE.match(lines[1]))
    header = table[0] if has_header else []
    for row in table[1:] if has_header else table:
        named = len(row) == len(header)
        cells = [
            f"{header[i]}: {cell}" if named and header[i] else cell for i, cell in enumerate(row) if cell
        ]
        yield " \u00b7 ".join(cells)


def sentences_of(text: str) -> list[str]:
    """Cut running text into sentences, and long ones at their semicolons; a lead-in of few words stays with what follows."""
    text = text.strip()
    cuts = [match.end() for match in _SENTENCE_END.finditer(text)]
    sentences: list[str] = []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        part = text[begin:end].strip()
        if sentences and (_ABBREVIATION.search(sentences[-1]) or len(sentences[-1].split()) < _SHORTEST):
            sentences[-1] += f" {part}"
        elif part:
            sentences.append(part)
    return [
        clause.strip().removesuffix(";")
        for sentence in sentences
        for clause in (re.split(r"(?<=;)\s+", sentence) if len(sentence) > _LONG_SENTENCE else [sentence])
        if clause.strip()
    ]
