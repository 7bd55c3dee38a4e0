"""Formulas told apart by a second, shifted set of numbers.

``2 x 2`` and ``1 + 3`` are both 4. To see whether a student's value comes about as in the reference, every
number is also given a *shadow*, a value shifted by a factor of its digits' own; two computations that agree
in the shadow too are the same formula, whatever the order of their steps. 0.5, 50% and 1/2 share a shadow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Final

from supercorrect_agent.teachers.reference.nodes import Negated, Node, Number, Operation

_MAX_COMBINATIONS: Final = 24
_DIGITS: Final = 10
Resolve = Callable[[Fraction], Iterable[float]]


@lru_cache(maxsize=4096)
def shadow(value: Fraction) -> float:
    """The shadow of a plain number; powers of ten keep theirs, and so do the sign and the size roughly."""
    if not value:
        return 0.0
    if value < 0:
        return -shadow(-value)
    if value.denominator > 1 and not _is_decimal(value):
        return shadow(Fraction(value.numerator)) / shadow(Fraction(value.denominator))
    digits = (value * 10**12).numerator if _is_decimal(value) else value.numerator
    key = str(digits).rstrip("0")
    return float(value) * _factor(key)


def key(value: float) -> float:
    """A shadow cut to the digits that are compared."""
    if not value or not math.isfinite(value):
        return 0.0
    return float(f"{value:.{_DIGITS - 1}e}")


def shadows_of(node: Node, resolve: Resolve) -> set[float]:
    """The shadows that an expression can have, with ``resolve`` giving those of its numbers; bounded."""
    if isinstance(node, Number):
        return set(resolve(node.value))
    if isinstance(node, Negated):
        return {-value for value in shadows_of(node.operand, resolve)}
    if not isinstance(node, Operation):
        return set()
    found: set[float] = set()
    pairs = product(sorted(shadows_of(node.left, resolve)), sorted(shadows_of(node.right, resolve)))
    for left, right in pairs:
        value = combine(node.op, left, right)
        if value is not None:
            found.add(value)
        if len(found) >= _MAX_COMBINATIONS:
            break
    return found


def combine(op: str, left: float, right: float) -> float | None:
    """``left op right`` in floating point, or None where there is no value."""
    try:
        if op == "/":
            return left / right
        if op == "^":
            return None if abs(right) > 64 or left <= 0 else float(left**right)
    except (ZeroDivisionError, OverflowError):
        return None
    return left + right if op == "+" else left - right if op == "-" else left * right


def _is_decimal(value: Fraction) -> bool:
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1 and value.denominator.bit_length() < 40


def _factor(digits: str) -> float:
    """The shift of a number by its digits; 2 and 5, 4 and 25, 8 and 125 undo each other."""
    if digits in ("1", ""):
        return 1.0
    undone = {"5": "2", "25": "4", "125": "8"}
    if digits in undone:
        return 1 / _factor(undone[digits])
    if digits == "75":
        return _factor("3") / _factor("4")
    if digits == "15":
        return _factor("3") / _factor("2")
    number = int.from_bytes(hashlib.sha256(digits.encode()).digest()[:4], "big")
    return 1 + 0.3 * number / 2**32
