"""Trees of formulas and their values: exact where they are rational, bounded work, never ``eval``."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

Number = Fraction | float | complex

_MAX_BITS: Final = 4000
FUNCTIONS: dict[str, Callable[[float], float]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "arcsin": math.asin, "arccos": math.acos,
    "arctan": math.atan, "cot": lambda x: 1 / math.tan(x), "sec": lambda x: 1 / math.cos(x),
    "csc": lambda x: 1 / math.sin(x), "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
}  # fmt: skip


class Unreadable(ValueError):
    """The text has no reading, or no value that anybody should compute."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operation, its operands, and for a leaf its value or its letter."""

    kind: str
    parts: tuple[Node, ...] = ()
    value: Fraction = Fraction(0)
    name: str = ""

    def letters(self) -> frozenset[str]:
        """The variables in it."""
        if self.kind == "letter":
            return frozenset((self.name,))
        return frozenset().union(*(part.letters() for part in self.parts))

    def size(self) -> int:
        """How many operations and leaves it has."""
        return 1 + sum(part.size() for part in self.parts)


UNREAD: Final = Node("unread")
"""Stands for a formula without a reading: it has no value."""


def evaluate(node: Node, letters: Mapping[str, Number] | None = None) -> Number:
    """The value of a tree: exact where it is rational.

    Raises:
        Unreadable: A letter has no value, or the value is undefined or too large.
    """
    try:
        value = _evaluate(node, letters or {})
    except (ArithmeticError, ValueError, RecursionError, TypeError) as error:
        raise Unreadable(str(error)) from error
    if not isinstance(value, Fraction) and not cmath.isfinite(value):
        raise Unreadable("infinite")
    return value


def close(one: Number, other: Number, *, tolerance: float = 1e-7) -> bool:
    """Whether two values are equal: exactly for fractions, to ``tolerance`` of their size otherwise."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    try:
        a, b = complex(one), complex(other)
    except OverflowError:
        return one == other
    return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))


def _evaluate(node: Node, letters: Mapping[str, Number]) -> Number:
    kind = node.kind
    if kind == "number":
        return node.value
    if kind == "pi":
        return math.pi
    if kind == "unread":
        raise Unreadable("no reading")
    if kind == "letter":
        if node.name in letters:
            return letters[node.name]
        if node.name == "i":
            return 1j
        raise Unreadable(node.name)
    values = [_evaluate(part, letters) for part in node.parts]
    return _bounded(_OPERATIONS[kind](*values) if kind != "call" else _call(node.name, values[0]))


def _bounded(value: Number) -> Number:
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
            raise Unreadable("too large")
    elif isinstance(value, complex) and value.imag == 0:
        return value.real
    return value


def _both(one: Number, other: Number) -> tuple[Number, Number]:
    """The pair in one type, since a Fraction and a complex number do not add."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one, other
    return (
        float(one) if isinstance(one, Fraction) else one,
        float(other) if isinstance(other, Fraction) else other,
    )


def _add(one: Number, other: Number) -> Number:
    a, b = _both(one, other)
    return a + b


def _multiply(one: Number, other: Number) -> Number:
    a, b = _both(one, other)
    return a * b


def _divide(one: Number, other: Number) -> Number:
    a, b = _both(one, other)
    if b == 0 or (not isinstance(b, Fraction) and abs(b) < 1e-12):
        raise Unreadable("division by zero")
    return a / b


def _raise(base: Number, exponent: Number) -> Number:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        if not isinstance(base, Fraction):
            power: Number = base**exponent.numerator
            return power
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits > 1 and bits * abs(exponent) > _MAX_BITS:
            raise Unreadable("too large")
        return base**exponent.numerator
    if isinstance(base, complex) or isinstance(exponent, complex) or base < 0:
        return complex(base) ** complex(exponent)
    real: float = float(base) ** float(exponent)
    return real


def _root(value: Number, degree: Number) -> Number:
    if not isinstance(degree, Fraction) or degree.denominator != 1 or degree < 2:
        raise Unreadable("no degree of a root")
    n = degree.numerator
    if isinstance(value, complex):
        return complex(value ** (1 / n))
    if isinstance(value, Fraction) and value >= 0:
        up, low = round(value.numerator ** (1 / n)), round(value.denominator ** (1 / n))
        if low and Fraction(up, low) ** n == value:
            return Fraction(up, low)
    size: float = abs(float(value)) ** (1 / n)
    if value >= 0:
        return size
    return -size if n % 2 else complex(size * cmath.exp(1j * math.pi / n))


def _whole(value: Number, most: int) -> int:
    if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= most:
        raise Unreadable("no small whole number")
    return value.numerator


def _real(value: Number) -> float:
    if isinstance(value, complex):
        raise Unreadable("not real")
    return float(value)


def _logarithm(value: Number, base: Number) -> float:
    x, b = _real(value), _real(base)
    if x <= 0 or b <= 0 or b == 1:
        raise Unreadable("no logarithm")
    return math.log(x) / math.log(b)


def _call(name: str, value: Number) -> float:
    x = _real(value)
    if name == "ln":
        return math.log(x)
    result = FUNCTIONS[name](x)
    if abs(result) > 1e9:
        raise Unreadable("a pole")
    return result


def _round(value: Number, way: Callable[[Fraction | float], int]) -> Fraction:
    near = _real(value)
    if isinstance(value, Fraction):
        return Fraction(way(value))
    return Fraction(round(near) if abs(near - round(near)) < 1e-9 else way(near))


_OPERATIONS: dict[str, Callable[..., Number]] = {
    "+": _add,
    "-": lambda a, b: _add(a, -b),
    "*": _multiply,
    "/": _divide,
    "^": _raise,
    "neg": lambda a: -a,
    "!": lambda a: Fraction(math.factorial(_whole(a, 300))),
    "%": lambda a: _divide(a, Fraction(100)),
    "°": lambda a: _multiply(a, math.pi / 180),
    "abs": lambda a: abs(a),
    "floor": lambda a: _round(a, math.floor),
    "ceil": lambda a: _round(a, math.ceil),
    "binom": lambda n, k: Fraction(math.comb(_whole(n, 500), _whole(k, 500))),
    "root": _root,
    "log": _logarithm,
}
