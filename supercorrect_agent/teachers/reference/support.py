"""Which values of a solution the reference has too, and which sentence of the reference comes next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from supercorrect_agent.teachers.reference.latex import parse
from supercorrect_agent.teachers.reference.relations import formulas_of, links_of
from supercorrect_agent.teachers.reference.trees import Node, Number, Unreadable, evaluate

_NUMBER = re.compile(r"(?<![\w.\\])-?\d{1,30}(?:,\d{3}){0,9}(?:\.\d{1,30})?(?![\w]|\.\d|,\d)")
_SIMPLE_FRACTION = re.compile(
    r"\\[dt]?frac\{(-?\d{1,30})\}\{(\d{1,30})\}|\\[dt]?frac(\d)(\d)"
    r"|(?<![\w/.])(\d{1,30})/(\d{1,30})(?![\w/])"
)
_WORDS: dict[str, int | Fraction] = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "twice": 2, "half": Fraction(1, 2),
    "third": Fraction(1, 3), "hundred": 100, "dozen": 12,
}  # fmt: skip
_WORD = re.compile(r"\b(" + "|".join(_WORDS) + r")s?\b", re.IGNORECASE)

Key = Fraction | float | complex
"""A value to look up: exact, or a real number to six digits."""


@dataclass(frozen=True, slots=True)
class Content:
    """The values written in a text, and those its equations come to with what they came from."""

    results: dict[Key, frozenset[Key]]
    written: frozenset[Key]


def content_of(text: str) -> Content:
    """Reads the values of a text; ``results`` are the right sides of its equations, in order."""
    results: dict[Key, frozenset[Key]] = {}
    written: set[Key] = set()
    inputs: set[Key] = set()
    chain = -1
    for link in links_of(text):
        if link.chain != chain:
            chain, inputs = link.chain, set()
        inputs |= _values(link.one)
        written |= inputs | _values(link.other)
        value = value_key(link.other)
        if value is not None and link.sign in "=≈≡":
            made_of = inputs | _values(link.other)
            results[value] = results.get(value, frozenset()) | (made_of - {value})
    for formula, _, _ in formulas_of(text):
        if (node := parse(formula)) is not None:
            written |= _values(node)
    return Content(results, frozenset(written | _numbers(text)))


def value_key(node: Node) -> Key | None:
    """The value of a tree; of a multiple of one letter, the number in front of it."""
    letters = node.letters() - {"i"}
    if letters and (len(letters) > 1 or not _is_multiple(node)):
        return None
    try:
        return key_of(evaluate(node, dict.fromkeys(letters, Fraction(1))))
    except Unreadable:
        return None


def _is_multiple(node: Node) -> bool:
    """Whether a letter is only multiplied, divided or negated by numbers: 2x/5."""
    if node.kind == "letter":
        return False
    lettered = [part for part in node.parts if part.letters()]
    if (
        len(lettered) != 1
        or node.kind not in ("*", "/", "neg")
        or (node.kind == "/" and node.parts[1].letters())
    ):
        return False
    return lettered[0].kind == "letter" or _is_multiple(lettered[0])


def _values(node: Node) -> set[Key]:
    """The values of a tree and of all trees in it: what was at hand while it was worked out."""
    found = set().union(*(_values(part) for part in node.parts))
    value = value_key(node)
    return found if value is None else found | {value}


def key_of(value: Number) -> Key:
    """The key under which a value is looked up."""
    if isinstance(value, Fraction):
        return value
    if isinstance(value, complex):
        return complex(float(f"{value.real:.6g}"), float(f"{value.imag:.6g}"))
    return float(f"{value:.6g}")


def last_values(text: str) -> tuple[Key, ...]:
    """The numbers written in a text, in order."""
    return tuple(Fraction(match[0].replace(",", "")) for match in _NUMBER.finditer(text))


def is_telling(key: Key) -> bool:
    """Whether two texts hardly share this value by chance."""
    return not isinstance(key, Fraction) or key.denominator != 1 or abs(key) > 4


def next_sentences(reference: Sequence[str], prefix: Sequence[str], question: str) -> str:
    """What the reference does behind all that a prefix of the solution has reached, up to its next result.

    Args:
        reference: The reference's sentences.
        prefix: The steps before the wrong one.
        question: The question, whose values say nothing.
    """
    given = content_of(question).written
    reached = frozenset[Key]().union(*(content_of(step).written for step in prefix)) - given
    position = 0
    for i, sentence in enumerate(reference):
        news = {key for key in content_of(sentence).written - given if is_telling(key)}
        if news and news <= reached:
            position = i + 1
    position = min(position, len(reference) - 1)
    end = position + 1
    while end < min(len(reference), position + 3) and not content_of(reference[end - 1]).results:
        end += 1
    return " ".join(reference[position:end])


def _numbers(text: str) -> set[Key]:
    found: set[Key] = set()
    for match in _NUMBER.finditer(text):
        value = Fraction(match[0].replace(",", ""))
        found |= {value, abs(value)}
    for match in _SIMPLE_FRACTION.finditer(text):
        up, low = (part for part in match.groups() if part is not None)
        if int(low):
            found.add(Fraction(int(up), int(low)))
    found |= {Fraction(_WORDS[match[1].lower()]) for match in _WORD.finditer(text)}
    for formula, _, _ in formulas_of(text):
        found |= {Fraction(number) for number in re.findall(r"(?<![\d.])\d{1,30}(?![\d.])", formula)}
    return found
