"""Checks relations: true, false, or an equation that some values satisfy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from supercorrect_agent.teachers.reference.relations import Link
from supercorrect_agent.teachers.reference.trees import UNREAD, Node, Number, Unreadable, close, evaluate

Truth = Literal["true", "false", "open", "unknown"]
"""``open``: it holds for some values of its letters, so it may be a condition and not a claim."""

POINTS = (
    (Fraction(7, 5), Fraction(12, 7)), (Fraction(23, 11), Fraction(5, 9)),
    (Fraction(3, 13), Fraction(19, 17)), (Fraction(29, 8), Fraction(2, 19)),
)  # fmt: skip
_WORDS = re.compile(r"\\(?:text|mbox|mathrm|textrm)\s*\{([^{}]*[a-zA-Z][^{}]*)\}")
_DECIMAL = re.compile(r"-?\d*\.(\d+)\s*(?:\\%|%)?\W*\Z")


def check(link: Link, known: Mapping[str, Number] | None = None) -> Truth:
    """Whether a relation holds.

    Args:
        link: The relation.
        known: Values of letters, where the text has fixed them.
    """
    if UNREAD in (link.one, link.other) or link.sign in ("?", "≠"):
        return "unknown"
    letters = (link.one.letters() | link.other.letters()) - {"i"} - set(known or ())
    if "e" in letters or "d" in letters:
        return "unknown"
    if units_of(link.left) and units_of(link.right) and units_of(link.left) != units_of(link.right):
        return "unknown"
    if not letters:
        return _check_values(link, known or {})
    return _check_letters(link, sorted(letters), known or {}) if link.sign == "=" else "unknown"


def points(letters: list[str], known: Mapping[str, Number]) -> list[dict[str, Number]]:
    """A few assignments of rational values to letters, always the same ones."""
    return [
        {**known, **{letter: start + step * i for i, letter in enumerate(letters)}} for start, step in POINTS
    ]


def rounds_to(value: Number, shown: str, written: Number) -> bool:
    """Whether a decimal as written is a rounding of the value, within one unit of its last place."""
    match = _DECIMAL.search(shown.strip())
    if match is None:
        return False
    place = 10.0 ** -len(match[1]) / (100 if "%" in match[0] else 1)
    try:
        return abs(complex(value) - complex(written)) <= 1.01 * place
    except OverflowError:
        return False


def _check_values(link: Link, known: Mapping[str, Number]) -> Truth:
    try:
        one, other = evaluate(link.one, known), evaluate(link.other, known)
    except Unreadable:
        return "unknown"
    if link.sign in ("=", "≡") and link.modulus is not None:
        return _congruent(one, other, link.modulus)
    if link.sign == "=":
        same = (
            close(one, other)
            or _nearly(one, other)
            or rounds_to(one, link.right, other)
            or rounds_to(other, link.left, one)
        )
        return "true" if same else "false"
    if link.sign == "≈":
        return "true" if close(one, other, tolerance=0.15) else "false"
    if isinstance(one, complex) or isinstance(other, complex) or link.sign not in "<>≤≥":
        return "unknown"
    if close(one, other):
        return "true" if link.sign in "≤≥" else "false"
    return "true" if (one < other) == (link.sign in "<≤") else "false"


def _nearly(one: Number, other: Number) -> bool:
    """Whether one is a large number and the other the same one rounded to a whole."""
    if isinstance(one, complex) or isinstance(other, complex):
        return False
    whole = [isinstance(x, Fraction) and x.denominator == 1 for x in (one, other)]
    return whole[0] != whole[1] and abs(float(one) - float(other)) <= 0.51 and abs(float(one)) > 500


def _congruent(one: Number, other: Number, modulus: int) -> Truth:
    if not isinstance(one, Fraction) or not isinstance(other, Fraction) or modulus < 2:
        return "unknown"
    difference = one - other
    if difference.denominator != 1:
        return "unknown"
    return "true" if difference.numerator % modulus == 0 else "false"


def _check_letters(link: Link, letters: list[str], known: Mapping[str, Number]) -> Truth:
    """Compares at a few points: equal at all is an identity, apart by one constant at all is never true."""
    if link.modulus is not None:
        return "unknown"
    apart: list[complex] = []
    size = 1.0
    for values in points(letters, known):
        try:
            one, other = evaluate(link.one, values), evaluate(link.other, values)
            size = max(size, abs(complex(one)), abs(complex(other)))
            if size > 1e7:
                return "unknown"
            apart.append(complex(one) - complex(other))
        except (Unreadable, OverflowError):
            continue
    if len(apart) < 2:
        return "unknown"
    if all(abs(gap) <= 1e-7 * size for gap in apart):
        return "true"
    if len(apart) >= 3 and all(abs(gap - apart[0]) <= 1e-7 * size for gap in apart):
        return "false"
    return "open"


def units_of(text: str) -> list[str]:
    """The words in a side, which may be units that the parser leaves out."""
    return sorted(word.strip(" .^") for word in _WORDS.findall(text) if word.strip(" .^"))


def is_number(node: Node) -> bool:
    """Whether a side is one plain number, with or without a sign."""
    while node.kind == "neg":
        node = node.parts[0]
    return node.kind == "number"
