r"""Finds what a step claims: chains such as ``a = b = c`` in its formulas and between its words.

A row of an environment that begins with a relation goes on with the last side of the row before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from supercorrect_agent.teachers.reference.latex import parse
from supercorrect_agent.teachers.reference.trees import UNREAD, Node

_MAX_LENGTH = 20_000
_MATH = re.compile(
    r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|\\\((?P<c>.+?)\\\)|(?<!\\)\$(?P<d>(?:\\.|[^$\\])+)\$"
    r"|\\begin\{(?P<env>align|gather|eqnarray|equation|multline|aligned)\*?\}(?P<e>.+?)\\end\{(?P=env)\*?\}",
    re.DOTALL,
)
_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_INNER = re.compile(
    r"\\(?:begin|end)\{(?:align|aligned|gather|gathered|split|equation|eqnarray)\*?\}(?:\[\w\])?"
)
_ARRAY = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
_PLAIN = re.compile(
    r"(?<![\w\\.$)])[-(]?\$?\d[\d.,]{0,30}[)%]?(?:\s?[-+*/\u00d7\u00b7\u00f7^=]\s?\(?-?\$?[\d.,]{0,30}\d[)%]?)+"
    r"|(?<![\w\\])[a-zA-Z] ?= ?-?[\d.,/]{0,30}\d(?![\w^*])"
)
_JOINED_BEFORE = re.compile(r"\S[^\S\n]?[-+*/^\u00d7\u00b7\u2212][^\S\n]?\Z")
_JOINED_BEHIND = re.compile(
    r"[(!]|[A-Za-z](?![A-Za-z])|[^\S\n]?[-+*/^\u00d7\u00b7\u00f7\u2212][^\S\n]?[\w(\\]"
)
_BREAK = re.compile(
    r"\\\\(?:\[[^\]]*\])?|\\q?quad\b|\\(?:Rightarrow|Longrightarrow|implies|iff|Leftrightarrow|to|rightarrow"
    r"|Longleftrightarrow|therefore|because|longrightarrow)\b|\\text\s*\{[^{}]*\b(?:and|or|so|if|for|where|then|since)\b[^{}]*\}"
    r"|;|\\,\s*\\,|⇒|→|\\newline|\\hline"
)
_RELATION = re.compile(
    r"\\(?:leq?|geq?|neq?|lt|gt|approx|equiv|cong|sim|simeq|leqslant|geqslant|doteq)(?![A-Za-z])"
    r"|!=|<=|>=|[=<>≈≡≠≤≥]"
)
_SIGNS = {
    "\\le": "≤", "\\leq": "≤", "\\leqslant": "≤", "<=": "≤", "\\ge": "≥", "\\geq": "≥", "\\geqslant": "≥",
    ">=": "≥", "\\ne": "≠", "\\neq": "≠", "!=": "≠", "\\lt": "<", "\\gt": ">", "\\approx": "≈",
    "\\equiv": "≡", "\\cong": "?", "\\sim": "?", "\\simeq": "≈", "\\doteq": "≈",
}  # fmt: skip
_THOUSANDS = re.compile(r",(?:\\!|\{\})?\s?\d{3}(?!\d)")
_MODULUS = re.compile(
    r"\\pmod\s*\{?(\d+)\}?|\\mod\s*\{?(\d+)\}?|\(\s*(?:\\text\{\s*)?mod\s*\}?\s*(\d+)\s*\)|\\bmod\s*(\d+)"
)


@dataclass(frozen=True, slots=True)
class Link:
    """One relation between two neighbouring sides, as written and as read (`UNREAD` without a reading)."""

    left: str
    sign: str
    right: str
    one: Node
    other: Node
    modulus: int | None = None
    chain: int = 0
    start: int = 0
    end: int = 0

    @property
    def text(self) -> str:
        return f"{self.left.strip()} {self.sign} {self.right.strip()}"


def links_of(text: str) -> list[Link]:
    """Every relation that a step states, in order; ``chain`` tells which ones belong together.

    ``start`` and ``end`` are the character offsets of the formula that it stands in.
    """
    found: list[Link] = []
    for number, chain in enumerate(_chains(text)):
        sides, signs, modulus, (start, end) = chain
        nodes = [parse(side) or UNREAD for side in sides]
        found += (
            Link(sides[i], sign, sides[i + 1], nodes[i], nodes[i + 1], modulus, number, start, end)
            for i, sign in enumerate(signs)
        )
    return found


def formulas_of(text: str) -> Iterator[tuple[str, int, int]]:
    """The formulas of a text with their offsets, in order; plain arithmetic between the words is one."""
    text = text[:_MAX_LENGTH]
    text = _DRAWING.sub(lambda drawing: " " * len(drawing[0]), text)
    since = 0
    for match in _MATH.finditer(text):
        yield from _plain_between(text, since, match.start())
        body = next(body for name in "abcde" if (body := match[name]) is not None)
        yield body, match.start(), match.end()
        since = match.end()
    yield from _plain_between(text, since, len(text))


def _plain_between(text: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """What is read to both its ends: of (55+45)(55-45) = 1000 and x + 2*3 = 10 nothing is."""
    for plain in _PLAIN.finditer(text, start, end):
        joined = _JOINED_BEFORE.search(text[max(0, plain.start() - 4) : plain.start()])
        if joined is None and _JOINED_BEHIND.match(text, plain.end()) is None:
            yield plain[0], *plain.span()


def _chains(text: str) -> Iterator[tuple[list[str], list[str], int | None, tuple[int, int]]]:
    for formula, start, end in formulas_of(text):
        modulus = next((int(next(filter(None, m.groups()))) for m in _MODULUS.finditer(formula)), None)
        body = _INNER.sub(" ", _MODULUS.sub(" ", formula))
        body = _ARRAY.sub(" \\\\begin{array} ", body)
        last = ""
        for row in _BREAK.split(body):
            for part in _commas(row):
                sides, signs = _split(part.replace("&", " "))
                if signs and not sides[0].strip():
                    if not last:
                        continue
                    sides[0] = last
                if signs:
                    yield sides, signs, modulus, (start, end)
                last = sides[-1] if sides[-1].strip() else last


def _commas(row: str) -> list[str]:
    """Splits at commas outside of brackets, not inside numbers."""
    parts, depth, since = [], 0, 0
    for i, character in enumerate(row):
        depth += (character in "({[") - (character in ")}]")
        inside = row[i - 1 : i].isdigit() and _THOUSANDS.match(row, i) is not None
        if character == "," and depth <= 0 and not inside:
            parts.append(row[since:i])
            since = i + 1
    return [*parts, row[since:]]


def _split(text: str) -> tuple[list[str], list[str]]:
    """The sides of a chain, and the signs between them; relations inside braces are not its own."""
    sides, signs, since = [], [], 0
    for match in _RELATION.finditer(text):
        before = text[: match.start()]
        if before.count("{") - before.count("\\{") != before.count("}") - before.count("\\}"):
            continue
        if before.count("(") != before.count(")"):
            continue
        sides.append(text[since : match.start()])
        signs.append(_SIGNS.get(match[0], match[0]))
        since = match.end()
    return [*sides, text[since:]], signs
