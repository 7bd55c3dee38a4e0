"""Whether one equation can follow from another: common roots in one letter, a constant factor in several."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from supercorrect_agent.teachers.reference.claims import POINTS, check, units_of
from supercorrect_agent.teachers.reference.relations import Link
from supercorrect_agent.teachers.reference.trees import UNREAD, Node, Number, Unreadable, close, evaluate

_MAX_DEGREE = 4


def is_condition(link: Link) -> bool:
    """Whether a relation is an equation that some values of its letters satisfy, and not just ``x = 3``."""
    if link.sign != "=" or UNREAD in (link.one, link.other) or link.modulus is not None:
        return False
    letters = letters_of(link)
    return (
        bool(letters)
        and not letters & {"i", "e"}
        and not (units_of(link.left) or units_of(link.right))
        and assigned(link) is None
        and check(link) == "open"
    )


def letters_of(link: Link) -> frozenset[str]:
    """The letters of both sides."""
    return link.one.letters() | link.other.letters()


def assigned(link: Link) -> str | None:
    """The letter that the relation gives a value to: x of ``x = 3``."""
    if link.sign != "=" or link.other is UNREAD or link.one.kind != "letter":
        return None
    return None if link.other.letters() - {"i"} else link.one.name


def satisfies(equation: Link, values: dict[str, Number]) -> bool | None:
    """Whether values satisfy an equation, within rounding; None where that cannot be said."""
    try:
        one, other = evaluate(equation.one, values), evaluate(equation.other, values)
    except Unreadable:
        return None
    return close(one, other, tolerance=2e-2 if isinstance(one, float) or isinstance(other, float) else 1e-9)


def polynomial(equation: Link, letter: str) -> tuple[Fraction, ...] | None:
    """Left minus right as a polynomial in one letter, lowest power first; None where it is no small one."""
    values: list[Fraction] = []
    for x in range(_MAX_DEGREE + 3):
        gap = _gap(equation, {letter: Fraction(x)})
        if not isinstance(gap, Fraction):
            return None
        values.append(gap)
    differences, row = [], values
    while row:
        differences.append(row[0])
        row = [b - a for a, b in pairwise(row)]
    if any(differences[_MAX_DEGREE + 1 :]):
        return None
    return _trimmed(_newton(differences[: _MAX_DEGREE + 1]))


def common_root(one: Sequence[Fraction], other: Sequence[Fraction]) -> bool:
    """Whether two polynomials share a root, by Euclid's algorithm."""
    a, b = _trimmed(one), _trimmed(other)
    while b:
        a, b = b, _remainder(a, b)
    return len(a) > 1


def same_condition(one: Link, other: Link) -> bool | None:
    """Whether two equations in the same letters differ by a constant factor; None where that is not seen."""
    letters = sorted(letters_of(one) | letters_of(other))
    ratios: list[complex] = []
    for start, step in POINTS:
        values: dict[str, Number] = {letter: start + step * i for i, letter in enumerate(letters)}
        gaps = _gap(one, values), _gap(other, values)
        if gaps[0] is None or gaps[1] is None or abs(complex(gaps[0])) < 1e-9:
            return None
        ratios.append(complex(gaps[1]) / complex(gaps[0]))
    return all(abs(ratio - ratios[0]) <= 1e-6 * max(1.0, abs(ratios[0])) for ratio in ratios)


def is_polynomial(node: Node) -> bool:
    """Whether letters are only added, multiplied and raised to small whole powers."""
    if not node.letters():
        return node.kind != "unread"
    if node.kind == "letter":
        return True
    if node.kind == "^":
        return is_polynomial(node.parts[0]) and node.parts[1].kind == "number"
    if node.kind == "/":
        return is_polynomial(node.parts[0]) and not node.parts[1].letters()
    return node.kind in ("+", "-", "*", "neg") and all(map(is_polynomial, node.parts))


def degree(node: Node) -> int:
    """The degree of a polynomial tree, all letters together; a bound where terms cancel."""
    if node.kind == "letter":
        return 1
    degrees = [degree(part) for part in node.parts]
    if node.kind == "*":
        return sum(degrees)
    if node.kind == "^":
        return degrees[0] * min(int(node.parts[1].value), 20)
    return max(degrees, default=0)


def _gap(equation: Link, values: dict[str, Number]) -> Number | None:
    try:
        one, other = evaluate(equation.one, values), evaluate(equation.other, values)
    except Unreadable:
        return None
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one - other
    return complex(one) - complex(other)


def _newton(differences: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients from forward differences at 0, 1, 2, ..."""
    total, basis = [Fraction(0)] * len(differences), [Fraction(1)]
    for k, difference in enumerate(differences):
        for power, coefficient in enumerate(basis):
            total[power] += difference * coefficient
        shifted = [Fraction(0), *basis]
        basis = [
            (shifted[i] - k * (basis[i] if i < len(basis) else 0)) / (k + 1) for i in range(len(shifted))
        ]
    return total


def _trimmed(coefficients: Sequence[Fraction]) -> tuple[Fraction, ...]:
    end = len(coefficients)
    while end and coefficients[end - 1] == 0:
        end -= 1
    return tuple(coefficients[:end])


def _remainder(a: Sequence[Fraction], b: Sequence[Fraction]) -> tuple[Fraction, ...]:
    rest = list(a)
    while len(rest) >= len(b):
        factor, shift = rest[-1] / b[-1], len(rest) - len(b)
        for i, coefficient in enumerate(b):
            rest[i + shift] -= factor * coefficient
        rest = list(_trimmed(rest[:-1]))
    return tuple(rest)
