"""Expressions as records with exact values, and whether what an equation claims is true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

MAX_BITS: Final = 2048
"""Size of a numerator or denominator past which a value is not worked out."""
_MAX_POWER: Final = 64


@dataclass(frozen=True)
class Number:
    """A number as written. ``start`` and ``end`` are character offsets; ``unit`` the words behind it."""

    value: Fraction
    text: str
    start: int
    end: int
    decimals: int = 0
    percent: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Name:
    """A quantity without a number: a variable or words such as "number of dogs"."""

    text: str


@dataclass(frozen=True)
class Operation:
    """``left op right`` with ``op`` one of ``+ - * / ^``."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Negated:
    """``-operand``."""

    operand: Node


Node = Number | Name | Operation | Negated


@dataclass(frozen=True)
class Side:
    """One side of an equation and where it stands."""

    node: Node
    start: int
    end: int

    @property
    def value(self) -> Fraction | None:
        return evaluate(self.node)

    @property
    def computed(self) -> bool:
        """Whether it is an operation rather than a single number or name."""
        return isinstance(self.node, Operation)


@dataclass(frozen=True)
class Equation:
    """A chain ``sides[0] = sides[1] = ...``; a single computed side is a chain of one.

    ``approximate`` says that it is written with a sign for "about".
    """

    sides: tuple[Side, ...]
    approximate: bool = False

    @property
    def start(self) -> int:
        return self.sides[0].start

    @property
    def end(self) -> int:
        return self.sides[-1].end


def evaluate(node: Node, names: Mapping[str, Fraction] | None = None) -> Fraction | None:
    """The exact value, or None: an unknown name, a division by zero, or a value past `MAX_BITS`."""
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        return (names or {}).get(node.text)
    if isinstance(node, Negated):
        inner = evaluate(node.operand, names)
        return None if inner is None else -inner
    left, right = evaluate(node.left, names), evaluate(node.right, names)
    return None if left is None or right is None else apply(node.op, left, right)


def apply(op: str, left: Fraction, right: Fraction) -> Fraction | None:
    """``left op right``, or None where it has no value or one past `MAX_BITS`."""
    if op == "/":
        value = left / right if right else None
    elif op == "^":
        value = _power(left, right)
    else:
        value = left + right if op == "+" else left - right if op == "-" else left * right
    return value if value is not None and _bits(value) <= MAX_BITS else None


def leaves(node: Node) -> list[Number | Name]:
    """The numbers and names of an expression, from left to right."""
    if isinstance(node, Operation):
        return leaves(node.left) + leaves(node.right)
    return leaves(node.operand) if isinstance(node, Negated) else [node]


def numbers_of(node: Node) -> list[Number]:
    """The numbers of an expression, from left to right."""
    return [leaf for leaf in leaves(node) if isinstance(leaf, Number)]


def agrees(value: Fraction, stated: Number, *, approximate: bool = False) -> bool:
    """Whether a stated number is a value, or the value rounded or cut to the stated decimals.

    Whole numbers must be exact unless ``approximate``. "25%" is 0.25 and, as a result, also 25.
    """
    candidates = [stated.value, stated.value * 100] if stated.percent else [stated.value]
    return any(_close(value, one, stated.decimals, approximate) for one in candidates)


def first_false(equation: Equation) -> tuple[Side, Side] | None:
    """The first two neighbouring sides of a chain whose values differ beyond rounding, or None."""
    for left, right in zip(equation.sides, equation.sides[1:], strict=False):
        if not _sides_agree(left, right, equation.approximate):
            return left, right
    return None


def format_value(value: Fraction) -> str:
    """A value as one writes it: ``24``, ``12.5``, ``33.33`` (to two decimals at most four), else ``1/3``."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10_000
    if scaled.denominator == 1:
        return f"{float(value):.4f}".rstrip("0")
    return f"{float(value):.2f}" if abs(value) >= 1 else f"{value.numerator}/{value.denominator}"


def _power(left: Fraction, right: Fraction) -> Fraction | None:
    if right.denominator != 1 or abs(right) > _MAX_POWER or (not left and right < 0):
        return None
    if _bits(left) * abs(int(right)) > MAX_BITS:
        return None
    return Fraction(left ** int(right))


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _close(value: Fraction, stated: Fraction, decimals: int, approximate: bool) -> bool:
    off = abs(value - stated)
    if not off:
        return True
    if approximate:
        return off < max(Fraction(1, 10**decimals), abs(value) / 100)
    return bool(decimals) and value.denominator != 1 and off < Fraction(1, 10**decimals)


def _sides_agree(left: Side, right: Side, approximate: bool) -> bool:
    one, other = left.value, right.value
    if one is None or other is None or one == other:
        return True
    if not left.computed and not right.computed:
        return _no_claim(left.node, right.node) or approximate
    begins = leaves(right.node)[0]
    if right.computed and isinstance(begins, Number) and begins.value == one:
        return True  # "20 x 2 = 40 x 3 = 120" runs on
    if isinstance(right.node, Number) and agrees(one, right.node, approximate=approximate):
        return True
    if isinstance(left.node, Number) and agrees(other, left.node, approximate=approximate):
        return True
    numbers = numbers_of(left.node) + numbers_of(right.node)
    if one.denominator == other.denominator == 1 and not any(
        number.value.denominator > 1 for number in numbers
    ):
        return False  # 1250 - 540 = 711.00: nothing in it was rounded
    rounded = any(number.decimals >= 2 for number in numbers)
    return rounded and abs(one - other) <= abs(one) / 500


def _no_claim(left: Node, right: Node) -> bool:
    """``1 hour = 60 minutes`` and ``25% = 25`` claim no arithmetic; ``25% = 0.5`` does."""
    if not isinstance(left, Number) or not isinstance(right, Number) or left.percent == right.percent:
        return True
    return left.value in (right.value, right.value * 100, right.value / 100)
