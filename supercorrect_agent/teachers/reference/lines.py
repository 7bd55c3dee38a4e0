"""GSM8K's references as steps: one line or sentence each, with the operations that it carries out."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARK = re.compile(r"<<([^<>]*)>>")
_FINAL = re.compile(r"\n?\s*####.*\Z", re.DOTALL)
_SENTENCE = re.compile(r"(?<=[a-z)\d%][.!?])\s+(?=[A-Z$])|(?<=[.!?][\"'])\s+(?=[A-Z$])")
_NUMBER = r"\$?\(*\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)%?\)*"
_CHAIN = re.compile(rf"{_NUMBER}(?:\s*[a-z/]{{0,12}}\s*[-+*/\u00d7\u00f7xX\u2013]\s*{_NUMBER})+")
_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+|[-+*/()%]")
_OPERATORS = str.maketrans({"×": "*", "x": "*", "X": "*", "÷": "/", "–": "-", "−": "-"})  # noqa: RUF001
_LETTER_EQUATION = re.compile(r"(?:^|[\s(\d])([a-zA-Z])(?=\s*[=+*/-])|\d([a-z])\b(?=\s*[=+-])")
MAX_STEPS = 12


@dataclass(frozen=True, slots=True)
class Line:
    """A step of a reference: its text without marks, its operators in order and the numbers between them.

    ``expression`` is the left side of the last calculation in it, "" where it calculates nothing.
    """

    text: str
    expression: str = ""
    operators: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    unknown: bool = False


def split_lines(reference: str) -> list[Line]:
    """Reads a reference line by line; one that is a single line, sentence by sentence.

    Lines without any word or number are dropped, and neighbours are joined, shortest first, down to
    ``MAX_STEPS``.
    """
    text = _FINAL.sub("", reference)
    lines = [line.strip() for line in text.split("\n") if re.search(r"\w", line)]
    if len(lines) == 1:
        lines = _SENTENCE.split(lines[0])
    return [read_line(line) for line in join_shortest(lines, most=MAX_STEPS, least=8)]


def read_line(line: str) -> Line:
    """One line of a reference, its calculator marks removed and read."""
    marked = [mark.partition("=")[0] for mark in _MARK.findall(line)]
    shown = _without_marks(line)
    expression = next((lhs for lhs in reversed(marked) if re.search(r"\d\s*%?\)*\s*[-+*/]", lhs)), "")
    if not expression:
        chains = [match[0] for match in _CHAIN.finditer(shown)]
        expression = max(chains, key=len, default="").translate(_OPERATORS)
    tokens = _TOKEN.findall(expression)
    return Line(
        text=shown,
        expression=expression.strip(),
        operators=tuple(sign for sign in tokens if sign in "+-*/"),
        numbers=tuple(token.replace(",", "") for token in tokens if token[-1].isdigit()),
        unknown=_LETTER_EQUATION.search(shown) is not None and "=" in shown,
    )


def join_shortest(texts: list[str], *, most: int, least: int) -> list[str]:
    """Joins neighbours down to ``most`` texts, each of ``least`` characters where that can be."""
    texts = list(texts)
    while len(texts) > 2:
        short = min(range(len(texts)), key=lambda i: len(texts[i]))
        if len(texts) <= most and len(texts[short]) >= least:
            break
        if len(texts) > most:
            short = min(range(len(texts) - 1), key=lambda i: len(texts[i]) + len(texts[i + 1]))
        at = short if short < len(texts) - 1 else short - 1
        texts[at : at + 2] = [f"{texts[at]} {texts[at + 1]}"]
    return texts


def _without_marks(line: str) -> str:
    """Removes the marks; where the result does not follow its mark in the text, it takes its place."""
    pieces, since = [], 0
    for mark in _MARK.finditer(line):
        value = mark[1].partition("=")[2]
        follows = re.match(r"\s*[-(]?\s*\$?\s*[-(]?\d|\s*\$?\.\d", line[mark.end() :]) is not None
        pieces += [line[since : mark.start()], "" if follows else value]
        since = mark.end()
    return " ".join("".join([*pieces, line[since:]]).split())
